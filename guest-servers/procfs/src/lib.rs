//! XINIM procfs.
#![no_std]
