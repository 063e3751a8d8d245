//! The front of `xinim-vmm`: command line and configuration, the host's side of `--exec`, the
//! terminal, the embedded system image, the QEMU engine, `doctor` and `bench`.
//!
//! A run goes: [`cli`] and [`config`] make a [`config::RunConfig`]; [`run`] turns it into an
//! engine and a [`xinim_machine::MachineSpec`], connects the machine's byte streams to the
//! outside and makes an exit status of how it ended. Nothing in here knows how a guest
//! instruction is executed.
#![deny(unsafe_code)]

pub mod bench;
pub mod boot_test;
pub mod campaign;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod cores;
pub mod cpio;
pub mod ctl;
pub mod debug_console;
pub mod disk_spec;
pub mod doctor;
pub mod dry_run;
pub mod engine;
pub mod error;
pub mod exec;
pub mod explain;
pub mod gdb;
pub mod image;
pub mod kernel;
pub mod manual;
pub mod net_spec;
pub mod output;
pub mod replay;
pub mod run;
pub mod sandbox;
pub mod spec;
pub mod stats;
pub mod stream;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod top;
pub mod trace_spec;
pub mod tracing;
pub mod verdict;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;
use xinim_abi::exit;

use cli::{Cli, Command, ImageCommand};
use error::Error;

/// The whole program: parses `args` (the program's name first), does what they say, prints what
/// went wrong, and returns the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing helps if the help cannot be printed.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ => exit::VMM_FAILED,
            };
        }
    };
    command(cli).unwrap_or_else(|error| {
        eprintln!("xinim-vmm: {error}");
        error.status()
    })
}

fn command(cli: Cli) -> Result<u8, Error> {
    match cli.command {
        None => run::run(cli.run),
        Some(Command::Run(args)) => run::run(*args),
        Some(Command::Doctor(args)) => doctor::doctor(&args),
        Some(Command::Image { command: ImageCommand::Extract { dir } }) => {
            image::extract(&dir).map(|()| 0)
        }
        Some(Command::Image { command: ImageCommand::List { json } }) => {
            image::list(json).map(|()| 0)
        }
        Some(Command::Ctl(args)) => ctl::client::run(&args),
        Some(Command::Replay(args)) => replay::replay(&args),
        Some(Command::Explain(args)) => explain::explain(&args),
        Some(Command::Trace { command }) => tracing::run(&command),
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Bench(args)) => bench::bench(&args),
        Some(Command::Core(args)) => cores::core(&args),
        Some(Command::Gdb(args)) => gdb::gdb(&args),
        Some(Command::Completions { shell }) => manual::completions(shell),
        Some(Command::Man { dir }) => manual::pages(&dir),
        Some(Command::Test(args)) => boot_test::run(&args),
        Some(Command::Campaign(args)) => campaign::campaign(&args),
        Some(Command::Qtest { options }) => xinim_qtest::serve(&options)
            .map(|()| 0)
            .map_err(|error| Error::Usage(error.to_string())),
    }
}
