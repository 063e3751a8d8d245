//! XINIM pci.
#![no_std]
