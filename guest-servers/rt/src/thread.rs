//! Further threads of this process.

use alloc::boxed::Box;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{MemoryFlags, PAGE_SIZE, Protection, SELF};

use crate::handle::OwnedHandle;
use crate::memory::Memory;
use crate::sys;

type Work = Box<dyn FnOnce() + Send>;

/// Starts a thread of `priority` that does `work` and then sleeps for ever; its stack stays. For
/// workers, which never end.
pub fn spawn(stack_len: usize, priority: u64, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let stack = Memory::create(stack_len as u64, MemoryFlags::empty())?;
    let mapping = stack.map(Protection::READ | Protection::WRITE)?;
    let top = mapping.address() + mapping.len() as u64;
    if mapping.len() < 2 * PAGE_SIZE {
        return Err(Error::Inval);
    }
    let work: Box<Work> = Box::new(Box::new(work));
    let argument = Box::into_raw(work) as u64;
    let start: extern "C" fn(*mut Work) -> ! = run;
    // As after a call: the stack pointer is 8 below a multiple of 16.
    match sys::thread_create(SELF, start as usize as u64, top - 8, argument, priority) {
        Ok(thread) => {
            // Neither is ever given back.
            let _ = OwnedHandle::from_raw(thread).into_raw();
            core::mem::forget(mapping);
            Ok(())
        }
        Err(error) => {
            // SAFETY: made by `into_raw` above, and no thread has got it.
            drop(unsafe { Box::from_raw(argument as *mut Work) });
            Err(error)
        }
    }
}

extern "C" fn run(work: *mut Work) -> ! {
    // SAFETY: `spawn` made it by `Box::into_raw` for this thread alone.
    let work = unsafe { Box::from_raw(work) };
    work();
    loop {
        sys::thread_sleep(u64::MAX);
    }
}
