//! Host tests: VFS over file systems in memory.

mod crash;
mod files;
mod host;
mod messages;
mod model;
mod mounts;
mod names;
