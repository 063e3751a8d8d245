//! XINIM rs.
#![no_std]
