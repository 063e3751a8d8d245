//! Main loop of a file-system server: a [`FileSystem`] becomes a service.
//!
//! ```ignore
//! fn main() -> i32 { xinim_fs_server::run(Fat::new(..)) }
//! ```
//! VFS asks an instance it does not need any more to end (`bits::TERMINATE`); so does RS at
//! shutdown. A file system that is still mounted then writes everything first.
#![no_std]
#![forbid(unsafe_code)]

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::error_message;
use xinim_abi::ipc::Message;
use xinim_abi::object::{PAGE_SIZE, Protection};
use xinim_abi::services::fs::WINDOW_LEN;
use xinim_fs_kit::serve::Serve;
use xinim_fs_kit::{FileSystem, Window};
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::server::{Request, Server};

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

struct FsServer<F>(Serve<F, SharedWindow>);

impl<F: FileSystem> Server for FsServer<F> {
    fn call(&mut self, request: Request) -> Option<Message> {
        let answer = self.0.call(&request.message, |window, len| {
            if len < PAGE_SIZE || len > WINDOW_LEN || len % PAGE_SIZE != 0 {
                return Err(Error::Inval);
            }
            let memory = Memory::from_handle(request.handle(window))?;
            if memory.len() < len as u64 {
                return Err(Error::Inval);
            }
            let protection = Protection::READ | Protection::WRITE;
            memory.map_range(0, len as u64, protection).map(SharedWindow)
        });
        Some(answer.unwrap_or_else(error_message))
    }

    fn terminate(&mut self) -> i32 {
        match self.0.mounted() {
            true => i32::from(self.0.fs().unmount().is_err()),
            false => 0,
        }
    }
}

/// Announces the service and serves for ever.
pub fn run<F: FileSystem>(fs: F) -> ! {
    xinim_rt::server::run(&mut FsServer(Serve::new(fs)))
}
