//! XINIM init.
#![no_std]
