//! `xinim-vmm test`: boot tests for CI.
//!
//! ```text
//! file.rs      one TOML file               -> TestFile      (sentences with file, line and key)
//! select.rs    files x engines x repeats   -> cases         (filter, shard)
//! disks.rs     disks made and read by a XINIM of our own
//! machine.rs   one `xinim-vmm run` as a child process, its streams kept
//! script.rs    the console script (expect / send)
//! judge.rs     what came out               -> reasons to fail
//! trace.rs     assertions on the device trace
//! report.rs    JUnit XML and JSON          progress.rs    the terminal
//! ```
//!
//! Each case has a scratch directory and a process of its own: a guest, a VMM or a test that goes
//! wrong takes nothing else along.
//!
//! Exit status: 0 all passed; 1 a test failed; 125 nothing failed but something could not be run
//! (usage, test file, kernel or disk file, engine): what `git bisect run` takes as good, bad and
//! skip; 130 interrupted.

mod case;
mod disks;
mod expect;
mod file;
mod judge;
mod machine;
mod progress;
mod report;
mod rings;
mod script;
mod select;
#[cfg(test)]
mod tests;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xinim_abi::exit;

use crate::cli::TestArgs;
use crate::error::Error;
use crate::output;
use case::{Bench, CaseResult, Ending};
use progress::Progress;
use report::Summary;
use select::Case;

/// A test failed.
const FAILED: u8 = 1;

/// Runs the tests; returns the exit status.
pub fn run(args: &TestArgs) -> Result<u8, Error> {
    let cases = select::cases(args)?;
    if args.list {
        let names: Vec<String> = cases.iter().map(Case::name).collect();
        let lines = || names.iter().map(|name| format!("{name}\n")).collect();
        output::either(args.json, || &names, lines)?;
        return Ok(0);
    }
    // Reports are made first: a path that cannot be written is found out before the work.
    for path in [&args.junit, &args.report].into_iter().flatten() {
        std::fs::write(path, "").map_err(|e| Error::file("write", path, e))?;
    }
    if let Some(dir) = &args.keep {
        std::fs::create_dir_all(dir).map_err(|e| Error::file("create the directory", dir, e))?;
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, interrupted.clone())
            .map_err(|e| Error::Usage(format!("cannot watch signals: {e}")))?;
    }
    let bench = Bench::new(args.keep.clone(), interrupted.clone())?;
    let start = Instant::now();
    let results = run_all(&cases, args, &bench);
    let summary = Summary::new(results, bench.machines(), start.elapsed());
    write_reports(args, &summary)?;
    output::print(&if args.json { summary.json() + "\n" } else { summary.to_string() })?;
    Ok(match () {
        () if interrupted.load(Ordering::SeqCst) => exit::INTERRUPTED,
        () if summary.failed() > 0 => FAILED,
        () if summary.not_run() > 0 => exit::VMM_FAILED,
        () => 0,
    })
}

/// As many at a time as `--jobs` says; results in the order of the cases.
fn run_all(cases: &[Case], args: &TestArgs, bench: &Bench) -> Vec<CaseResult> {
    let available = std::thread::available_parallelism().map_or(1, |n| n.get());
    let jobs = args.jobs.map_or(available, |jobs| jobs as usize).min(cases.len()).max(1);
    let progress = Progress::start(cases, jobs);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<CaseResult>>> = Mutex::new(cases.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(case) = cases.get(index) else { return };
                    if bench.interrupted() {
                        return;
                    }
                    progress.begin(index);
                    let result = bench.run(case);
                    progress.end(index, &result);
                    let mut slots = results.lock().unwrap_or_else(PoisonError::into_inner);
                    slots[index] = Some(result);
                }
            });
        }
    });
    progress.finish();
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let missing = |case: &Case| {
        CaseResult::new(case, Ending::NotRun("it was interrupted before its turn".into()))
    };
    results
        .into_iter()
        .zip(cases)
        .map(|(result, case)| result.unwrap_or_else(|| missing(case)))
        .collect()
}

fn write_reports(args: &TestArgs, summary: &Summary) -> Result<(), Error> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => std::fs::write(path, text()).map_err(|e| Error::file("write", path, e)),
        None => Ok(()),
    };
    write(&args.junit, &|| summary.junit())?;
    write(&args.report, &|| summary.json() + "\n")
}

/// A file's name without directory and `.toml`.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
