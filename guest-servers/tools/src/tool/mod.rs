//! The tools, one file each.

pub mod echo;
pub mod kill;
pub mod printf;
pub mod test;
