//! Image files as the tests want them: with faults, delays, and a machine that stops at errors.
//!
//! ```text
//!   submit --> break point?  --> waits for `resume`
//!          --> delay, limit? --> waits for its time
//!          --> fault?        --> ends with the error, or waits for `cont`
//!          --> carried out
//! ```
//! Whatever waits counts as begun: a device that is reset waits for it. Host I/O is synchronous,
//! which is all right for a server of one test at a time.

use crate::Error;
use crate::args::DriveArgs;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xinim_devices::backend::{
    BackendError, BlockBackend, BlockInfo, Completion, Disk, Operation, Request, carry_out,
};
use xinim_devices::bus::lock;
use xinim_devices::dma::Dma;

/// So much time's worth of a limit may be written in one go; then bytes come one after the other.
const BURST: Duration = Duration::from_secs(1);

/// A rule of blkdebug: an error at an event, in a state, possibly once; or a change of state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    event: String,
    /// 0: in any state.
    state: u32,
    errno: i32,
    once: bool,
    /// `set-state` rules.
    new_state: Option<u32>,
    used: bool,
}

/// Where the bytes are.
enum Store {
    File(File),
    /// Nothing is kept.
    Blank,
}

/// One image.
pub struct Image {
    store: Store,
    info: BlockInfo,
    memory: Arc<dyn Dma>,
    rules: Vec<Rule>,
    state: u32,
    stop_on_error: bool,
    read_delay: Duration,
    write_limit: Option<u64>,
    /// Until when written bytes are paid for.
    paid: Instant,
    /// Break points: (event, tag).
    breaks: Vec<(String, String)>,
    suspended: Vec<(String, Request)>,
    timed: Vec<(Instant, Request)>,
    stopped: Vec<Request>,
    /// The machine is to stop.
    stop: bool,
    done: VecDeque<Completion>,
}

/// An image in the hands of a device and of the server.
#[derive(Clone)]
pub struct Handle(pub Arc<Mutex<Image>>);

impl Handle {
    pub fn open(args: &DriveArgs, memory: Arc<dyn Dma>) -> Result<Self, Error> {
        if args.qcow2 {
            let text = "qcow2 images are not supported: let the test use raw ones";
            return Err(Error::Arguments(text.to_owned()));
        }
        let (store, length) = match (&args.path, args.blank) {
            (_, Some(length)) => (Store::Blank, length),
            (Some(path), None) => {
                let failed = || Error::host(format!("opening {path}"));
                let mut options = OpenOptions::new();
                options.read(true).write(!args.read_only);
                let file = options.open(path).map_err(failed())?;
                let length = file.metadata().map_err(failed())?.len();
                (Store::File(file), length)
            }
            (None, None) => return Err(Error::Arguments(format!("drive {} is empty", args.id))),
        };
        // What is behind the last whole sector does not count.
        let info = BlockInfo {
            read_only: args.read_only,
            discard: true,
            ..BlockInfo::new(length / 512 * 512)
        };
        Ok(Self(Arc::new(Mutex::new(Image {
            store,
            info,
            memory,
            rules: args.faults.as_deref().map(rules).unwrap_or_default(),
            state: 1,
            stop_on_error: args.stop_on_error,
            read_delay: Duration::from_nanos(args.read_delay_ns),
            write_limit: args.write_limit.filter(|limit| *limit > 0),
            paid: Instant::now().checked_sub(BURST).unwrap_or_else(Instant::now),
            breaks: Vec::new(),
            suspended: Vec::new(),
            timed: Vec::new(),
            stopped: Vec::new(),
            stop: false,
            done: VecDeque::new(),
        }))))
    }

    /// Another medium of the same kind, for the parts of a command line that came later.
    pub fn set_read_delay(&self, delay_ns: u64) {
        lock(&self.0).read_delay = Duration::from_nanos(delay_ns);
    }
}

/// blkdebug's configuration: sections of `key = "value"` lines.
fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            rules.push(Rule { errno: 5, ..Rule::default() });
            continue;
        }
        let Some(rule) = rules.last_mut() else { continue };
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        let number = value.parse().unwrap_or(0);
        match key.trim() {
            "event" => rule.event = value.to_owned(),
            "state" => rule.state = number,
            "errno" => rule.errno = number as i32,
            "once" => rule.once = value == "on",
            "new_state" => rule.new_state = Some(number),
            _ => {}
        }
    }
    rules
}

/// blkdebug's name for what a request does.
fn event(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read_aio",
        Operation::Write { .. } | Operation::WriteZeroes { .. } => "write_aio",
        Operation::Flush => "flush_to_disk",
        Operation::Discard => "discard",
    }
}

impl Image {
    /// `break EVENT TAG`, `resume TAG`.
    pub fn set_break(&mut self, event: &str, tag: &str) {
        self.breaks.push((event.to_owned(), tag.to_owned()));
    }

    pub fn resume(&mut self, tag: &str) {
        let (now, later) =
            std::mem::take(&mut self.suspended).into_iter().partition(|(name, _)| name == tag);
        self.suspended = later;
        let now: Vec<(String, Request)> = now;
        for (_, request) in now {
            self.attempt(request);
        }
    }

    /// The machine goes on: what stopped it is tried again.
    pub fn go_on(&mut self) {
        for request in std::mem::take(&mut self.stopped) {
            self.attempt(request);
        }
    }

    /// Whether the machine is to stop; told once.
    pub fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.stop)
    }

    /// When something is due.
    pub fn next_time(&self) -> Option<Instant> {
        self.timed.iter().map(|(time, _)| *time).min()
    }

    /// Carries out what is due; whether the device has completions to fetch.
    pub fn run(&mut self) -> bool {
        let now = Instant::now();
        let (due, later) =
            std::mem::take(&mut self.timed).into_iter().partition(|(time, _)| *time <= now);
        self.timed = later;
        let due: Vec<(Instant, Request)> = due;
        for (_, request) in due {
            self.attempt(request);
        }
        !self.done.is_empty()
    }

    /// Changes the length, for `block_resize`.
    pub fn resize(&mut self, length: u64) -> std::io::Result<()> {
        if let Store::File(file) = &self.store {
            file.set_len(length)?;
        }
        self.info.length = length / 512 * 512;
        Ok(())
    }

    fn accept(&mut self, request: Request) {
        let name = event(request.operation);
        if let Some(index) = self.breaks.iter().position(|(event, _)| event == name) {
            let (_, tag) = self.breaks.remove(index);
            self.suspended.push((tag, request));
            return;
        }
        let mut time = Instant::now();
        if request.operation == Operation::Read {
            time += self.read_delay;
        }
        if let (Operation::Write { .. }, Some(limit)) = (request.operation, self.write_limit) {
            let start = self.paid.max(time.checked_sub(BURST).unwrap_or(time));
            self.paid = start + Duration::from_secs_f64(request.length as f64 / limit as f64);
            time = time.max(self.paid);
        }
        if time > Instant::now() {
            self.timed.push((time, request));
        } else {
            self.attempt(request);
        }
    }

    fn attempt(&mut self, request: Request) {
        let result = match self.fault(event(request.operation)) {
            Some(_) if self.stop_on_error => {
                self.stop = true;
                self.stopped.push(request);
                return;
            }
            Some(errno) => Err(BackendError { errno }),
            None => {
                let memory = self.memory.clone();
                carry_out(self, &request, &*memory)
            }
        };
        self.done.push_back(Completion { tag: request.tag, result });
    }

    /// The error that a rule has for this event now. Rules look at the state before it changes.
    fn fault(&mut self, event: &str) -> Option<i32> {
        let state = self.state;
        let mut errno = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.event == event) {
            let applies = rule.state == 0 || rule.state == state;
            if let (Some(new), true) = (rule.new_state, applies) {
                self.state = new;
            } else if rule.new_state.is_none() && applies && !(rule.once && rule.used) {
                rule.used = true;
                errno = Some(rule.errno);
            }
        }
        errno
    }
}

fn failed(error: std::io::Error) -> BackendError {
    BackendError { errno: error.raw_os_error().unwrap_or(0) }
}

impl Disk for Image {
    fn info(&self) -> BlockInfo {
        self.info
    }

    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError> {
        match &self.store {
            Store::File(file) => file.read_exact_at(data, offset).map_err(failed),
            Store::Blank => {
                data.fill(0);
                Ok(())
            }
        }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError> {
        match &self.store {
            Store::File(file) => file.write_all_at(data, offset).map_err(failed),
            Store::Blank => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        match &self.store {
            Store::File(file) => file.sync_data().map_err(failed),
            Store::Blank => Ok(()),
        }
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<(), BackendError> {
        self.write_zeroes(offset, length, true)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, _unmap: bool) -> Result<(), BackendError> {
        let zeros = [0; 64 << 10];
        let mut at = offset;
        while at < offset + length {
            let take = (offset + length - at).min(zeros.len() as u64);
            self.write_at(at, &zeros[..take as usize])?;
            at += take;
        }
        Ok(())
    }
}

impl BlockBackend for Handle {
    fn info(&self) -> BlockInfo {
        lock(&self.0).info
    }

    fn submit(&mut self, request: Request, _dma: &dyn Dma) {
        lock(&self.0).accept(request);
    }

    fn poll(&mut self) -> Option<Completion> {
        lock(&self.0).done.pop_front()
    }

    fn in_flight(&self) -> usize {
        let image = lock(&self.0);
        let waiting = image.suspended.len() + image.timed.len() + image.stopped.len();
        waiting + image.done.len()
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
