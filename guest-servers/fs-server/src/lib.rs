//! Main loop of a file-system server: a [`FileSystem`] becomes a service.
//!
//! ```ignore
//! fn main() -> i32 { xinim_fs_server::run(Fat::new(..)) }
//! ```
//! VFS asks an instance it does not need any more to end ([`END`]); so does RS at
//! shutdown (`bits::TERMINATE`). A file system that is still mounted then writes everything first. While it has
//! something to write back, its background gets a tick each second.
#![no_std]
#![forbid(unsafe_code)]

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::error_message;
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::{PAGE_SIZE, Protection};
use xinim_abi::services::fs::{END, WINDOW_LEN};
use xinim_fs_kit::serve::Serve;
use xinim_fs_kit::{FileSystem, Window};
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::server::{Request, Server};
use xinim_rt::{process, server, sys, time};

/// Between ticks of a file system's background.
const TICK_NS: u64 = 1_000_000_000;

/// The window that VFS shared.
pub struct SharedWindow(Mapping);

impl SharedWindow {
    pub fn new(mapping: Mapping) -> Self {
        Self(mapping)
    }
}

impl Window for SharedWindow {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        self.0.copy_out(at, out)
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.0.copy_in(at, bytes)
    }
}

struct FsServer<F, N> {
    serve: Serve<F, SharedWindow>,
    notified: N,
    /// A timer for the next tick of the background is set.
    timer: bool,
}

impl<F: FileSystem, N> FsServer<F, N> {
    /// Has a timer run out while anything is to be written back.
    fn background(&mut self, tick: bool) {
        if tick {
            self.timer = false;
        }
        if (!self.timer || tick) && self.serve.mounted() && self.serve.fs().background(tick) {
            let at = time::now_ns() + TICK_NS;
            self.timer = server::own_endpoint().is_ok_and(|own| sys::timer_set(own, at).is_ok());
        }
    }
}

impl<F: FileSystem, N: FnMut(&mut F, u64)> Server for FsServer<F, N> {
    fn call(&mut self, request: Request) -> Option<Message> {
        let answer = self.serve.call(&request.message, |window, len| {
            if !(PAGE_SIZE..=WINDOW_LEN).contains(&len) || !len.is_multiple_of(PAGE_SIZE) {
                return Err(Error::Inval);
            }
            let memory = Memory::from_handle(request.handle(window))?;
            if memory.len() < len as u64 {
                return Err(Error::Inval);
            }
            let protection = Protection::READ | Protection::WRITE;
            memory.map_range(0, len as u64, protection).map(SharedWindow)
        });
        self.background(false);
        Some(answer.unwrap_or_else(error_message))
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::TIMER != 0 {
            self.background(true);
        }
        if raised & END != 0 {
            process::exit(self.terminate());
        }
        (self.notified)(self.serve.fs(), raised);
    }

    fn terminate(&mut self) -> i32 {
        match self.serve.mounted() {
            true => i32::from(self.serve.fs().unmount().is_err()),
            false => 0,
        }
    }
}

/// Announces the service and serves for ever.
pub fn run<F: FileSystem>(fs: F) -> ! {
    run_notified(fs, |_, _| {})
}

/// As [`run`]; the file system also learns of notification bits that are not the library's.
pub fn run_notified<F: FileSystem>(fs: F, notified: impl FnMut(&mut F, u64)) -> ! {
    xinim_rt::server::run(&mut FsServer { serve: Serve::new(fs), notified, timer: false })
}
