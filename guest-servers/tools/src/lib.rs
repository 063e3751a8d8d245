//! XINIM tools.
#![no_std]
