//! Requests of a disk that fail, are late, get lost, are carried out twice, overtake each other, or
//! come back wrong.
//!
//! ```text
//!   device --submit--> [error: not carried out; corrupt write: second half cut off] --> back end
//!   device <---poll--- [delay, drop, reorder, stick: held; corrupt read: a bit flipped;
//!                       duplicate: submitted once more] <-- back end
//! ```
//! A completion that is held or lost still counts as in flight. A reset of the device
//! ([`BlockBackend::cancel`]) ends it with ECANCELED, as a real controller forgets its commands.

use super::function::DELAY;
use super::later::What;
use super::plan::{Hit, STUCK, Site};
use super::rule::{Action, Operation, Point};
use crate::backend::block::{self, BackendError, BlockBackend, BlockInfo, Completion, Request};
use crate::dma::{Dma, Segment};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A request that will not end as the back end says.
struct Marked {
    hit: Hit,
    request: Request,
}

struct Held {
    completion: Completion,
    /// `None`: never.
    at: Option<Duration>,
    /// The next completion frees it.
    overtaken: bool,
}

/// A disk with faults.
pub struct FaultDisk<B> {
    inner: B,
    site: Site,
    dma: Arc<dyn Dma>,
    marked: Vec<Marked>,
    held: Vec<Held>,
    /// Completions of our own, or free again.
    ready: VecDeque<Completion>,
}

impl<B: BlockBackend> FaultDisk<B> {
    /// `dma`: the memory that the back end's data lie in.
    pub fn new(inner: B, site: Site, dma: Arc<dyn Dma>) -> Self {
        let (marked, held, ready) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { inner, site, dma, marked, held, ready }
    }

    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn now(&self) -> Duration {
        self.site.faults.clock.monotonic()
    }

    fn is_stuck(&self) -> bool {
        let faults = &self.site.faults;
        faults.watches(STUCK) && faults.stuck(&self.site.names, &What::Requests).is_some()
    }

    /// What the back end has finished, after its fault.
    fn finished(&mut self, completion: Completion) -> Option<Completion> {
        let place = self.marked.iter().position(|m| m.request.tag == completion.tag);
        let Some(Marked { hit, request }) = place.map(|at| self.marked.swap_remove(at)) else {
            return Some(completion);
        };
        let now = self.now();
        let wait = |time: Option<Duration>| now + time.unwrap_or(DELAY);
        let (at, overtaken) = match hit.action {
            Action::Delay => (Some(wait(hit.time)), false),
            Action::Reorder => (Some(wait(hit.time)), true),
            Action::Drop | Action::Stick => (None, false),
            Action::Duplicate => {
                let dma = self.dma.clone();
                self.inner.submit(request, &*dma);
                self.inner.start();
                return None;
            }
            Action::Corrupt if request.operation == block::Operation::Read => {
                flip(&*self.dma, &request.segments, hit.random % (8 * request.length.max(1)));
                return Some(completion);
            }
            _ => return Some(completion),
        };
        self.held.push(Held { completion, at, overtaken });
        if let Some(at) = at {
            self.site.wake(at);
        }
        None
    }

    /// Moves what is due from the held ones.
    fn free(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = self.now();
        let mut index = 0;
        while index < self.held.len() {
            if self.held[index].at.is_some_and(|at| at <= now) {
                let held = self.held.remove(index);
                self.ready.push_back(held.completion);
            } else {
                index += 1;
            }
        }
    }

    /// A request has passed those that wait to be overtaken.
    fn overtake(&mut self) {
        let (over, stay): (Vec<_>, Vec<_>) = self.held.drain(..).partition(|h| h.overtaken);
        self.held = stay;
        self.ready.extend(over.into_iter().map(|held| held.completion));
    }
}

fn operation(operation: block::Operation) -> Operation {
    match operation {
        block::Operation::Read => Operation::Read,
        block::Operation::Write { .. } => Operation::Write,
        block::Operation::Flush => Operation::Flush,
        block::Operation::Discard => Operation::Discard,
        block::Operation::WriteZeroes { .. } => Operation::Zeroes,
    }
}

/// Flips the `bit`th bit of the data at these segments.
fn flip(dma: &dyn Dma, segments: &[Segment], bit: u64) {
    let mut at = bit / 8;
    for segment in segments {
        let length = u64::from(segment.length);
        if at < length {
            let mut byte = [0];
            let address = segment.address.wrapping_add(at);
            // A segment that is no RAM has failed the request already.
            if dma.read(address, &mut byte).is_ok() {
                let _ = dma.write(address, &[byte[0] ^ 1 << (bit % 8)]);
            }
            return;
        }
        at -= length;
    }
}

/// The first half of a write, in whole blocks; maybe nothing.
fn first_half(request: &Request, block: u32) -> Request {
    let half = request.length / 2 / u64::from(block.max(1)) * u64::from(block);
    let mut left = half;
    let mut segments = Vec::new();
    for segment in &request.segments {
        let take = left.min(u64::from(segment.length));
        if take > 0 {
            segments.push(Segment { length: take as u32, ..*segment });
        }
        left -= take;
    }
    Request { length: half, segments, ..request.clone() }
}

impl<B: BlockBackend> BlockBackend for FaultDisk<B> {
    fn info(&self) -> BlockInfo {
        self.inner.info()
    }

    fn submit(&mut self, request: Request, dma: &dyn Dma) {
        let point = Point::Request {
            operation: operation(request.operation),
            sector: request.offset / 512,
            length: request.length,
        };
        let Some(hit) = self.site.decide(&point) else {
            return self.inner.submit(request, dma);
        };
        let write = matches!(request.operation, block::Operation::Write { .. });
        match hit.action {
            Action::Error => {
                let result = Err(BackendError { errno: hit.errno });
                self.ready.push_back(Completion { tag: request.tag, result });
            }
            Action::Corrupt if write => {
                let torn = first_half(&request, self.inner.info().logical_block);
                if torn.length == 0 {
                    self.ready.push_back(Completion { tag: request.tag, result: Ok(()) });
                } else {
                    self.inner.submit(torn, dma);
                }
            }
            action => {
                if action == Action::Stick {
                    self.site.faults.stick(&self.site, What::Requests, &hit);
                }
                // One that sticks comes back with all others.
                if action != Action::Stick {
                    self.marked.push(Marked { hit, request: request.clone() });
                }
                self.inner.submit(request, dma);
            }
        }
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn poll(&mut self) -> Option<Completion> {
        if self.is_stuck() {
            return None;
        }
        self.free();
        if let Some(completion) = self.ready.pop_front() {
            return Some(completion);
        }
        while let Some(completion) = self.inner.poll() {
            if let Some(completion) = self.finished(completion) {
                self.overtake();
                return Some(completion);
            }
        }
        None
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len() + self.ready.len()
    }

    fn cancel(&mut self) {
        self.site.faults.free(&self.site.names, &What::Requests);
        // What they were to suffer is over; the data may come as they are.
        self.marked.clear();
        for held in self.held.drain(..) {
            let result = Err(BackendError::CANCELLED);
            self.ready.push_back(Completion { tag: held.completion.tag, result });
        }
        self.inner.cancel();
    }
}
