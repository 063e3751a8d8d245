//! Received frames into the driver's buffers (5.1.6.4).

use super::{BACKLOG, BATCH, HEADER_SIZE, Net};
use crate::net::Frame;
use crate::trace::EventKind;
use crate::virtio::{Chain, Context, Progress, Queue, RingError};
use std::collections::VecDeque;
use xinim_abi::hw::virtio_net::{feature, rx_queue};
use zerocopy::IntoBytes;

/// Receive state of a queue pair.
#[derive(Debug, Default)]
pub struct Pair {
    backlog: VecDeque<Frame>,
    /// Buffers taken for a frame that needs more.
    held: Vec<Chain>,
    room: u64,
}

impl Net {
    /// Moves frames from the back end to the pairs and into their buffers.
    pub(super) fn receive(
        &mut self,
        queues: &mut [Queue],
        context: &Context<'_>,
    ) -> Result<Progress, (u16, RingError)> {
        let mut left = BATCH;
        loop {
            let more = self.fetch(&mut left);
            let mut freed = false;
            for pair in 0..self.pairs.len() {
                let index = rx_queue(pair as u16);
                let Some(queue) = queues.get_mut(usize::from(index)) else { continue };
                freed |= self.deliver(pair, queue, context).map_err(|error| (index, error))?;
            }
            if left == 0 {
                return Ok(if more { Progress::More } else { Progress::Idle });
            }
            // Room was made for a frame that waited: there may be more behind it.
            if !(freed && more) {
                return Ok(Progress::Idle);
            }
        }
    }

    /// Takes frames from the back end as long as there is room for them; returns whether it
    /// stopped for another reason than that there are none.
    fn fetch(&mut self, left: &mut usize) -> bool {
        if !self.running {
            return false;
        }
        while *left > 0 {
            let next = self.waiting.take().or_else(|| {
                let frame = self.port.receive()?;
                let wanted = self.link && self.filter.passes(&frame.data);
                *left -= 1;
                let pair = self.steering.pair(&frame.data);
                Some((if wanted { pair } else { usize::MAX }, frame))
            });
            let Some((pair, frame)) = next else { return false };
            if pair == usize::MAX {
                continue;
            }
            let pair = if pair < self.active { pair } else { 0 };
            if self.pairs[pair].backlog.len() >= BACKLOG {
                self.waiting = Some((pair, frame));
                return true;
            }
            self.pairs[pair].backlog.push_back(frame);
        }
        true
    }

    /// Fills the driver's buffers of one queue; returns whether any frame left the backlog.
    fn deliver(
        &mut self,
        pair: usize,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<bool, RingError> {
        if !queue.is_live() || self.pairs[pair].backlog.is_empty() {
            return Ok(false);
        }
        let mergeable = self.has(feature::MRG_RXBUF);
        let Pair { backlog, held, room } = &mut self.pairs[pair];
        let mut moved = false;
        queue.quiet(context)?;
        while let Some(frame) = backlog.front() {
            let needed = (HEADER_SIZE + frame.data.len()) as u64;
            let wanted = if mergeable { needed } else { 1 };
            if *room < wanted {
                if held.len() >= usize::from(queue.max_size()) {
                    // All buffers there can be are too few for it.
                    backlog.pop_front();
                    moved = true;
                    continue;
                }
                match queue.pop(context)? {
                    Some(chain) => {
                        *room += chain.writable().len();
                        held.push(chain);
                        continue;
                    }
                    None if queue.rearm(context)? => continue,
                    None => return Ok(moved),
                }
            }
            moved = true;
            let Some(frame) = backlog.pop_front() else { break };
            if *room >= needed {
                store(queue, context, held, &frame)?;
                *room = held.iter().map(|chain| chain.writable().len()).sum();
                let length = frame.data.len() as u32;
                context.tracer.emit_with(context.origin, &frame.data, || EventKind::Frame {
                    sent: false,
                    length,
                });
            }
        }
        queue.rearm(context)?;
        Ok(moved)
    }
}

/// Writes a frame over as many of the chains as it needs and gives those back, all at once: a
/// driver that sees the first must find the others.
fn store(
    queue: &mut Queue,
    context: &Context<'_>,
    held: &mut Vec<Chain>,
    frame: &Frame,
) -> Result<(), RingError> {
    let mut left = (HEADER_SIZE + frame.data.len()) as u64;
    let mut count = 0;
    for chain in held.iter() {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(chain.writable().len());
        count += 1;
    }
    let mut header = frame.header;
    header.num_buffers = count as u16;
    let mut head = header.as_bytes();
    let mut data = &frame.data[..];
    let mut used = Vec::with_capacity(count);
    for chain in held.drain(..count) {
        let mut place = chain.writable();
        let context = &context.of(queue.index(), chain.head);
        let first = place.write(context, head)?;
        head = &head[first..];
        let then = if head.is_empty() { place.write(context, data)? } else { 0 };
        data = &data[then..];
        used.push((chain.head, (first + then) as u32));
    }
    queue.push_all(context, &used)
}
