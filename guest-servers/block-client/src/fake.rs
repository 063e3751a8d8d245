//! A transport for tests: a disk in memory that completes late, out of order, or with errors.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Completion, Submission, op};

use crate::{Info, Transport};

#[derive(Debug)]
pub struct FakeDisk {
    pub disk: Vec<u8>,
    pub data: core::cell::RefCell<Vec<u8>>,
    pub info: Info,
    pub queue: VecDeque<Submission>,
    /// Sectors whose requests fail.
    pub bad: Option<u64>,
    pub seed: u64,
    pub flushes: usize,
    /// Largest number of requests seen under way.
    pub deepest: usize,
}

impl FakeDisk {
    pub fn new(sectors: u64, block_size: u32, data_len: usize, seed: u64) -> Self {
        Self {
            disk: vec![0; sectors as usize * 512],
            data: vec![0; data_len].into(),
            info: Info { sectors, block_size, read_only: false, max_bytes: 65536, depth: 8 },
            queue: VecDeque::new(),
            bad: None,
            seed,
            flushes: 0,
            deepest: 0,
        }
    }

    fn random(&mut self) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) as usize
    }

    fn execute(&mut self, request: &Submission) -> u32 {
        let (start, len) = (request.sector as usize * 512, request.len as usize);
        assert!(request.len.is_multiple_of(self.info.block_size), "whole blocks");
        assert!(request.len <= self.info.max_bytes);
        let covers =
            |bad: u64| (request.sector..request.sector + (len / 512) as u64).contains(&bad);
        if request.op != op::FLUSH && self.bad.is_some_and(covers) {
            return Error::Io as u32;
        }
        let at = request.offset as usize;
        let mut data = self.data.borrow_mut();
        match request.op {
            op::READ => data[at..at + len].copy_from_slice(&self.disk[start..start + len]),
            op::WRITE => self.disk[start..start + len].copy_from_slice(&data[at..at + len]),
            _ => self.flushes += 1,
        }
        0
    }
}

impl Transport for FakeDisk {
    fn info(&self) -> Info {
        self.info
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
        self.queue.extend(requests);
        self.deepest = self.deepest.max(self.queue.len());
        assert!(self.queue.len() <= self.info.depth as usize, "deeper than promised");
        Ok(())
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        let count = 1 + self.random() % self.queue.len().max(1);
        for _ in 0..count {
            let pick = self.random() % self.queue.len().max(1);
            let Some(request) = self.queue.remove(pick) else { break };
            let status = self.execute(&request);
            completions.push(Completion { id: request.id, status, reserved: 0 });
        }
        assert!(!completions.is_empty(), "waiting for nothing");
        Ok(())
    }
}
