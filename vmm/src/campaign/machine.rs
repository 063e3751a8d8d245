//! A machine under test: a process of this program whose guest takes commands from us, with a control socket.
//!
//! ```text
//!   commands --stdin--> `service batch` in the guest --stdout--> lines, in order
//!   faults   --control socket--> devices, processes
//! ```

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use xinim_abi::exit;
use xinim_abi::platform::{CMDLINE_HEARTBEAT, CMDLINE_RESTARTS_UNLIMITED, CMDLINE_TEXT_PRIVATE};

use super::MachineEnd;
use super::load::{self, Source};
use super::outcome::Outcome;
use super::patience::Patience;
use super::round::Struck;
use crate::cli::CampaignArgs;
use crate::ctl::client::{exchange, threads};
use crate::ctl::protocol::Request;

/// Until the guest has booted and its disk is in order.
const BOOT: Duration = Duration::from_secs(240);
/// After `quit`.
const QUIT: Duration = Duration::from_secs(10);
/// For an answer to a command.
const ANSWER: Duration = Duration::from_secs(45);
/// Of the guest; what a process that takes it all can take.
const MEMORY: &str = "128M";
/// A service that spins takes the processor until it is found: sooner than by its own heartbeat.
const HEARTBEAT_MS: u32 = 250;
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Of standard error, kept.
const STDERR_MAX: usize = 64 << 10;

/// See the module's head. Ends with its process when dropped.
pub struct Machine {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The end of its standard error, and who reads it.
    words: Words,
    stderr: Option<JoinHandle<()>>,
    directory: PathBuf,
    socket: PathBuf,
    disk: PathBuf,
    /// When the second disk is to be put back.
    out_until: Option<Instant>,
    /// Its devices reach only what their drivers were given.
    pub confined: bool,
    /// Checksum of the file, as the guest computes it.
    pub sum: String,
    pub rounds: u64,
    /// Rules whose turn has not come, and numbers of those that struck in the last round.
    pub waiting: Vec<Struck>,
    pub spent: Vec<u64>,
    /// Marks that ended rounds.
    pub marks: u64,
    /// Commands that were asked for an answer.
    questions: u64,
    /// Restarts of each service so far.
    pub restarts: Restarts,
    /// KiB in use: after the first round, after the last.
    pub memory: Option<(i64, i64)>,
}

impl Machine {
    /// Boots one and puts its disks in order. Errors are sentences.
    pub fn boot(args: &CampaignArgs, source: &Source) -> Result<Self, String> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("xinim-campaign-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let (socket, disk) = (directory.join("control"), directory.join("sda.img"));
        let made = std::fs::File::create(&disk).and_then(|file| file.set_len(4 << 20));
        made.map_err(|e| format!("{}: {e}", disk.display()))?;
        let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
        let mut command = Command::new(program);
        // The guest's log tells why a machine ended.
        command.args(["run", "-vv", "--engine", "kvm", "--net", "user,host-loopback"]);
        let words = format!(
            "{CMDLINE_TEXT_PRIVATE} {CMDLINE_RESTARTS_UNLIMITED} {CMDLINE_HEARTBEAT}{HEARTBEAT_MS}"
        );
        command.args(["--disk", "new:16M", "--cmdline", &words, "--exec"]);
        command.arg(load::program(source.port));
        command.arg("--disk").arg(format!("{},bus=ahci", disk.display()));
        command.arg("--control").arg(&socket).args(["--memory", MEMORY]);
        command.args(&args.run);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("starting a machine: {e}"))?;
        let (send, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                    if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                }
            });
        }
        let words = Words::default();
        let stderr = child.stderr.take().map(|pipe| {
            let words = words.clone();
            std::thread::spawn(move || listen(pipe, &words))
        });
        let stdin = child.stdin.take();
        let mut machine = Self {
            child,
            stdin,
            lines,
            words,
            stderr,
            directory,
            socket,
            disk,
            out_until: None,
            confined: args.run.iter().any(|option| option.starts_with("--iommu")),
            sum: String::new(),
            rounds: 0,
            waiting: Vec::new(),
            spent: Vec::new(),
            marks: 0,
            questions: 0,
            restarts: Vec::new(),
            memory: None,
        };
        machine.prepare()?;
        Ok(machine)
    }

    fn prepare(&mut self) -> Result<(), String> {
        let prepared = self.until("PREPARED", BOOT);
        let services = prepared.as_ref().and_then(|_| self.ask("list"));
        let (Some(lines), Some(services)) = (prepared, services) else {
            let _ = self.child.kill();
            self.stderr.take().map(JoinHandle::join);
            let text = self.said();
            return Err(format!("the guest did not get ready: {text}"));
        };
        self.restarts = restarts(&services).unwrap_or_default();
        let sums: Vec<&String> = lines.iter().filter(|line| line.ends_with("  -")).collect();
        match sums.as_slice() {
            [a, b] if a == b => {
                self.sum = a.trim_end_matches("  -").to_owned();
                Ok(())
            }
            _ => Err(format!("the guest's disk is not in order: {}", lines.join("; "))),
        }
    }

    /// Sends text to the guest's shell. A machine that is gone does not hear it.
    pub fn say(&mut self, text: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// The lines before the one that is, or begins with, `mark`; `None`: it did not come in time, or the
    /// machine ended.
    fn until(&mut self, mark: &str, limit: Duration) -> Option<Vec<String>> {
        let patience = self.patience(limit);
        let mut seen = Vec::new();
        loop {
            let line = self.line(&patience)?;
            if line.starts_with(mark) {
                return Some(seen);
            }
            seen.push(line);
        }
    }

    /// For so much of its time.
    pub fn patience(&self, limit: Duration) -> Patience {
        Patience::with(self.child.id(), limit)
    }

    /// The next line; `None`: it did not come in time, or the machine ended.
    pub fn line(&mut self, patience: &Patience) -> Option<String> {
        loop {
            // The line may be there already: looked for at least once.
            let left = patience.left();
            match self.lines.recv_timeout(left) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(_) => return None,
            }
        }
    }

    /// A line that has come already.
    pub fn line_there(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// What the guest answers to a command, among lines of the load; `None`: nothing.
    pub fn ask(&mut self, command: &str) -> Option<Vec<String>> {
        self.questions += 1;
        let number = self.questions;
        self.say(&format!("{command}\nmark ANSWERED {number}\n"));
        self.until(&format!("ANSWERED {number} "), ANSWER)
    }

    /// Notes how much memory is in use.
    pub fn count(&mut self) {
        let Some(used) = self.ask("counts").and_then(|lines| used_kib(&lines)) else { return };
        self.memory = Some((self.memory.map_or(used, |(first, _)| first), used));
    }

    /// Waits; puts the second disk back when its time has come.
    pub fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        if self.out_until.is_some_and(|back| back <= end) {
            self.put_back();
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    /// Puts the second disk back if it is out, at its time.
    pub fn put_back(&mut self) {
        let Some(back) = self.out_until.take() else { return };
        std::thread::sleep(back.saturating_duration_since(Instant::now()));
        self.attach();
    }

    /// Pulls the second disk out for a while; `false`: it does not come out.
    pub fn pull_out(&mut self, time: Duration) -> bool {
        let out = self.detach();
        if out {
            self.out_until = Some(Instant::now() + time);
        }
        out
    }

    /// Asks the machine for something; `None` when it refuses, or is gone.
    pub fn control(&self, request: &Request) -> Option<Value> {
        let answer = exchange(&self.socket, request).ok()?;
        (answer["ok"] == true).then_some(answer)
    }

    /// What every thread of the guest waits for, as text; empty if the machine is gone.
    pub fn threads(&self) -> String {
        self.control(&Request::Threads {}).map_or_else(String::new, |answer| threads(&answer))
    }

    /// Puts the second disk back.
    fn attach(&self) -> bool {
        let disk = format!("{},bus=ahci", self.disk.display());
        self.control(&Request::Attach { disk, port: Some(0) }).is_some()
    }

    /// Pulls the second disk out, whatever it is called by now.
    fn detach(&self) -> bool {
        let Some(info) = self.control(&Request::Info {}) else { return false };
        let disks = info["disks"].as_array();
        let mut found = disks.into_iter().flatten().filter(|disk| disk["port"] == 0);
        let name = found.next().and_then(|disk| disk["name"].as_str());
        name.is_some_and(|name| self.control(&Request::Detach { name: name.into() }).is_some())
    }

    /// Whether the process of the machine is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it said last on standard error: the guest's log, above all.
    pub fn said(&self) -> String {
        without_rules(&said(&self.words))
    }

    /// Ends it.
    pub fn finish(mut self) -> MachineEnd {
        let waiting = std::mem::take(&mut self.waiting);
        let running = self.is_running();
        if running {
            let _ = exchange(&self.socket, &Request::Quit {});
        }
        self.stdin = None;
        let end = Instant::now() + QUIT;
        while self.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let stuck = self.is_running();
        let _ = self.child.kill();
        let status = self.child.wait().ok();
        self.stderr.take().map(JoinHandle::join);
        let text = self.said();
        let outcome = match status {
            Some(status) if status.code() == Some(i32::from(exit::GUEST_DIED)) => {
                Some(Outcome::KernelCrash)
            }
            Some(status) if !stuck && status.signal().is_some() => Some(Outcome::VmmCrash),
            Some(_) if stuck => Some(Outcome::VmmCrash),
            Some(status) if matches!(status.code(), Some(101)) => Some(Outcome::VmmCrash),
            _ => None,
        };
        let leaked_kib = self.memory.map(|(first, last)| last - first);
        MachineEnd { text, leaked_kib, outcome, waiting }
    }

    /// How its process ended, in words; empty: it runs.
    pub fn ending(&mut self) -> String {
        let status = self.child.try_wait().ok().flatten();
        status.map_or_else(String::new, |status| format!("; the machine has ended, {status}"))
    }

    /// For a machine that has ended by itself: how. `None`: it runs.
    pub fn crash(&mut self) -> Option<Outcome> {
        // Its output may have closed a moment before its end.
        let end = Instant::now() + LAST_MOMENT;
        while self.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.try_wait().ok().flatten()?;
        Some(match status.code() {
            Some(code) if code == i32::from(exit::GUEST_DIED) => Outcome::KernelCrash,
            Some(101) | None => Outcome::VmmCrash,
            // The guest powered off or its shell ended: its services gave up.
            Some(_) => Outcome::FailedService,
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The counts of all rules, which come last, would leave no room for what the guest said.
fn without_rules(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("xinim-vmm: fault "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The last [`STDERR_MAX`] bytes of a stream.
type Words = Arc<Mutex<VecDeque<u8>>>;

fn listen(mut stream: impl Read, words: &Words) {
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&part[..count]);
        let more = kept.len().saturating_sub(STDERR_MAX);
        kept.drain(..more);
    }
}

fn said(words: &Words) -> String {
    let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}

/// Restarts of each service by label.
pub type Restarts = Vec<(String, u64)>;

/// Restarts of each service, from `service list`, and the label of one that is not well.
pub fn listed(lines: &[String]) -> (Restarts, Option<String>) {
    let (mut all, mut ill) = (Vec::new(), None);
    for line in lines {
        // As RS tells it: fields between tabs.
        let words: Vec<&str> = line.split('\t').collect();
        let [label, state, _, restarts, ..] = words.as_slice() else { continue };
        let Ok(restarts) = restarts.parse() else { continue };
        if matches!(*state, "failed" | "dead" | "crashed") {
            ill.get_or_insert((*label).to_owned());
        }
        all.push(((*label).to_owned(), restarts));
    }
    (all, ill)
}

/// As [`listed`], if all are well; else the label of one that is not.
pub fn restarts(lines: &[String]) -> Result<Restarts, String> {
    match listed(lines) {
        (all, None) => Ok(all),
        (_, Some(ill)) => Err(ill),
    }
}

/// KiB in use, from `counts`.
fn used_kib(lines: &[String]) -> Option<i64> {
    let line = lines.iter().find_map(|line| line.strip_prefix("counts used_kib="))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
