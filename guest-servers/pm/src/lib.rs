//! XINIM pm.
#![no_std]
