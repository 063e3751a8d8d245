//! XINIM ramfs.
#![no_std]
