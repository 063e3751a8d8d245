//! Joins a socket that QEMU holds with the descriptors the machine was given.
//!
//! A socket is full after some 300 writes of one byte, which is how QEMU writes. Nothing is lost
//! by that as long as the guest waits for the UART's transmitter to be empty; one that does not,
//! or that ends the machine with the transmitter still full, loses bytes as on a real line.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use crate::stream;

/// Carries bytes between QEMU's socket and the outside.
#[derive(Debug)]
pub struct Bridge {
    output: JoinHandle<()>,
}

impl Bridge {
    /// Starts carrying; returns the end for QEMU.
    pub fn start(
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    ) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        if let Some(input) = input {
            let mut to_guest = ours.try_clone()?;
            // Ends with its input or with QEMU, whichever is noticed first; nobody waits for it.
            // The end of the input is not passed on: QEMU would take the whole line as hung up.
            std::thread::spawn(move || {
                stream::drain(input, |bytes| to_guest.write_all(bytes).is_ok());
            });
        }
        let thread = std::thread::spawn(move || {
            let mut output = output.map(File::from);
            stream::drain(ours.into(), |bytes| {
                if let Some(to) = &mut output
                    && stream::write_all(to, bytes).is_err()
                {
                    // Nobody reads it: go on for the guest's sake, which must not block.
                    output = None;
                }
                true
            });
        });
        Ok((Self { output: thread }, theirs))
    }

    /// Waits until everything QEMU has sent is through; QEMU must have ended.
    pub fn finish(self) {
        // A panic has been printed where it happened.
        let _ = self.output.join();
    }
}
