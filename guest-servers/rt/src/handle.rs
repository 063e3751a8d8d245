//! Handles that close themselves.

use xinim_abi::error::Result;
use xinim_abi::object::{Handle, Rights};

use crate::sys;

/// A handle this process owns; closed on drop.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct OwnedHandle(Handle);

impl OwnedHandle {
    /// Takes over a handle number, say one that a system call or message gave.
    pub fn from_raw(handle: Handle) -> Self {
        Self(handle)
    }

    pub fn raw(&self) -> Handle {
        self.0
    }

    /// Gives the number up; nobody closes it any more.
    pub fn into_raw(self) -> Handle {
        let handle = self.0;
        core::mem::forget(self);
        handle
    }

    /// A duplicate with at most these rights; see `syscall::HANDLE_MINT` for the badge.
    pub fn mint(&self, rights: Rights, badge: u64) -> Result<OwnedHandle> {
        sys::handle_mint(self.0, rights.bits(), badge).map(OwnedHandle)
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        // Fails only for a number that is not ours; there is nothing to do about it here.
        let _ = sys::handle_close(self.0);
    }
}
