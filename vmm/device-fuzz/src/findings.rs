//! What becomes of an input that breaks something: a recording, which shows it without the fuzzer.
//!
//! ```text
//!   input --> harness --panics--> NAME.rec (up to there)  NAME.input     in $XINIM_FINDINGS
//!                                    `--> xinim-vmm replay NAME.rec      panics in the same call
//!                                         ... mended ...                 identical, or: what is new
//!                                         findings/NAME.rec              replayed by the tests
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::input::Input;
use crate::stage::Stage;

/// A harness: drives devices on a stage by what an input says.
pub type Harness = fn(&Stage, &mut Input<'_>);

/// Where findings go, if not into the temporary directory.
pub const DIRECTORY: &str = "XINIM_FINDINGS";

/// What came of an input.
pub struct Played {
    /// Of all devices, up to the end or to what went wrong.
    pub recording: Vec<u8>,
    pub failure: Option<Box<dyn std::any::Any + Send>>,
}

/// Runs a harness and the stage's own judgement.
pub fn play(harness: Harness, data: &[u8]) -> std::io::Result<Played> {
    let stage = Stage::new()?;
    let judged = catch_unwind(AssertUnwindSafe(|| {
        harness(&stage, &mut Input(data));
        stage.judge();
    }));
    Ok(Played { recording: stage.recording(), failure: judged.err() })
}

/// The same for a fuzzer: a failure goes on as a panic, when it has been written down.
pub fn run(name: &str, harness: Harness, data: &[u8]) {
    // Nothing is played only where there is no memory, which aborts anyway.
    let Ok(Played { recording, failure }) = play(harness, data) else { return };
    let Some(failure) = failure else { return };
    let directory = std::env::var_os(DIRECTORY)
        .map_or_else(|| std::env::temp_dir().join("xinim-findings"), PathBuf::from);
    match save(&directory, name, data, &recording) {
        Ok(path) => eprintln!("a finding: {}", path.display()),
        Err(error) => eprintln!("a finding cannot be kept in {}: {error}", directory.display()),
    }
    resume_unwind(failure)
}

/// Of several of one name the last one stays: fuzzers make inputs smaller.
fn save(directory: &Path, name: &str, data: &[u8], recording: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(format!("{name}.input")), data)?;
    let path = directory.join(format!("{name}.rec"));
    std::fs::write(&path, recording)?;
    Ok(path)
}
