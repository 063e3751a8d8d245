//! A TAP device: frames with virtio headers to and from the host's kernel, which then does checksums
//! and segmentation for the guest.
//!
//! The device may exist (`ip tuntap add mode tap user NAME`), which lets an ordinary user open it;
//! otherwise it is made, which takes CAP_NET_ADMIN, and goes with the machine.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use xinim_abi::hw::virtio_net::{HEADER_SIZE, Header};
use xinim_devices::net::{Frame, MAX_FRAME, NetBackend, Offloads, Sent};
use zerocopy::{FromBytes, IntoBytes};

use crate::Endpoint;

const PATH: &str = "/dev/net/tun";
/// Bytes of an interface name, the final zero included.
const NAME_MAX: usize = libc::IFNAMSIZ;
/// `struct ifreq`: the name, then a union of 24 bytes.
const REQUEST: usize = 40;

/// An open TAP device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    buffer: Vec<u8>,
}

impl Tap {
    pub fn open(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.len() >= NAME_MAX || name.contains(['/', ' ', '\0', '%']) {
            return Err(format!("`{name}` cannot be the name of a network interface"));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(PATH)
            .map_err(|error| format!("TAP devices cannot be opened ({PATH}): {error}"))?;
        let mut request = [0u8; REQUEST];
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
        request[NAME_MAX..NAME_MAX + 2].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is as large as.
        let result =
            unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
        if result < 0 {
            let error = std::io::Error::last_os_error();
            return Err(match error.kind() {
                ErrorKind::PermissionDenied => format!(
                    "no permission to open TAP device {name}; make it for your user first: \
                     ip tuntap add {name} mode tap user NAME"
                ),
                ErrorKind::ResourceBusy => {
                    format!("TAP device {name} is in use by another machine")
                }
                _ => format!("TAP device {name} cannot be opened: {error}"),
            });
        }
        let mut size = HEADER_SIZE as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        let result =
            unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw mut size) };
        if result < 0 {
            let error = std::io::Error::last_os_error();
            return Err(format!("TAP device {name} takes no virtio headers: {error}"));
        }
        let mut tap = Self { file, buffer: Vec::new() };
        tap.accept(Offloads::empty());
        Ok(tap)
    }
}

impl NetBackend for Tap {
    fn send(&mut self, frame: &Frame) -> Sent {
        self.buffer.clear();
        self.buffer.extend_from_slice(frame.header.as_bytes());
        self.buffer.extend_from_slice(&frame.data);
        loop {
            return match self.file.write(&self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Later,
                // The kernel does not want this frame, or the interface is down: a lost frame.
                _ => Sent::Done,
            };
        }
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        self.buffer.resize(HEADER_SIZE + MAX_FRAME, 0);
        loop {
            let length = match self.file.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            let Some(data) = self.buffer.get(HEADER_SIZE..length) else { continue };
            let Ok((header, _)) = Header::read_from_prefix(&self.buffer) else { continue };
            frame.header = Header { num_buffers: 0, ..header };
            frame.data.clear();
            frame.data.extend_from_slice(data);
            return true;
        }
    }

    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn accept(&mut self, offloads: Offloads) {
        let mut flags = 0;
        if offloads.contains(Offloads::CHECKSUM) {
            flags |= libc::TUN_F_CSUM;
            for (offload, flag) in
                [(Offloads::TSO4, libc::TUN_F_TSO4), (Offloads::TSO6, libc::TUN_F_TSO6)]
            {
                if offloads.contains(offload) {
                    flags |= flag;
                }
            }
        }
        // SAFETY: TUNSETOFFLOAD takes its argument by value. A kernel that cannot do it gives
        // finished frames, which are right in any case.
        let _ = unsafe {
            libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(flags))
        };
    }
}

impl Endpoint for Tap {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
