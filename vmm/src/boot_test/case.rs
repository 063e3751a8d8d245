//! A case from its scratch directory to its result.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::disks::Images;
use super::judge;
use super::machine::{self, CONSOLE, Left, Run, TRACE, disk_option};
use super::select::Case;
use crate::error::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Passed,
    /// One sentence for each thing that was not as expected.
    Failed(Vec<String>),
    /// Nothing is known of what the test tests: the machine could not be built, an engine is
    /// missing, a disk could not be made.
    NotRun(String),
}

#[derive(Clone, Debug)]
pub struct CaseResult {
    pub name: String,
    pub file: PathBuf,
    pub description: String,
    pub engine: &'static str,
    pub ending: Ending,
    pub took: Duration,
    /// Of the machine's process.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub console: Vec<u8>,
    /// Where its files are, if they were kept.
    pub kept: Option<PathBuf>,
}

impl CaseResult {
    pub fn new(case: &Case, ending: Ending) -> Self {
        Self {
            name: case.name(),
            file: case.test.path.clone(),
            description: case.test.description.trim().to_owned(),
            engine: case.engine_name(),
            ending,
            took: Duration::ZERO,
            status: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            console: Vec::new(),
            kept: None,
        }
    }
}

/// What all cases share.
#[derive(Debug)]
pub struct Bench {
    scratch: TempDir,
    keep: Option<PathBuf>,
    interrupted: Arc<AtomicBool>,
    machines: AtomicUsize,
    images: Images,
}

impl Bench {
    pub fn new(keep: Option<PathBuf>, interrupted: Arc<AtomicBool>) -> Result<Self, Error> {
        let scratch = tempfile::Builder::new().prefix("xinim-test-").tempdir();
        let scratch =
            scratch.map_err(|e| Error::file("create a directory in", &std::env::temp_dir(), e))?;
        let (machines, images) = (AtomicUsize::new(0), Images::default());
        Ok(Self { scratch, keep, interrupted, machines, images })
    }

    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Machines booted so far.
    pub fn machines(&self) -> usize {
        self.machines.load(Ordering::SeqCst)
    }

    /// Runs one machine.
    pub fn boot(&self, run: Run<'_>) -> Result<Left, String> {
        self.machines.fetch_add(1, Ordering::SeqCst);
        run.output(&self.interrupted).map_err(|error| format!("xinim-vmm does not start: {error}"))
    }

    /// Runs a case.
    pub fn run(&self, case: &Case) -> CaseResult {
        let start = Instant::now();
        let mut result = CaseResult::new(case, Ending::Passed);
        let directory = tempfile::Builder::new().prefix("case-").tempdir_in(self.scratch());
        match directory {
            Ok(directory) => {
                let ending = self.run_in(case, directory.path(), &mut result);
                result.ending = ending.unwrap_or_else(Ending::NotRun);
                result.took = start.elapsed();
                if result.ending != Ending::Passed && !self.interrupted() {
                    self.keep(&mut result, directory.path());
                }
            }
            Err(error) => {
                result.ending =
                    Ending::NotRun(format!("it could not get a scratch directory: {error}"));
            }
        }
        result
    }

    fn run_in(
        &self,
        case: &Case,
        directory: &Path,
        result: &mut CaseResult,
    ) -> Result<Ending, String> {
        let (test, engine) = (&*case.test, case.engine_name());
        let mut args = machine::arguments(test, case.engine);
        let mut images = Vec::new();
        for (index, disk) in test.disk.iter().enumerate() {
            // The name's end says the format (`.qcow2`).
            let extension = disk.from.as_ref().and_then(|from| from.extension());
            let extension = extension.map_or("img".into(), |name| name.to_string_lossy());
            let name = disk.name(index).replace('/', "_");
            let image = directory.join(format!("{name}.{extension}"));
            self.images.copy(self, engine, disk, &image)?;
            args.push("--disk".into());
            args.push(disk_option(&image, &disk.options));
            images.push(image);
        }
        let trace = directory.join(TRACE);
        let traced = test.reads_trace() || test.keep_trace.unwrap_or(self.keep.is_some());
        // Only our own devices are traced; an assertion on another engine's is refused by it.
        if traced && (test.reads_trace() || engine == "kvm") {
            args.push("--trace".into());
            args.push(trace.clone().into());
        }
        let console = directory.join(CONSOLE);
        let on_console = test.exec.is_none();
        args.push("--console".into());
        args.push(if on_console {
            "stdio".into()
        } else {
            let mut option = OsString::from("file:");
            option.push(&console);
            option
        });
        let stdin = match (&test.stdin, &test.stdin_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(path)) => std::fs::read(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            (None, None) => Vec::new(),
        };
        let waits = test.expect.status.is_some();
        let limit = test.timeout.0.0;
        let left = self.boot(Run { args, stdin, script: &test.console, waits, limit })?;
        result.status = left.status;
        result.console = match on_console {
            true => left.stdout.clone(),
            false => std::fs::read(&console).unwrap_or_default(),
        };
        if !on_console {
            result.stdout = left.stdout.clone();
        }
        result.stderr = left.stderr.clone();
        if self.interrupted() {
            return Err("it was interrupted".into());
        }
        let scene = judge::Scene { case, directory, images: &images, left: &left };
        judge::judge(self, &scene, result, &trace)
    }

    /// Saves a failed case's directory, and what it said beside it.
    fn keep(&self, result: &mut CaseResult, directory: &Path) {
        let Some(keep) = &self.keep else { return };
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = result.name.chars().map(safe).collect();
        let to = keep.join(name.trim_matches('_'));
        let save = || -> std::io::Result<()> {
            if to.exists() {
                std::fs::remove_dir_all(&to)?;
            }
            std::fs::create_dir_all(&to)?;
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
            std::fs::write(to.join(CONSOLE), &result.console)?;
            std::fs::write(to.join("stdout.txt"), &result.stdout)?;
            std::fs::write(to.join("stderr.txt"), &result.stderr)
        };
        match save() {
            Ok(()) => result.kept = Some(to),
            Err(error) => {
                let sentence = format!("its files could not be kept in {}: {error}", to.display());
                match &mut result.ending {
                    Ending::Failed(reasons) => reasons.push(sentence),
                    Ending::NotRun(why) => why.push_str(&format!("; {sentence}")),
                    Ending::Passed => {}
                }
            }
        }
    }
}
