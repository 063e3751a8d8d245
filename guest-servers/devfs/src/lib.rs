//! XINIM devfs.
#![no_std]
