//! Run-time library of XINIM programs.
#![no_std]
