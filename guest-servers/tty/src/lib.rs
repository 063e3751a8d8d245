//! XINIM tty.
#![no_std]
