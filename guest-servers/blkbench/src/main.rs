//! The blkbench service: see `xinim_abi::services::blkbench` for what it does.
//!
//! Like a file system under load it reaps all completions that are there, and refills the ring with
//! one submission; it asks to be woken when half of what is in flight is done.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::Message;
use xinim_abi::services::blkbench::{RESERVED, SCRATCH, SIZE_MAX, blkbench};
use xinim_abi::services::block::{ENTRIES, Submission, op};
use xinim_block_client::disk::{Disk, find};
use xinim_block_client::{Transport, names};
use xinim_rt::server::{Request, Server, answer};
use xinim_rt::time;

xinim_rt::program!(main);

/// Of the data buffers: many long requests, or all short ones.
const DATA_LEN: usize = 16 << 20;
/// Longest measurement.
const NS_MAX: u64 = 60_000_000_000;

#[derive(Default)]
struct Bench {
    disk: Option<Disk>,
}

impl Bench {
    fn open(&mut self, request: &blkbench::Open) -> Result<blkbench::Opened> {
        self.disk = None;
        let name = names::parse(request.device.as_str())?;
        if name.partition != 0 {
            return Err(Error::NoEnt);
        }
        let (label, unit) = find(name.device)?;
        let disk = self.disk.insert(Disk::open(label, unit, DATA_LEN)?);
        Ok(blkbench::Opened { sectors: disk.info().sectors, depth: disk.info().depth })
    }

    fn run(&mut self, run: &blkbench::Run) -> Result<blkbench::RunReply> {
        let disk = self.disk.as_mut().ok_or(Error::NoDev)?;
        let info = disk.info();
        let depth = run.depth as usize;
        let space = (info.sectors * 512).saturating_sub(RESERVED) / u64::from(run.size.max(1));
        let sane = matches!(run.op, op::READ | op::WRITE)
            && (info.block_size..=SIZE_MAX).contains(&run.size)
            && run.size.is_multiple_of(info.block_size)
            && (1..=ENTRIES as usize).contains(&depth)
            && depth * run.size as usize <= disk.data_len()
            && run.ns <= NS_MAX
            && space > 0;
        if !sane {
            return Err(Error::Inval);
        }
        if run.op == op::WRITE && !is_scratch(disk)? {
            return Err(Error::Perm);
        }
        let most = info.max_bytes / info.block_size * info.block_size;
        let mut load = Load::new(disk, run, most, space);
        let started = time::now_ns();
        let result = load.keep_going(started + run.ns);
        let ns = time::now_ns() - started;
        result.map(|()| blkbench::RunReply { requests: load.finished, ns, wakes: load.wakes })
    }
}

/// Whether the first sector allows to overwrite the rest.
fn is_scratch(disk: &mut Disk) -> Result<bool> {
    let len = disk.info().block_size;
    disk.submit(&[Submission { id: 1, len, ..Submission::default() }])?;
    let mut done = Vec::new();
    disk.wait(&mut done)?;
    let mut start = [0; SCRATCH.len()];
    disk.read_data(0, &mut start)?;
    Ok(done.iter().all(|done| done.status == 0) && start == *SCRATCH)
}

/// One measurement.
struct Load<'a> {
    disk: &'a mut Disk,
    op: u32,
    random: bool,
    size: u32,
    /// Longest request of the driver: longer ones go out in pieces.
    most: u32,
    /// Places on the device.
    space: u64,
    next: u64,
    state: u64,
    /// Pieces under way of each buffer.
    pieces: Vec<u32>,
    finished: u64,
    wakes: u64,
    batch: Vec<Submission>,
}

impl<'a> Load<'a> {
    fn new(disk: &'a mut Disk, run: &blkbench::Run, most: u32, space: u64) -> Self {
        Self {
            disk,
            op: run.op,
            random: run.random,
            size: run.size,
            most,
            space,
            next: 0,
            state: 0x9E37_79B9_7F4A_7C15,
            pieces: alloc::vec![0; run.depth as usize],
            finished: 0,
            wakes: 0,
            batch: Vec::new(),
        }
    }

    fn place(&mut self) -> u64 {
        if self.random {
            // xorshift64 (Marsaglia, 2003).
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            return self.state % self.space;
        }
        self.next = (self.next + 1) % self.space;
        self.next
    }

    /// Prepares the request of a buffer.
    fn fill(&mut self, buffer: usize) {
        let start = RESERVED + self.place() * u64::from(self.size);
        for at in (0..self.size).step_by(self.most as usize) {
            self.pieces[buffer] += 1;
            self.batch.push(Submission {
                // Above what `is_scratch` used, and unique while under way.
                id: (2 + buffer as u64) << 32 | u64::from(at),
                sector: (start + u64::from(at)) / 512,
                offset: buffer as u32 * self.size + at,
                len: self.most.min(self.size - at),
                op: self.op,
                flags: 0,
            });
        }
    }

    /// Keeps every buffer under way until `end`, then waits for the last.
    fn keep_going(&mut self, end: u64) -> Result<()> {
        let in_pieces = self.size.div_ceil(self.most) as usize;
        // The ring has a place for so many.
        let buffers = self.pieces.len().min(ENTRIES as usize / in_pieces).max(1);
        (0..buffers).for_each(|buffer| self.fill(buffer));
        let mut under_way = self.batch.len();
        self.disk.submit(&self.batch)?;
        let mut done = Vec::new();
        let mut result = Ok(());
        while under_way > 0 {
            done.clear();
            self.disk.wait_for(&mut done, under_way.div_ceil(2))?;
            self.wakes += 1;
            let go_on = time::now_ns() < end && result.is_ok();
            self.batch.clear();
            for completion in &done {
                under_way -= 1;
                if completion.status != 0 {
                    result = Err(Error::Io);
                }
                let buffer = (completion.id >> 32) as usize - 2;
                self.pieces[buffer] -= 1;
                if self.pieces[buffer] == 0 {
                    self.finished += 1;
                    if go_on {
                        self.fill(buffer);
                    }
                }
            }
            if !self.batch.is_empty() {
                under_way += self.batch.len();
                self.disk.submit(&self.batch)?;
            }
        }
        result
    }
}

impl Server for Bench {
    fn call(&mut self, request: Request) -> Option<Message> {
        match blkbench::Call::decode(&request.message) {
            Ok(blkbench::Call::Open(open)) => answer(self.open(&open)),
            Ok(blkbench::Call::Run(run)) => answer(self.run(&run)),
            Err(error) => answer::<blkbench::Opened>(Err(error)),
        }
    }
}

fn main() -> i32 {
    xinim_rt::server::run(&mut Bench::default())
}
