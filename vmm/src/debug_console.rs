//! The guest's debug console (port 0xE9): the kernel's panic report and, if asked for, its log.
//! Kept for the moment the guest dies; shown live with `-v`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use crate::{stream, terminal};

/// A panic report is some hundred bytes; this also holds the log that led to it.
const KEPT: usize = 64 * 1024;

/// Reads the debug console of one run.
#[derive(Debug)]
pub struct DebugConsole {
    thread: JoinHandle<Vec<u8>>,
}

impl DebugConsole {
    /// Returns the reader and the machine's end.
    pub fn start(live: bool) -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let thread = std::thread::spawn(move || {
            let mut kept = VecDeque::new();
            let mut stderr = stream::standard(rustix::stdio::stderr()).ok().filter(|_| live);
            stream::drain(reader.into(), |bytes| {
                kept.extend(bytes);
                kept.drain(..kept.len().saturating_sub(KEPT));
                if let Some(to) = &mut stderr
                    && stream::write_all(to, &terminal::for_stderr(bytes)).is_err()
                {
                    stderr = None;
                }
                true
            });
            kept.into()
        });
        Ok((Self { thread }, writer.into()))
    }

    /// The last bytes written, after the machine has closed its end.
    pub fn finish(self) -> Vec<u8> {
        self.thread.join().unwrap_or_default()
    }
}
