//! Kernel state outside objects: statics of `Cell`s.
//!
//! All of it is touched only while the kernel lock is held (or before there is anybody else), so
//! shared references to cells are enough and no `&mut` ever aliases.

use core::ops::Deref;

/// A static guarded by the kernel lock.
#[repr(transparent)]
pub struct Global<T>(T);

// SAFETY: the kernel lock is taken at every entry into the kernel and released at its end, so two
// CPUs never touch the value at the same time; interrupts are off inside.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Global<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
