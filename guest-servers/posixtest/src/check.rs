//! What checks are made of.

use alloc::format;
use alloc::string::String;
use core::fmt::Debug;

use xinim_abi::error::Result;
use xinim_rt::fs::{self, File, flags};

use crate::World;

/// Nothing, or what is wrong.
pub type Check = core::result::Result<(), String>;
/// Name, whether it needs a full file system, what it does.
pub type Entry = (&'static str, bool, fn(&World) -> Check);

/// The value, or the error with what was tried.
pub trait Must<T> {
    fn must(self, what: &str) -> core::result::Result<T, String>;
}

impl<T> Must<T> for Result<T> {
    fn must(self, what: &str) -> core::result::Result<T, String> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

pub fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Check {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} is {found:?}, not {expected:?}"))
}

pub const NEW: u32 = flags::READ_WRITE | flags::CREATE;

/// A new file with this content.
pub fn make(path: &str, content: &[u8]) -> core::result::Result<(), String> {
    let file = File::open(path, NEW | flags::TRUNCATE, 0o666).must(path)?;
    file.write_all(content).must(path)?;
    file.close().must(path)
}

pub fn open(path: &str, how: u32) -> core::result::Result<File, String> {
    File::open(path, how, 0o666).must(path)
}

pub fn content(path: &str) -> core::result::Result<alloc::vec::Vec<u8>, String> {
    fs::read_to_end(path).must(path)
}
