//! From masks of granules to requests, and from completions back.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Completion, ENTRIES, Submission, op};

use super::line::{NO_LINE, mask, runs};
use super::{Cache, SECTOR};
use crate::Transport;

/// What the driver was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    op: u32,
    /// In data memory.
    offset: usize,
    len: usize,
}

/// Pieces of data memory to transfer, in order; neighbours have become one.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// (first byte on the device, offset in data memory, bytes).
    pub pieces: Vec<(u64, usize, usize)>,
}

impl<T: Transport> Cache<T> {
    fn request_len(&self) -> usize {
        (self.info.max_bytes as usize / self.granule).max(1) * self.granule
    }

    pub(super) fn depth(&self) -> usize {
        (self.info.depth.min(ENTRIES) as usize).max(1)
    }

    /// Adds runs of granules of a slot.
    pub(super) fn add_runs(&mut self, plan: &mut Plan, slot: usize, granules: u64) {
        let most = self.request_len();
        let line_len = self.line_len();
        let start = self.start + self.lines[slot].number * line_len as u64;
        for (first, count) in runs(granules) {
            let (mut at, end) = (first * self.granule, (first + count) * self.granule);
            if let Some((device, offset, len)) = plan.pieces.last_mut()
                && *device + *len as u64 == start + at as u64
                && *offset + *len == slot * line_len + at
                && *len < most
            {
                let part = (most - *len).min(end - at);
                *len += part;
                at += part;
                self.stats.merged += 1;
            }
            while at < end {
                let part = (end - at).min(most);
                plan.pieces.push((start + at as u64, slot * line_len + at, part));
                at += part;
            }
        }
    }

    /// Sends reads whose granules are marked as being read. Waits only for room.
    pub(super) fn submit_reads(&mut self, plan: Plan) -> Result<()> {
        self.stats.reads += plan.pieces.len() as u64;
        self.submit(op::READ, &plan.pieces)
    }

    /// Sends requests, as many at once as there is room for; waits for room.
    pub(super) fn submit(&mut self, op: u32, mut pieces: &[(u64, usize, usize)]) -> Result<()> {
        while !pieces.is_empty() {
            while self.requests.len() >= self.depth() {
                if let Err(error) = self.collect(1) {
                    self.end_pieces(op, pieces, error);
                    return Err(error);
                }
            }
            let (now, later) =
                pieces.split_at(pieces.len().min(self.depth() - self.requests.len()));
            let mut batch = Vec::with_capacity(now.len());
            for &(device, offset, len) in now {
                self.next_id += 1;
                batch.push(Submission {
                    id: self.next_id,
                    sector: device / SECTOR,
                    offset: offset as u32,
                    len: len as u32,
                    op,
                    flags: 0,
                });
            }
            if let Err(error) = self.transport.submit(&batch) {
                self.end_pieces(op, pieces, error);
                return Err(error);
            }
            for (submission, &(_, offset, len)) in batch.iter().zip(now) {
                self.requests.insert(submission.id, Request { op, offset, len });
                self.writes_under_way += usize::from(op == op::WRITE);
            }
            pieces = later;
        }
        Ok(())
    }

    /// What could not even be submitted has failed.
    fn end_pieces(&mut self, op: u32, pieces: &[(u64, usize, usize)], error: Error) {
        for &(_, offset, len) in pieces {
            self.end_transfer(Request { op, offset, len }, Some(error));
        }
    }

    /// One request without data, waited for.
    pub(super) fn command(&mut self, submission: Submission) -> Result<()> {
        while self.requests.len() >= self.depth() {
            self.collect(1)?;
        }
        self.next_id += 1;
        let id = self.next_id;
        self.transport.submit(&[Submission { id, ..submission }])?;
        self.requests.insert(id, Request { op: submission.op, offset: 0, len: 0 });
        let mut completions = Vec::new();
        loop {
            self.wait(&mut completions, 1)?;
            let own = completions.iter().find(|completion| completion.id == id).copied();
            self.take_in(&completions);
            completions.clear();
            if let Some(completion) = own {
                return status(&completion).map_or(Ok(()), Err);
            }
        }
    }

    /// Waits until about `wanted` requests are done, and takes them in.
    pub(super) fn collect(&mut self, wanted: usize) -> Result<()> {
        let mut completions = Vec::new();
        self.wait(&mut completions, wanted)?;
        self.take_in(&completions);
        Ok(())
    }

    /// Takes in what is done already.
    pub(super) fn collect_ready(&mut self) -> Result<()> {
        let mut completions = Vec::new();
        let result = self.transport.poll(&mut completions);
        self.take_in(&completions);
        result.map_err(|error| self.lose_all(error))
    }

    fn wait(&mut self, completions: &mut Vec<Completion>, wanted: usize) -> Result<()> {
        if self.requests.is_empty() {
            // Somebody waits for what is not on its way: our mistake, but no reason to hang.
            return Err(Error::Io);
        }
        let wanted = wanted.clamp(1, self.requests.len());
        self.transport.wait_for(completions, wanted).map_err(|error| self.lose_all(error))
    }

    /// The device is gone: everything under way has failed.
    fn lose_all(&mut self, error: Error) -> Error {
        self.writes_under_way = 0;
        for (_, request) in core::mem::take(&mut self.requests) {
            self.end_transfer(request, Some(error));
        }
        error
    }

    fn take_in(&mut self, completions: &[Completion]) {
        for completion in completions {
            // An unknown id is the driver's mistake and changes nothing here.
            let Some(request) = self.requests.remove(&completion.id) else { continue };
            self.writes_under_way -= usize::from(request.op == op::WRITE);
            self.end_transfer(request, status(completion));
        }
    }

    fn end_transfer(&mut self, request: Request, error: Option<Error>) {
        if request.len == 0 {
            return;
        }
        let line_len = self.line_len();
        let (mut at, end) = (request.offset, request.offset + request.len);
        while at < end {
            let slot = at / line_len;
            let stop = end.min((slot + 1) * line_len);
            let first = (at - slot * line_len) / self.granule;
            let granules = mask(first, first + (stop - at) / self.granule - 1);
            match request.op {
                op::READ => self.end_read(slot, granules, error),
                _ => self.end_write(slot, granules, error),
            }
            at = stop;
        }
    }

    fn end_read(&mut self, slot: usize, granules: u64, error: Option<Error>) {
        let line = &mut self.lines[slot];
        let granules = granules & line.reading;
        line.reading &= !granules;
        line.error = error;
        if error.is_none() {
            line.valid |= granules;
        }
    }

    fn end_write(&mut self, slot: usize, granules: u64, error: Option<Error>) {
        let line = &mut self.lines[slot];
        let granules = granules & line.writing;
        line.writing &= !granules;
        self.unflushed = true;
        if let Some(error) = error {
            debug_assert!(line.number != NO_LINE);
            line.dirty |= granules;
            line.refused = self.round;
            self.dirty.insert(line.number);
            self.failure.get_or_insert(error);
        } else {
            self.settle(slot, granules);
        }
    }
}

/// The error of a completion, if it is one. What a driver may not say counts as `Io`.
fn status(completion: &Completion) -> Option<Error> {
    if completion.status == 0 {
        return None;
    }
    let code = u16::try_from(completion.status).ok();
    Some(match code.and_then(Error::from_code) {
        Some(error @ (Error::NxIo | Error::RoFs | Error::NotSup | Error::Busy | Error::NoSpc)) => {
            error
        }
        _ => Error::Io,
    })
}
