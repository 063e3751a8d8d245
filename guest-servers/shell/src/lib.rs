//! XINIM shell.
#![no_std]
