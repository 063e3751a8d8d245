//! Tools around file systems: making, checking, exercising. One program of many names, as
//! `xinim-tools`; it stands apart because it carries the formats.
//!
//! | name | |
//! |---|---|
//! | `blkdiscard` | gives blocks of a device back to it
//! | `blkid` | types, labels and UUIDs of file systems and partitions |
//! | `fdisk -l` | partition tables |
//! | `fsck.minix`, `fsck.fat` | check and repair one |
//! | `fsbench` | what a file system does in a second |
//! | `fsdurable` | steps whose durability is known, for tests that take the power away |
//! | `iostat` | what block devices do |
//! | `lsblk` | block devices as a tree |
//! | `mkfs.minix`, `mkfs.fat` | make a MINIX or FAT file system |
//! | `mkfs.ext2`, `mkfs.ext3`, `mkfs.ext4` | make an ext file system |
//! | `fsck.ext2`, `fsck.ext3`, `fsck.ext4` | check one, replay its journal, repair what can be computed |
//! | `fstest` | exercises whatever is mounted at a directory |
//!
//! Devices are opened as files (`/dev/vda1`), so image files will do as well.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod blkdiscard;
mod blkid;
mod common;
mod device;
#[cfg(test)]
mod disk_tests;
mod durable;
mod exercise;
mod ext;
mod fat;
mod fdisk;
mod fsbench;
mod iostat;
mod lsblk;
mod minix;
#[cfg(test)]
mod tests;

pub use device::Device;

use alloc::string::String;

use xinim_os::Os;
use xinim_tools::{Context, Tool};

const TOOLS: &[(&str, Tool)] = &[
    ("blkdiscard", blkdiscard::run),
    ("blkid", blkid::run),
    ("fdisk", fdisk::run),
    ("fsck.ext2", ext::fsck),
    ("fsck.ext3", ext::fsck),
    ("fsck.ext4", ext::fsck),
    ("fsck.fat", fat::fsck),
    ("fsck.minix", minix::fsck),
    ("fsbench", fsbench::run),
    ("fsdurable", durable::run),
    ("fstest", exercise::fstest),
    ("iostat", iostat::run),
    ("lsblk", lsblk::run),
    ("mkfs.ext2", ext::mkfs2),
    ("mkfs.ext3", ext::mkfs3),
    ("mkfs.ext4", ext::mkfs4),
    ("mkfs.fat", fat::mkfs),
    ("mkfs.minix", minix::mkfs),
];

pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}

/// Runs the tool that `args[0]` names: its status, or `None` if there is none of that name.
pub fn run(os: &dyn Os, args: &[String], env: &[String]) -> Option<i32> {
    let (name, args) = args.split_first()?;
    let name = xinim_os::base_name(name);
    let (_, tool) = TOOLS.iter().find(|(own, _)| *own == name)?;
    let mut context = Context::new(os, name, args, env);
    let status = tool(&mut context);
    Some(context.finish(status))
}
