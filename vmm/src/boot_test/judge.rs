//! What came out of a case, against what its test expects.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use xinim_abi::exit;

use super::case::{Bench, CaseResult, Ending};
use super::disks;
use super::expect::Expected;
use super::file::FileCheck;
use super::machine::Left;
use super::select::Case;
use super::trace;

/// Where the case took place and what its machine left.
#[derive(Debug)]
pub struct Scene<'a> {
    pub case: &'a Case,
    pub directory: &'a Path,
    /// Of the made disks.
    pub images: &'a [PathBuf],
    pub left: &'a Left,
}

/// Passed or failed; an error says why neither can be told.
pub fn judge(
    bench: &Bench,
    scene: &Scene<'_>,
    result: &CaseResult,
    trace: &Path,
) -> Result<Ending, String> {
    let (test, left) = (&*scene.case.test, scene.left);
    let expected = i32::from(test.expect.status.unwrap_or(0));
    let mut reasons = Vec::new();
    match left.status {
        Some(status) if status != expected => {
            if status == i32::from(exit::VMM_FAILED) || status == i32::from(exit::NO_ENGINE) {
                return Err(sentence(&left.stderr));
            }
            // A script that is through ends the machine itself, by a signal.
            if !(left.ended_by_us && status == i32::from(exit::INTERRUPTED))
                && left.script.is_none()
            {
                reasons.push(status_reason(status, expected, test.timeout.0.0));
            }
        }
        None if left.hung => reasons.push(format!(
            "the machine did not end within its time limit of {:?}, nor when asked to",
            test.timeout.0.0
        )),
        None => reasons.push("xinim-vmm was killed by a signal: this is a defect of it".into()),
        Some(_) => {}
    }
    if let Some(why) = &left.script {
        match left.status {
            // Its own end comes first: the script failed because of it.
            Some(status) if status == i32::from(exit::TIMEOUT) => {
                reasons.push(format!("{why} (time limit {:?})", test.timeout.0.0));
            }
            _ => reasons.push(why.clone()),
        }
        if left.status == Some(i32::from(exit::GUEST_DIED)) {
            reasons.push("the guest died".into());
        }
    }
    let stream = |expected: &Option<Expected>, what: &str, bytes: &[u8]| match expected {
        Some(expected) => expected.judge(what, bytes),
        None => Vec::new(),
    };
    reasons.extend(stream(&test.expect.stdout, "standard output", &result.stdout));
    reasons.extend(stream(&test.expect.stderr, "standard error", &result.stderr));
    reasons.extend(stream(&test.expect.console, "the console", &result.console));
    // After a failure the files and the trace would only say the same again, at length.
    if reasons.is_empty() {
        reasons.extend(files(bench, scene)?);
        reasons.extend(assertions(scene, trace)?);
    }
    Ok(if reasons.is_empty() { Ending::Passed } else { Ending::Failed(reasons) })
}

fn status_reason(status: i32, expected: i32, limit: std::time::Duration) -> String {
    let meaning = match u8::try_from(status).unwrap_or(0) {
        exit::TIMEOUT => format!(" (the time limit of {limit:?})"),
        exit::GUEST_DIED => " (the guest died)".into(),
        exit::INTERRUPTED => " (interrupted)".into(),
        exit::STRICT => " (a driver broke a rule of its device's specification)".into(),
        _ => String::new(),
    };
    format!("status {status}{meaning}, expected {expected}")
}

/// What the VMM says, without its name in front.
fn sentence(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().rfind(|line| line.starts_with("xinim-vmm: ")).unwrap_or(text.trim());
    last.trim_start_matches("xinim-vmm: ").to_owned()
}

fn files(bench: &Bench, scene: &Scene<'_>) -> Result<Vec<String>, String> {
    let (test, mut reasons) = (&*scene.case.test, Vec::new());
    for check in test.file.iter().filter(|check| check.disk.is_none()) {
        let path = scene.directory.join(&check.path);
        compare(check, &check.path, std::fs::read(path).ok().as_deref(), &mut reasons);
    }
    for (index, disk) in test.disk.iter().enumerate() {
        let name = disk.name(index);
        let on_it = |check: &&FileCheck| check.disk.as_ref() == Some(&name);
        let checks: Vec<&FileCheck> = test.file.iter().filter(on_it).collect();
        if checks.is_empty() {
            continue;
        }
        let engine = scene.case.engine_name();
        let image = (&*scene.images[index], &*disk.options);
        match disks::read(bench, engine, image, &checks) {
            Ok(contents) => {
                for (check, content) in checks.into_iter().zip(contents) {
                    let what = format!("{} on {name}", check.path);
                    compare(check, &what, content.as_deref(), &mut reasons);
                }
            }
            // The guest left it so.
            Err(why) => reasons.push(format!("{name}: {why}")),
        }
    }
    Ok(reasons)
}

fn compare(check: &FileCheck, what: &str, content: Option<&[u8]>, reasons: &mut Vec<String>) {
    match (content, &check.content) {
        (Some(_), _) if check.absent => reasons.push(format!("{what} is there")),
        (None, Some(_)) => reasons.push(format!("{what} is not there")),
        (Some(bytes), Some(expected)) => reasons.extend(expected.judge(what, bytes)),
        _ => {}
    }
}

fn assertions(scene: &Scene<'_>, trace: &Path) -> Result<Vec<String>, String> {
    let test = &*scene.case.test;
    let mut reasons = Vec::new();
    if test.reads_trace() {
        let assertions: Vec<_> = test.trace.iter().map(|assertion| &assertion.0).collect();
        let file = File::open(trace).map_err(|e| format!("it left no trace: {e}"))?;
        reasons.extend(trace::judge(&assertions, BufReader::new(file))?);
    }
    Ok(reasons)
}
