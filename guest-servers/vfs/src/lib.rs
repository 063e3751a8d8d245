//! XINIM vfs.
#![no_std]
