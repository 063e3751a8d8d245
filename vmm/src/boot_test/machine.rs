//! One machine: `xinim-vmm run` as a child process, its streams kept, its life bounded.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};

use super::file::TestFile;
use super::script::{self, Heard};
use crate::cli::{Cli, Command as CliCommand};
use crate::config;
use crate::error::Error;
use crate::spec::EngineChoice;
use crate::stream;

/// A machine ends by its own time-out; one that has not after this much more never will.
const GRACE: Duration = Duration::from_secs(20);
/// Between two looks at a child.
const STEP: Duration = Duration::from_millis(5);
/// Kept of each stream.
const KEPT: usize = 64 << 20;
pub const CONSOLE: &str = "console.log";
pub const TRACE: &str = "trace.txt";

/// What a machine left.
#[derive(Debug, Default)]
pub struct Left {
    /// `None`: a signal ended the process.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Why the console script failed.
    pub script: Option<String>,
    /// We ended it: the script was through, or it did not end by itself.
    pub ended_by_us: bool,
    pub hung: bool,
}

/// Arguments of the test's run, beside those that depend on where it takes place.
pub fn arguments(test: &TestFile, engine: EngineChoice) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["run".into(), "--engine".into(), engine.name().into()];
    args.push(format!("--timeout={}ms", test.timeout.0.0.as_millis()).into());
    args.push("--config-in-test".into());
    args.push("--config".into());
    args.push(test.path.clone().into());
    if let Some(commands) = &test.exec {
        args.push(format!("--exec={commands}").into());
    }
    if test.strict() {
        // It ends the run with a status of its own.
        args.push("--strict=stop".into());
    } else if test.counts_violations() {
        args.push("--strict".into());
    }
    args.extend(test.fault.iter().map(|rule| format!("--fault={rule}").into()));
    args.extend(test.options.iter().map(OsString::from));
    args
}

/// Lets the machine be read as the run will: mistakes are told with the file's name, line and key.
pub fn check(test: &TestFile, engine: EngineChoice) -> Result<(), Error> {
    let broken = |why: String| Error::Config { file: test.path.clone(), line: 1, why };
    let mut args = arguments(test, engine);
    for (index, disk) in test.disk.iter().enumerate() {
        let path = Path::new("disk").with_extension(index.to_string());
        args.push("--disk".into());
        args.push(disk_option(&path, &disk.options));
    }
    let args = std::iter::once("xinim-vmm".into()).chain(args);
    let cli = Cli::try_parse_from(args).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        broken(first.trim_start_matches("error: ").to_owned())
    })?;
    match cli.command {
        Some(CliCommand::Run(args)) => config::resolve(*args).map(|_| ()),
        _ => Err(broken("its options make something else than a run".into())),
    }
}

/// `PATH[,OPTIONS]`, commas in the path doubled.
pub fn disk_option(path: &Path, options: &str) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    if options.is_empty() { path.into() } else { format!("{path},{options}").into() }
}

/// A child to be run.
#[derive(Debug)]
pub struct Run<'a> {
    pub args: Vec<OsString>,
    pub stdin: Vec<u8>,
    /// Played on standard input and output; the machine is ended afterwards unless `waits`.
    pub script: &'a [script::Step],
    pub waits: bool,
    pub limit: Duration,
}

impl Run<'_> {
    /// Runs it to its end.
    pub fn output(self, interrupted: &AtomicBool) -> std::io::Result<Left> {
        let mut child = start(&self.args)?;
        let deadline = Instant::now() + self.limit + GRACE;
        let typed = child.stdin.take().map(OwnedFd::from).map(File::from);
        let heard = Heard::default();
        let stdout = collect(child.stdout.take().map(OwnedFd::from), heard.clone());
        let said = Heard::default();
        let stderr = collect(child.stderr.take().map(OwnedFd::from), said.clone());
        let mut left = Left::default();
        let enough = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (steps, heard, stdin) = (self.script, &heard, &self.stdin);
            let enough = &enough;
            let player = scope.spawn(move || match typed {
                Some(mut typed) if steps.is_empty() => {
                    // A guest that does not read its input closes the pipe early.
                    let _ = typed.write_all(stdin);
                    Ok(())
                }
                Some(mut typed) => {
                    let played = script::play(steps, heard, &mut typed);
                    enough.store(played.is_err() || !self.waits, Ordering::SeqCst);
                    played
                }
                None => Ok(()),
            });
            left.status = wait(&mut child, deadline, (interrupted, enough), &mut left.hung);
            // The script waits for the console, which ends now at the latest.
            join(stdout);
            left.script = player.join().unwrap_or(Ok(())).err();
        });
        join(stderr);
        left.ended_by_us = !self.script.is_empty() && !self.waits && left.script.is_none();
        (left.stdout, left.stderr) = (heard.bytes(), said.bytes());
        Ok(left)
    }
}

fn join(thread: JoinHandle<()>) {
    // It does nothing that panics.
    let _ = thread.join();
}

fn collect(from: Option<OwnedFd>, heard: Heard) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut kept = 0;
        if let Some(from) = from {
            stream::drain(from, |bytes| {
                let room = bytes.len().min(KEPT - kept);
                kept += room;
                heard.add(&bytes[..room]);
                true
            });
        }
        heard.end();
    })
}

/// The child's status. It is asked to end when there is `enough` of it, and killed when it
/// outlives its limit or we are interrupted.
fn wait(
    child: &mut Child,
    deadline: Instant,
    (interrupted, enough): (&AtomicBool, &AtomicBool),
    hung: &mut bool,
) -> Option<i32> {
    let mut asked = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Err(_) => return None,
            Ok(None) => {}
        }
        if !asked && enough.load(Ordering::SeqCst) {
            asked = true;
            // Not reaped yet, so the number is still its own.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
        if Instant::now() > deadline || interrupted.load(Ordering::SeqCst) {
            *hung = !interrupted.load(Ordering::SeqCst);
            let _ = child.kill();
            return child.wait().ok().and_then(|status| status.code());
        }
        std::thread::sleep(STEP);
    }
}

/// Starts ourselves again; the child ends with us, and gets no signal from our terminal.
#[allow(unsafe_code)]
fn start(args: &[OsString]) -> std::io::Result<Child> {
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    let prepare = || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; `prepare` makes one
    // system call and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}
