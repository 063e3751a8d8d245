//! Waiting pipe requests: bytes move from writers' windows into pipes and on into readers' windows,
//! and whoever has what it asked for is answered.

use alloc::vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::services::vfs::vfs as api;
use xinim_fs_kit::Window;

use crate::pipe::{Pipe, PipeId, Waiter};
use crate::vfs::{Host, Vfs};

/// Bytes moved between a window and a pipe at once.
const HOP: usize = 16 * 1024;

impl<H: Host> Vfs<H> {
    /// Answers every waiting pipe request that can be answered.
    pub(crate) fn pump_all(&mut self) {
        while let Some(id) = self.touched.pop() {
            if let Some(pipe) = self.pipes.get_mut(id) {
                for opening in pipe.opened() {
                    let answer = api::Opened { fd: opening.fd }.encode();
                    self.answer(opening.pid, opening.token, answer);
                }
                while self.pump(id) {}
            }
            self.wake_polls(id);
            self.drop_pipe_if_unused(id);
        }
    }

    /// One step; false when nothing moves any more.
    fn pump(&mut self, id: PipeId) -> bool {
        self.pump_writer(id) | self.pump_reader(id)
    }

    fn pump_writer(&mut self, id: PipeId) -> bool {
        let Some(pipe) = self.pipes.get_mut(id) else { return false };
        let Some(&writer) = pipe.waiting_writers.front() else { return false };
        if pipe.readers == 0 {
            pipe.waiting_writers.pop_front();
            let answer = match writer.done {
                0 => error_message(Error::Pipe),
                done => api::Written { count: done as u64 }.encode(),
            };
            self.answer(writer.pid, writer.token, answer);
            return true;
        }
        let count = pipe.acceptable(&writer);
        if count == 0 && !writer.at_once {
            return false;
        }
        let moved = match self.windows.get(&writer.pid).cloned() {
            Some(window) => match self.pipes.get_mut(id) {
                Some(pipe) => fill(pipe, &*window, &writer, count),
                None => Err(Error::Io),
            },
            None => Err(Error::Fault),
        };
        let Some(pipe) = self.pipes.get_mut(id) else { return false };
        let Some(front) = pipe.waiting_writers.front_mut() else { return false };
        front.done += count;
        let answer = match moved {
            Err(error) => error_message(error),
            Ok(()) if front.done == 0 => error_message(Error::Again),
            Ok(()) if front.done < front.len && !front.at_once => return true,
            Ok(()) => api::Written { count: front.done as u64 }.encode(),
        };
        pipe.waiting_writers.pop_front();
        self.answer(writer.pid, writer.token, answer);
        true
    }

    fn pump_reader(&mut self, id: PipeId) -> bool {
        let Some(pipe) = self.pipes.get_mut(id) else { return false };
        let Some(&reader) = pipe.waiting_readers.front() else { return false };
        let more_comes = pipe.writers > 0 || !pipe.waiting_writers.is_empty();
        if pipe.buffer.is_empty() && more_comes && !reader.at_once {
            return false;
        }
        pipe.waiting_readers.pop_front();
        let count = reader.len.min(pipe.buffer.len());
        let window = self.windows.get(&reader.pid).cloned();
        let Some(pipe) = self.pipes.get_mut(id) else { return false };
        let moved = match window {
            Some(_) if count == 0 && more_comes => Err(Error::Again),
            Some(window) => {
                let (one, two) = pipe.buffer.as_slices();
                let first = count.min(one.len());
                window
                    .write(reader.at, &one[..first])
                    .and_then(|()| window.write(reader.at + first, &two[..count - first]))
            }
            None => Err(Error::Fault),
        };
        let answer = match moved {
            Ok(()) => {
                pipe.take(count);
                api::Count { count: count as u64 }.encode()
            }
            Err(error) => error_message(error),
        };
        self.answer(reader.pid, reader.token, answer);
        true
    }
}

/// Moves `count` bytes of a writer's window into the pipe.
fn fill(pipe: &mut Pipe, window: &impl Window, writer: &Waiter, count: usize) -> Result<()> {
    let mut hop = vec![0; count.min(HOP)];
    for start in (0..count).step_by(HOP) {
        let piece = &mut hop[..(count - start).min(HOP)];
        window.read(writer.at + writer.done + start, piece)?;
        pipe.buffer.extend(piece.iter());
    }
    Ok(())
}
