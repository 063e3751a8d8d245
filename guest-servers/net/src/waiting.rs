//! Callers that wait, and for what.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::ipc::ReplyToken;
use xinim_keep::Ticket;
use xinim_net::resolver::Lookup;

/// How long a name server may take, with its repetitions.
pub const RESOLVE_NS: u64 = 15_000_000_000;

/// What a caller waits for. Ranges were checked against its window.
pub enum Want {
    /// Being attempted.
    Nothing,
    Accept {
        cookie: u64,
    },
    /// `address` until the connection was begun.
    Connect {
        cookie: u64,
        address: Option<Vec<u8>>,
    },
    Send {
        cookie: u64,
        at: usize,
        len: usize,
        to: Vec<u8>,
    },
    /// `done` bytes are in the window already (`WAIT_ALL`).
    Receive {
        cookie: u64,
        at: usize,
        len: usize,
        flags: u32,
        done: usize,
    },
    /// As files: the reply is of `services::chardev`.
    Read {
        cookie: u64,
        at: usize,
        len: usize,
    },
    Write {
        cookie: u64,
        at: usize,
        len: usize,
    },
    /// A look-up that has not been begun.
    Name {
        name: String,
        family: u32,
    },
    Resolve {
        lookup: Lookup,
    },
}

impl Want {
    /// The socket it is about.
    pub fn cookie(&self) -> Option<u64> {
        match self {
            Want::Accept { cookie }
            | Want::Connect { cookie, .. }
            | Want::Send { cookie, .. }
            | Want::Receive { cookie, .. }
            | Want::Read { cookie, .. }
            | Want::Write { cookie, .. } => Some(*cookie),
            Want::Nothing | Want::Name { .. } | Want::Resolve { .. } => None,
        }
    }

    /// How far it has come; never less than before.
    pub fn step(&self) -> usize {
        match self {
            Want::Connect { address, .. } => usize::from(address.is_none()),
            Want::Receive { done, .. } => *done,
            Want::Resolve { .. } => 1,
            _ => 0,
        }
    }
}

pub struct Waiting {
    pub token: ReplyToken,
    pub sender: u32,
    /// The request's number: what is answered is kept for a repetition.
    pub ticket: Option<Ticket>,
    /// It is one of those that must not be done twice.
    pub changes: bool,
    /// Nanoseconds since boot; after that it is answered `Again` (`TimedOut` for a look-up).
    pub deadline: Option<u64>,
    pub want: Want,
}
