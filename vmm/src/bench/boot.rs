//! Time to the first guest instruction, to the prompt, and of a whole `--exec true`.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stats::milliseconds;
use super::{Bench, Figure, memory};
use crate::stats::{RunLog, now_ns};

/// What the shell's prompt ends with.
const PROMPT: &[u8] = b"# ";
/// A boot that takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(120);
/// After the prompt, services may still finish their start.
const SETTLE: Duration = Duration::from_millis(300);

impl Bench {
    /// This program on an engine, without input, quiet, and not for ever.
    pub(super) fn command(&self, engine: &str) -> Command {
        self.limited(engine, "120s")
    }

    /// As `command`, with another limit.
    pub(super) fn limited(&self, engine: &str, timeout: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["run", "--engine", engine, "--timeout", timeout]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// First guest instruction and whole run of `--exec true`.
pub fn exec_true(bench: &Bench, engine: &str) -> Result<(Figure, Value), String> {
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    let log = std::env::temp_dir().join(format!("xinim-bench-{}.json", std::process::id()));
    // One more than counted: the first run warms the page cache.
    for run in 0..=bench.runs {
        let mut command = bench.command(engine);
        command.args(["--exec", "true", "--stats"]).arg(&log);
        let begun = now_ns();
        let output = command.output().map_err(|e| format!("does not start: {e}"))?;
        let ended = now_ns();
        let stats = std::fs::read(&log).ok();
        let _ = std::fs::remove_file(&log);
        if !output.status.success() {
            return Err(failure("--exec true", &output));
        }
        let stats = stats.and_then(|text| serde_json::from_slice::<RunLog>(&text).ok());
        if run > 0 {
            whole.push(ended - begun);
            let at = stats.and_then(|stats| stats.first_instruction_ns);
            first.extend(at.map(|at| at.saturating_sub(begun)));
        }
    }
    let first = match first.is_empty() {
        true => Err("this engine cannot tell".into()),
        false => Ok(milliseconds(first)),
    };
    Ok((first, milliseconds(whole)))
}

/// Time to the shell's prompt, and memory once it is there.
pub fn prompt(bench: &Bench, engine: &str) -> (Figure, Figure) {
    let mut times = Vec::new();
    let mut memory = Err("no run reached the prompt".into());
    for _ in 0..bench.runs {
        let begun = now_ns();
        let child = bench.command(engine).args(["--console", "stdio"]).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(e) => return (Err(format!("does not start: {e}")), memory),
        };
        let seen = await_prompt(&mut child);
        if seen.is_ok() {
            times.push(now_ns() - begun);
            std::thread::sleep(SETTLE);
            memory = memory::of_machine(child.id());
        }
        // It has no more to say; whether it still runs does not matter.
        let _ = child.kill();
        let _ = child.wait();
        if let Err(why) = seen {
            return (Err(why), memory);
        }
    }
    (Ok(milliseconds(times)), memory)
}

/// Reads the console until the prompt is the last thing on it.
fn await_prompt(child: &mut Child) -> Result<(), String> {
    let mut console = child.stdout.take().ok_or("no console")?;
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    while Instant::now() < deadline {
        match console.read(&mut chunk) {
            Ok(length @ 1..) => seen.extend_from_slice(&chunk[..length]),
            _ => return Err(format!("no prompt came: {}", String::from_utf8_lossy(&seen))),
        }
        if seen.ends_with(PROMPT) {
            return Ok(());
        }
    }
    Err("no prompt came in time".into())
}

/// Status and last words of a run that failed.
pub fn failure(what: &str, output: &std::process::Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("no message");
    format!("{what}: {}: {said}", output.status)
}
