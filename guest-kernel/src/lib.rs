//! Pure logic of the kernel.
#![no_std]
