//! A transport for tests: a disk in memory that completes late, out of order, or with errors, and
//! whose write cache may be lost.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Completion, Submission, op};

use crate::{Info, Limits, Transport};

/// What discarded blocks read as.
pub const DISCARDED: u8 = 0xDD;

/// A write that a power cut may lose.
#[derive(Debug)]
struct Volatile {
    /// Counts completed writes.
    number: usize,
    start: usize,
    data: Vec<u8>,
}

#[derive(Debug)]
pub struct FakeDisk {
    /// As the host sees it now.
    pub disk: Vec<u8>,
    /// As a power cut leaves it, at the least.
    durable: Vec<u8>,
    volatile: Vec<Volatile>,
    completed_writes: usize,
    pub data: core::cell::RefCell<Vec<u8>>,
    pub info: Info,
    pub limits: Limits,
    /// Requests, and for a FLUSH how many writes were completed before it.
    queue: VecDeque<(Submission, usize)>,
    /// Sectors whose requests fail.
    pub bad: Option<u64>,
    /// Requests done before the device is torn away.
    pub budget: Option<usize>,
    pub seed: u64,
    pub flushes: usize,
    pub bytes_read: usize,
    /// Sectors of the writes, as submitted.
    pub submitted: Vec<u64>,
    /// Largest number of requests seen under way.
    pub deepest: usize,
    pub plugged: (u32, u32),
}

impl FakeDisk {
    pub fn new(sectors: u64, block_size: u32, data_len: usize, seed: u64) -> Self {
        Self {
            disk: vec![0; sectors as usize * 512],
            durable: vec![0; sectors as usize * 512],
            volatile: Vec::new(),
            completed_writes: 0,
            data: vec![0; data_len].into(),
            info: Info { sectors, block_size, read_only: false, max_bytes: 65536, depth: 8 },
            limits: Limits { max_discard: 16384, ..Limits::default() },
            queue: VecDeque::new(),
            bad: None,
            budget: None,
            seed,
            flushes: 0,
            bytes_read: 0,
            submitted: Vec::new(),
            deepest: 0,
            plugged: (1, 1),
        }
    }

    fn random(&mut self) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) as usize
    }

    fn execute(&mut self, request: &Submission, before: usize) -> u32 {
        let (start, len) = (request.sector as usize * 512, request.len as usize);
        assert!(request.len.is_multiple_of(self.info.block_size), "whole blocks");
        assert!(request.len <= self.info.max_bytes);
        let covers =
            |bad: u64| (request.sector..request.sector + (len / 512) as u64).contains(&bad);
        if request.op != op::FLUSH && self.bad.is_some_and(covers) {
            return Error::Io as u32;
        }
        let at = request.offset as usize;
        match request.op {
            op::READ => {
                self.data.borrow_mut()[at..at + len]
                    .copy_from_slice(&self.disk[start..start + len]);
                self.bytes_read += len;
            }
            op::WRITE => {
                let data = self.data.borrow()[at..at + len].to_vec();
                self.write(start, data);
            }
            op::DISCARD => {
                assert!(request.len <= self.limits.max_discard);
                self.write(start, vec![DISCARDED; len]);
            }
            _ => {
                self.flushes += 1;
                let volatile = core::mem::take(&mut self.volatile);
                for write in volatile {
                    if write.number < before {
                        let end = write.start + write.data.len();
                        self.durable[write.start..end].copy_from_slice(&write.data);
                    } else {
                        self.volatile.push(write);
                    }
                }
            }
        }
        0
    }

    fn write(&mut self, start: usize, data: Vec<u8>) {
        self.disk[start..start + data.len()].copy_from_slice(&data);
        self.volatile.push(Volatile { number: self.completed_writes, start, data });
        self.completed_writes += 1;
    }

    /// What stands on the medium after a power cut: of each volatile write any sectors or none, in
    /// any order; of those still queued as well.
    pub fn cut(mut self) -> Vec<u8> {
        while let Some((request, _)) = self.queue.pop_front() {
            if request.op == op::WRITE && !self.random().is_multiple_of(3) {
                self.execute(&request, 0);
            }
        }
        let mut pieces = Vec::new();
        for write in core::mem::take(&mut self.volatile) {
            for (at, sector) in write.data.chunks(512).enumerate() {
                pieces.push((write.start + at * 512, sector.to_vec()));
            }
        }
        while !pieces.is_empty() {
            let pick = self.random() % pieces.len();
            let (start, sector) = pieces.swap_remove(pick);
            if !self.random().is_multiple_of(2) {
                self.durable[start..start + sector.len()].copy_from_slice(&sector);
            }
        }
        self.durable
    }
}

impl Transport for FakeDisk {
    fn info(&self) -> Info {
        self.info
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn plugged(&self) -> (u32, u32) {
        self.plugged
    }

    fn data_len(&self) -> usize {
        self.data.borrow().len()
    }

    fn read_data(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.data.borrow()[offset..offset + out.len()]);
        Ok(())
    }

    fn write_data(&self, offset: usize, data: &[u8]) -> Result<()> {
        self.data.borrow_mut()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn submit(&mut self, requests: &[Submission]) -> Result<()> {
        if self.budget == Some(0) {
            return Err(Error::NxIo);
        }
        let before = self.completed_writes;
        self.queue.extend(requests.iter().map(|request| (*request, before)));
        let writes = requests.iter().filter(|request| request.op == op::WRITE);
        self.submitted.extend(writes.map(|request| request.sector));
        self.deepest = self.deepest.max(self.queue.len());
        assert!(self.queue.len() <= self.info.depth as usize, "deeper than promised");
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        match self.queue.is_empty() || self.random().is_multiple_of(2) {
            true => Ok(()),
            false => self.wait(completions),
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        assert!(!self.queue.is_empty(), "waiting for nothing");
        let count = 1 + self.random() % self.queue.len();
        for _ in 0..count {
            if self.budget == Some(0) {
                break;
            }
            let pick = self.random() % self.queue.len().max(1);
            let Some((request, before)) = self.queue.remove(pick) else { break };
            let status = self.execute(&request, before);
            completions.push(Completion { id: request.id, status, reserved: 0 });
            self.budget = self.budget.map(|left| left - 1);
        }
        match completions.is_empty() {
            true => Err(Error::NxIo),
            false => Ok(()),
        }
    }
}
