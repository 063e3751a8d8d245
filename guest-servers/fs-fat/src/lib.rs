//! XINIM fs-fat.
#![no_std]
