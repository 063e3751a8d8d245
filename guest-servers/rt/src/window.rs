//! This process's window: memory it shares with VFS, the process manager and character devices,
//! through which paths and data travel.

use spin::{Mutex, MutexGuard, Once};
use xinim_abi::error::Result;
use xinim_abi::object::{MemoryFlags, Protection, Rights};

use crate::handle::OwnedHandle;
use crate::memory::{Mapping, Memory};

/// Bytes of the window, and so of one read or write.
pub const LEN: usize = 128 * 1024;

#[derive(Debug)]
pub struct Window {
    memory: Memory,
    mapping: Mapping,
}

static WINDOW: Once<Mutex<Window>> = Once::new();

/// The window, made at first use. Held while a request that uses it is under way.
pub fn lock() -> Result<MutexGuard<'static, Window>> {
    let window = WINDOW.try_call_once(|| {
        let memory = Memory::create(LEN as u64, MemoryFlags::empty())?;
        let mapping = memory.map(Protection::READ | Protection::WRITE)?;
        Ok(Mutex::new(Window { memory, mapping }))
    })?;
    Ok(window.lock())
}

impl Window {
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// A handle to send to a server.
    pub fn share(&self) -> Result<OwnedHandle> {
        self.memory.handle().mint(Rights::READ | Rights::WRITE | Rights::TRANSFER, 0)
    }
}
