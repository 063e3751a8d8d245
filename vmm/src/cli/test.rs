//! `xinim-vmm test`.

use std::path::PathBuf;

use clap::Args;

pub const AFTER_HELP: &str = "\
The keys of a test file are in docs/boot-tests.md.

Exit status:
  0       all tests passed
  1       a test failed
  125     no test failed, but something could not be run: usage, a broken test file, a kernel or
          disk file, a missing engine. `git bisect run` skips such a commit
  130     interrupted by a signal";

#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Test files, or directories searched for *.toml
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Machines at a time [default: as many as this host has processors]
    #[arg(long, short = 'j', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,

    /// Only cases whose name contains TEXT; repeatable: all of them
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,

    /// Only every N-th case, beginning with the I-th (1 to N): a share for each of N CI jobs
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,

    /// Run each case N times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub repeat: u32,

    /// Print the cases' names and run nothing
    #[arg(long)]
    pub list: bool,

    /// Keep console, trace, output and disks of each case that did not pass in a directory below DIR
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Write the results to FILE as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Write the results to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Print the results, or with --list the names, as JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Share `index` (from 1) of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u32,
    pub of: u32,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err("must be I/N with I from 1 to N, as in 2/5".into()),
        }
    }
}
