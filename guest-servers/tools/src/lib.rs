//! XINIM's command-line tools: one program of many names, as its last path component says.
//!
//! All of it is pure: system calls go through [`xinim_os::Os`]. `main.rs` connects the tools to
//! XINIM and adds those that look at the system from below (`breakout`, `ipcbench`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod context;
mod format;
mod options;
mod table;
mod tool;

pub use context::{Context, USAGE};
pub use format::human_size;
pub use options::{Options, parse_size};
pub use table::{Tool, find, names};
pub use tool::simple::parse_seconds;
pub use tool::{echo, kill, printf, test};

use alloc::string::String;
use xinim_os::Os;

/// Permission bits after a change as `chmod` has it. `None`: it is none.
pub fn mode_change(text: &str, old: u32) -> Option<u32> {
    tool::mode_change(text, old)
}

/// Runs the tool that `args[0]` names: its status, or `None` if there is none of that name.
pub fn run(os: &dyn Os, args: &[String], env: &[String]) -> Option<i32> {
    let (name, args) = args.split_first()?;
    let name = xinim_os::base_name(name);
    let run = find(name)?;
    let mut context = Context::new(os, name, args, env);
    let status = run(&mut context);
    Some(context.finish(status))
}
