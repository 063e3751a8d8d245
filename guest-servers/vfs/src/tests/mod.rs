//! Host tests: VFS over file systems in memory.

mod crash;
mod files;
mod host;
mod locks;
mod losses;
mod messages;
mod model;
mod mounts;
mod names;
mod parallel;
mod permissions;
mod survival;
mod waiting;
