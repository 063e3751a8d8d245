//! Service interfaces, one file each.
