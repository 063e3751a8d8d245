//! XINIM log.
#![no_std]
