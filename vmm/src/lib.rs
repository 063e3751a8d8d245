//! The front of the XINIM virtual machine monitor.
