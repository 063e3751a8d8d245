//! The engine that runs a XINIM machine on Linux KVM.

mod acpi;
mod layout;
mod memory;
mod pvh;
#[cfg(test)]
mod testing;
