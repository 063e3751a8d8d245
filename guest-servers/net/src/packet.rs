//! Packet sockets: an interface's frames as they go by, for captures, and frames to be sent as they
//! are.
//!
//! A received datagram is a 16-byte head (time in ns since the machine started, length of the whole
//! frame, 1 if it went out) and the frame; its address has the interface's number as `scope`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::{Address, poll};
use zerocopy::{FromBytes, IntoBytes};

use crate::port::Captured;
use crate::socket::Incoming;
use crate::stack::Net;

/// Bytes of frames kept for one socket; what comes beyond is lost and counted.
const KEPT_MAX: usize = 1 << 20;
const HEAD: usize = 16;

pub struct Packet {
    /// Positions count from 1; 0: all interfaces.
    interface: usize,
    kept: VecDeque<(usize, Vec<u8>)>,
    bytes: usize,
    pub lost: u64,
}

fn scope(interface: usize) -> Vec<u8> {
    let scope = (interface as u32 + 1).to_be_bytes();
    Address { scope, ..Address::default() }.as_bytes().to_vec()
}

impl Packet {
    pub fn new() -> Self {
        Self { interface: 0, kept: VecDeque::new(), bytes: 0, lost: 0 }
    }

    pub fn bind(&mut self, net: &Net, bytes: &[u8]) -> Result<()> {
        let address = Address::read_from_bytes(bytes).map_err(|_| Error::Inval)?;
        let interface = u32::from_be_bytes(address.scope) as usize;
        if interface > net.interfaces.len() {
            return Err(Error::NoDev);
        }
        self.interface = interface;
        Ok(())
    }

    pub fn wants(&self, interface: usize) -> bool {
        self.interface == 0 || self.interface == interface + 1
    }

    pub fn take(&mut self, interface: usize, captured: &Captured) {
        if self.bytes + captured.frame.len() > KEPT_MAX {
            self.lost += 1;
            return;
        }
        let mut data = Vec::with_capacity(HEAD + captured.frame.len());
        let ns = captured.at.total_micros() as u64 * 1000;
        data.extend_from_slice(&ns.to_le_bytes());
        data.extend_from_slice(&(captured.frame.len() as u32).to_le_bytes());
        data.extend_from_slice(&u32::from(captured.outgoing).to_le_bytes());
        data.extend_from_slice(&captured.frame);
        self.bytes += captured.frame.len();
        self.kept.push_back((interface, data));
    }

    pub fn receive(&mut self, out: &mut [u8]) -> Result<Incoming> {
        let (interface, data) = self.kept.pop_front().ok_or(Error::Again)?;
        self.bytes -= data.len() - HEAD;
        let count = data.len().min(out.len());
        out[..count].copy_from_slice(&data[..count]);
        Ok(Incoming { count, full: data.len(), from: scope(interface) })
    }

    pub fn send(&mut self, net: &mut Net, frame: &[u8]) -> Result<usize> {
        let interface = self.interface.checked_sub(1).ok_or(Error::DestAddrReq)?;
        let now = net.now;
        let port = &mut net.interfaces.get_mut(interface).ok_or(Error::NoDev)?.port;
        if !port.is_ethernet() || frame.len() < 14 {
            return Err(Error::Inval);
        }
        if frame.len() > port.mtu() as usize + 18 {
            return Err(Error::MsgSize);
        }
        if port.inject(frame, now) { Ok(frame.len()) } else { Err(Error::Again) }
    }

    pub fn ready(&self) -> u32 {
        if self.kept.is_empty() { poll::OUT } else { poll::IN | poll::OUT }
    }
}
