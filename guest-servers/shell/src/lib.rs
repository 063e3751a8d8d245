//! The XINIM shell: a POSIX-like command language without `fork`.
//!
//! ```text
//! text -> parse -> syntax tree -> Shell (expand, redirect, spawn) -> status
//! ```
//! Everything here is pure: system calls go through [`xinim_os::Os`], so the same code runs on a
//! development host and is compared there with other shells. `main.rs` connects it to XINIM.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arith;
pub mod ast;
mod builtin;
mod command_line;
mod edit;
mod expand;
mod files;
mod glob;
mod interactive;
mod jobs;
pub mod parse;
mod redirect;
mod shell;
mod simple;
mod spawn;
pub mod unparse;
mod vars;

pub use command_line::run;
pub use shell::{Shell, Unwind};
