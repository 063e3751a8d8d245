//! The two sides of a conversation: one writes it down, the other holds a device to it.

use crate::entry::{Answer, Ask, Call, Entry, Return};
use crate::file::Recorder;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A device's conversation with everything around it. Clones are the same conversation.
#[derive(Clone)]
pub struct Tape(Arc<Side>);

enum Side {
    /// Nobody listens.
    Off,
    Record {
        recorder: Arc<Recorder>,
        device: u16,
    },
    Replay(Mutex<Script>),
}

/// What is still to come of a recording, and how far it was followed.
#[derive(Default)]
struct Script {
    /// Answers for the call at work, in order.
    entries: VecDeque<(Ask, Answer)>,
    asked: u64,
    difference: Option<String>,
    /// The recording ends within the call: what the device asks behind that is no difference.
    open_end: bool,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &*self.0 {
            Side::Off => "Tape(off)",
            Side::Record { .. } => "Tape(record)",
            Side::Replay(_) => "Tape(replay)",
        })
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tape {
    pub fn record(recorder: Arc<Recorder>, device: u16) -> Self {
        Self(Arc::new(Side::Record { recorder, device }))
    }

    /// Questions go to the real thing, and nothing is written.
    pub fn off() -> Self {
        Self(Arc::new(Side::Off))
    }

    pub fn replay() -> Self {
        Self(Arc::new(Side::Replay(Mutex::default())))
    }

    /// A question of the device's: recording, `real` answers; replaying, the script does. A question
    /// that is not the script's gets `other`.
    pub fn ask(&self, ask: Ask, other: Answer, real: impl FnOnce() -> Answer) -> Answer {
        match &*self.0 {
            Side::Off => real(),
            Side::Record { recorder, device } => {
                let answer = real();
                recorder.entry(*device, &Entry::Asked(ask, answer.clone()));
                answer
            }
            Side::Replay(script) => lock(script).answer(ask, other),
        }
    }

    /// Whether nothing is written: then taps can be left out.
    pub fn is_off(&self) -> bool {
        matches!(*self.0, Side::Off)
    }

    /// A call begins.
    pub fn call(&self, call: impl FnOnce() -> Call) {
        if let Side::Record { recorder, device } = &*self.0 {
            recorder.entry(*device, &Entry::Call(call()));
        }
    }

    /// It ends.
    pub fn returned(&self, result: impl FnOnce() -> Return) {
        if let Side::Record { recorder, device } = &*self.0 {
            recorder.entry(*device, &Entry::Return(result()));
        }
    }

    /// Replaying: what the device will ask next, and is answered.
    pub fn expect(&self, entries: VecDeque<(Ask, Answer)>) {
        if let Side::Replay(script) = &*self.0 {
            lock(script).entries = entries;
        }
    }

    /// The same of a call in whose middle the recording ends.
    pub fn expect_part(&self, entries: VecDeque<(Ask, Answer)>) {
        if let Side::Replay(script) = &*self.0 {
            let mut script = lock(script);
            script.entries = entries;
            script.open_end = true;
        }
    }

    /// Replaying: what the device did otherwise than in the recording since [`expect`](Self::expect).
    pub fn difference(&self) -> Option<String> {
        let Side::Replay(script) = &*self.0 else { return None };
        let mut script = lock(script);
        let left = script.entries.front().map(|(ask, _)| format!("it did not ask {ask:?}"));
        script.difference.take().or(left)
    }

    /// Replaying: questions answered so far.
    pub fn asked(&self) -> u64 {
        match &*self.0 {
            Side::Off | Side::Record { .. } => 0,
            Side::Replay(script) => lock(script).asked,
        }
    }
}

impl Script {
    fn answer(&mut self, ask: Ask, other: Answer) -> Answer {
        self.asked += 1;
        match self.entries.pop_front() {
            Some((expected, answer)) if expected == ask => answer,
            Some((expected, _)) => {
                self.differ(format!("it asked {ask:?} instead of {expected:?}"));
                other
            }
            None if self.open_end => other,
            None => {
                self.differ(format!("it asked {ask:?}, which the recording has not"));
                other
            }
        }
    }

    /// The first difference counts.
    fn differ(&mut self, how: String) {
        self.difference.get_or_insert(how);
    }
}
