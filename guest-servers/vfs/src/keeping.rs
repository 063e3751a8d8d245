//! What outlives VFS: records of its state in memory that RS keeps.
//!
//! ```text
//! request ── operation ── collect: what changed becomes records ── commit ── reply
//!                │
//!                └ before a file system is told something that must not be told twice: the intent
//!                  becomes a record, commit (see [`crate::intents`])
//! ```
//! Nothing is answered before the state that goes with the answer is committed, and the answer of a
//! numbered request that changed something is a record itself. So a client that repeats its request
//! at the next instance ([`Tag::numbered`](xinim_abi::ipc::Tag::numbered)) either finds the answer, or
//! an instance in which it was never done.
//!
//! Records are by kind and number. A node is recorded when something in a record needs it, with its
//! parents; the rest of the tree is only memory of look-ups. Bytes in pipes are recorded as they come
//! in, in pieces; what a reader takes at once is never written down.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use xinim_abi::error::Result;
use xinim_abi::ipc::{Message, ReplyToken, Tag, WORDS};
use xinim_keep::codec::{Reader, Writer};
use xinim_keep::{Area, Journal};

use crate::files::{FileId, Object, OpenFile};
use crate::intents::Done;
use crate::locks::{Lock, Owner};
use crate::mounts::Mount;
use crate::pipe::{Pipe, PipeId};
use crate::process::Process;
use crate::state::State;
use crate::tree::{Node, NodeId};
use crate::vfs::{Host, Vfs};

/// Layout of the records; another one is not taken up.
pub(crate) const VERSION: u32 = 2;
/// Closed files recorded at once because nobody heard of their loss yet; `sync` tells of more.
const UNTOLD_AT_ONCE: usize = 1024;
/// A piece of a pipe's bytes grows up to this length before another one begins.
const PIECE: u64 = 4096;

/// Kinds of records: the highest byte of their keys.
pub(crate) mod kind {
    pub const META: u8 = 1;
    pub const MOUNT: u8 = 2;
    pub const NODE: u8 = 3;
    pub const FILE: u8 = 4;
    pub const PROCESS: u8 = 5;
    pub const PIPE: u8 = 6;
    /// Pipe << 32 | number of the piece.
    pub const BYTES: u8 = 7;
    pub const LOCKS: u8 = 8;
    pub const CLOSING: u8 = 9;
    /// By process: the answer of its last request that changed something.
    pub const ANSWER: u8 = 10;
    /// By process: what a file system is being told.
    pub const INTENT: u8 = 11;
    /// By process: how far its waiting request is.
    pub const PROGRESS: u8 = 12;
    /// By process: what became of an intent that an instance died with.
    pub const DONE: u8 = 13;
}

pub(crate) fn key(kind: u8, number: u64) -> u64 {
    u64::from(kind) << 56 | number
}

pub(crate) fn keys(kind: u8) -> RangeInclusive<u64> {
    key(kind, 0)..=key(kind, (1 << 56) - 1)
}

fn piece_key(pipe: PipeId, number: u32) -> u64 {
    key(kind::BYTES, u64::from(pipe) << 32 | u64::from(number))
}

/// Whether an instance of VFS left its state there.
pub fn has_state<A: Area>(journal: &Journal<A>) -> bool {
    journal.get(key(kind::META, 0)).is_some()
}

/// A numbered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub number: u16,
    pub op: u16,
}

impl Ticket {
    pub fn put(self, writer: Writer) -> Writer {
        writer.u32(u32::from(self.number) << 16 | u32::from(self.op))
    }

    pub fn get(reader: &mut Reader<'_>) -> Result<Self> {
        let word = reader.u32()?;
        Ok(Self { number: (word >> 16) as u16, op: word as u16 })
    }
}

/// The records, and what goes with them.
pub(crate) struct Keeping<A> {
    pub journal: Option<Journal<A>>,
    /// The request of each process that is under way or was last; `true`: a repetition.
    pub requests: BTreeMap<u32, (Ticket, bool)>,
    /// What became of requests during which the last instance died.
    pub done: BTreeMap<u32, (Ticket, Done)>,
    /// Answers to be sent after the next commit.
    outbox: Vec<(ReplyToken, Message)>,
}

impl<A> Keeping<A> {
    pub fn new() -> Self {
        let (requests, done) = (BTreeMap::new(), BTreeMap::new());
        Self { journal: None, requests, done, outbox: Vec::new() }
    }
}

impl<H: Host> Vfs<H> {
    /// From here on the state is recorded.
    pub fn keep_in(&mut self, journal: Journal<H::Area>) {
        self.keeping.journal = Some(journal);
        let all: Vec<u32> = self.processes.keys().copied().collect();
        self.touched_processes.extend(all);
    }

    /// The answer that the last instance had ready for this very request.
    pub(crate) fn noted(&mut self, pid: u32, tag: Tag) -> Option<Message> {
        if tag.number() == 0 {
            self.keeping.requests.remove(&pid);
            return None;
        }
        let ticket = Ticket { number: tag.number(), op: tag.op() };
        self.keeping.requests.insert(pid, (ticket, tag.is_repeated()));
        if !tag.is_repeated() {
            return None;
        }
        let record = self.keeping.journal.as_ref()?.get(key(kind::ANSWER, pid.into()))?;
        read_answer(record).ok().filter(|(of, _)| *of == ticket).map(|(_, message)| message)
    }

    /// The request of this process that is being repeated.
    pub(crate) fn repeated(&self, pid: u32) -> Option<Ticket> {
        self.keeping.requests.get(&pid).filter(|(_, again)| *again).map(|(ticket, _)| *ticket)
    }

    /// How far the last instance was with the request that is repeated, before it waited.
    pub(crate) fn progress(&self, pid: u32) -> Option<u64> {
        let ticket = self.repeated(pid)?;
        let record = self.keeping.journal.as_ref()?.get(key(kind::PROGRESS, pid.into()))?;
        let mut reader = Reader::new(record);
        let of = Ticket::get(&mut reader).ok()?;
        reader.u64().ok().filter(|_| of == ticket)
    }

    /// A kept request is answered, after the next commit.
    pub(crate) fn answer(&mut self, pid: u32, token: ReplyToken, message: Message) {
        self.record_answer(pid, &message);
        self.keeping.outbox.push((token, message));
    }

    /// Notes the answer of a process's request, if it changed anything.
    pub(crate) fn record_answer(&mut self, pid: u32, message: &Message) {
        self.collect();
        // A request without a number (`Connect`) comes between one that is repeated and its death.
        let Some(&(ticket, _)) = self.keeping.requests.get(&pid) else { return };
        self.keeping.done.remove(&pid);
        let Some(journal) = &mut self.keeping.journal else { return };
        for kind in [kind::INTENT, kind::PROGRESS, kind::DONE] {
            journal.remove(key(kind, pid.into()));
        }
        if journal.is_staged() {
            journal.put(key(kind::ANSWER, pid.into()), &write_answer(ticket, message));
        }
    }

    /// What is so is kept; then those are answered who wait for that.
    pub(crate) fn flush(&mut self) {
        self.commit_state();
        for (token, message) in core::mem::take(&mut self.keeping.outbox) {
            self.host.reply(token, &message);
        }
    }

    pub(crate) fn commit_state(&mut self) {
        self.collect();
        let Some(journal) = &mut self.keeping.journal else { return };
        if let Err(error) = journal.commit() {
            self.keeping.journal = None;
            let line = alloc::format!("the state is not kept over a crash any more: {error}");
            self.host.log(&line);
        }
    }

    pub(crate) fn forget_requests_of(&mut self, pid: u32) {
        self.touched_processes.push(pid);
        self.keeping.requests.remove(&pid);
        self.keeping.done.remove(&pid);
        if let Some(journal) = &mut self.keeping.journal {
            for kind in [kind::ANSWER, kind::INTENT, kind::PROGRESS, kind::DONE] {
                journal.remove(key(kind, pid.into()));
            }
        }
    }
}

fn write_answer(ticket: Ticket, message: &Message) -> Vec<u8> {
    let mut writer = ticket.put(Writer::new()).u64(message.tag.0);
    for word in message.words {
        writer = writer.u64(word);
    }
    writer.done()
}

fn read_answer(record: &[u8]) -> Result<(Ticket, Message)> {
    let mut reader = Reader::new(record);
    let ticket = Ticket::get(&mut reader)?;
    let tag = Tag(reader.u64()?);
    let mut words = [0; WORDS];
    for word in &mut words {
        *word = reader.u64()?;
    }
    Ok((ticket, Message { tag, words }))
}

impl<H: Host> State<H> {
    /// Stages records of everything that changed.
    pub(crate) fn collect(&mut self) {
        let files = self.files.take_touched();
        let mounts = self.mounts.take_touched();
        let pipes = self.pipes.take_touched();
        let nodes = self.tree.take_touched();
        let locks = self.locks.take_changed();
        let mut processes = core::mem::take(&mut self.touched_processes);
        let Some(mut journal) = self.keeping.journal.take() else { return };
        journal.put(key(kind::META, 0), &Writer::new().u32(VERSION).u32(self.root_mount).done());
        for id in mounts {
            let record = self.mounts.get(id).map(mount_record);
            store(&mut journal, key(kind::MOUNT, id.into()), record);
            if let Some(mount) = self.mounts.get(id) {
                self.keep_node(&mut journal, mount.root);
                mount.covers.into_iter().for_each(|node| self.keep_node(&mut journal, node));
            }
        }
        for id in files {
            let file = self.files.get(id);
            store(&mut journal, key(kind::FILE, id.into()), file.map(file_record));
            if let Some(Object::Node(node) | Object::Pipe(_, Some(node))) = file.map(|f| f.object) {
                self.keep_node(&mut journal, node);
            }
        }
        processes.sort_unstable();
        processes.dedup();
        for pid in processes {
            let process = self.processes.get(&pid);
            store(&mut journal, key(kind::PROCESS, pid.into()), process.map(process_record));
            process.into_iter().for_each(|process| self.keep_node(&mut journal, process.cwd));
        }
        let mut untold = if journal.is_roomy() { UNTOLD_AT_ONCE } else { 0 };
        for id in nodes {
            let node = self.tree.get(id);
            let known = journal.get(key(kind::NODE, id.into())).is_some();
            match node {
                None => journal.remove(key(kind::NODE, id.into())),
                Some(node) if known || node.pins > 0 => self.keep_node(&mut journal, id),
                Some(node) if node.losses.untold() && untold > 0 => {
                    untold -= 1;
                    self.keep_node(&mut journal, id);
                }
                Some(_) => {}
            }
        }
        for id in pipes {
            self.keep_pipe(&mut journal, id);
        }
        if locks {
            store(&mut journal, key(kind::LOCKS, 0), self.locks_record());
        }
        let mut closing = Writer::new();
        for (server, cookie) in &self.closing {
            closing = closing.bytes(server.as_str().as_bytes()).u64(*cookie);
        }
        let closing = Some(closing.done()).filter(|record| !record.is_empty());
        store(&mut journal, key(kind::CLOSING, 0), closing);
        self.keeping.journal = Some(journal);
    }

    /// A node and, as far as they are not recorded yet, those above it. (Those that are recorded are
    /// brought up to date when they are touched themselves.)
    pub(crate) fn keep_node(&self, journal: &mut Journal<H::Area>, mut id: NodeId) {
        loop {
            let Some(node) = self.tree.get(id) else { return };
            journal.put(key(kind::NODE, id.into()), &node_record(node));
            if node.parent == id || journal.get(key(kind::NODE, node.parent.into())).is_some() {
                return;
            }
            id = node.parent;
        }
    }

    fn keep_pipe(&mut self, journal: &mut Journal<H::Area>, id: PipeId) {
        let pipe_key = key(kind::PIPE, id.into());
        let requests = &self.keeping.requests;
        let Some(pipe) = self.pipes.get_quietly(id) else {
            journal.remove(pipe_key);
            journal.remove_all(piece_key(id, 0)..=piece_key(id, u32::MAX));
            return;
        };
        if journal.get(pipe_key).is_none() {
            // Pieces of an older pipe of this number.
            journal.remove_all(piece_key(id, 0)..=piece_key(id, u32::MAX));
        }
        keep_bytes(pipe, |number, bytes| match bytes {
            Some(bytes) => journal.put(piece_key(id, number), &bytes),
            None => journal.remove(piece_key(id, number)),
        });
        journal.put(pipe_key, &pipe_record(pipe));
        let mut progress = |pid: u32, value: u64| {
            if let Some((ticket, _)) = requests.get(&pid) {
                let record = ticket.put(Writer::new()).u64(value).done();
                journal.put(key(kind::PROGRESS, pid.into()), &record);
            }
        };
        for writer in pipe.waiting_writers.iter().filter(|writer| writer.done > 0) {
            progress(writer.pid, writer.done as u64);
        }
        for opening in &pipe.opening {
            progress(opening.pid, opening.fd.into());
        }
    }

    fn locks_record(&self) -> Option<Vec<u8>> {
        let mut writer = Writer::new();
        for ((mount, ino), lock, _) in self.locks.all().filter(|(_, _, waits)| !waits) {
            let Lock { owner, pid, start, end, exclusive } = lock;
            let (of_file, owner) = match owner {
                Owner::Process(pid) => (false, pid),
                Owner::File(file) => (true, file),
            };
            writer = writer.u32(mount).u64(ino).bool(of_file).u32(owner).u32(pid);
            writer = writer.u64(start).u64(end).bool(exclusive);
        }
        Some(writer.done()).filter(|record| !record.is_empty())
    }
}

fn store<A: Area>(journal: &mut Journal<A>, key: u64, record: Option<Vec<u8>>) {
    match record {
        Some(record) => journal.put(key, &record),
        None => journal.remove(key),
    }
}

/// Tells which pieces of the pipe's bytes are new (or longer), and which are not needed any more.
fn keep_bytes(pipe: &mut Pipe, mut piece: impl FnMut(u32, Option<Vec<u8>>)) {
    let (taken, end) = (pipe.taken, pipe.taken + pipe.buffer.len() as u64);
    let kept = &mut pipe.kept;
    while let Some(&(number, _, _)) = kept.records.front().filter(|piece| piece.2 <= taken) {
        kept.records.pop_front();
        piece(number, None);
    }
    let mut from = kept.records.back().map_or(taken, |piece| piece.2);
    if from < end
        && let Some(&(number, first, last)) = kept.records.back()
        && last - first < PIECE
        && first >= taken
    {
        // A short one goes on.
        kept.records.pop_back();
        kept.next = number;
        from = first;
    }
    if from < end {
        let bytes = pipe.buffer.range((from - taken) as usize..).copied().collect();
        kept.records.push_back((kept.next, from, end));
        piece(kept.next, Some(bytes));
        kept.next = kept.next.wrapping_add(1);
    }
}

fn mount_record<F>(mount: &Mount<F>) -> Vec<u8> {
    let server = &mount.server;
    Writer::new()
        .u32(mount.root)
        .option(mount.covers)
        .u32(mount.flags)
        .bool(mount.server_read_only)
        .bytes(mount.source.as_bytes())
        .bytes(mount.fs_type.as_bytes())
        .u32(mount.generation)
        .bool(mount.detached)
        .bool(mount.lost)
        .bytes(server.label.as_bytes())
        .u32(server.instance)
        .bytes(server.source.as_bytes())
        .u32(server.flags)
        .done()
}

fn node_record(node: &Node) -> Vec<u8> {
    let writer = Writer::new()
        .u32(node.mount)
        .u64(node.ino)
        .u32(node.kind)
        .u32(node.parent)
        .bytes(&node.name)
        .u32(node.generation)
        .bool(node.held)
        .bool(node.gone);
    node.losses.put(writer).done()
}

fn file_record(file: &OpenFile) -> Vec<u8> {
    let writer = Writer::new().u32(file.flags).u64(file.position);
    let writer = writer.bool(file.locked).u32(file.heard);
    match file.object {
        Object::Node(node) => writer.u8(0).u32(node),
        Object::Pipe(pipe, node) => writer.u8(1).u32(pipe).option(node),
        Object::Attached { server, cookie } => {
            writer.u8(2).bytes(server.as_str().as_bytes()).u64(cookie)
        }
    }
    .done()
}

fn process_record(process: &Process) -> Vec<u8> {
    let who = &process.who;
    let mut writer = Writer::new().u32(process.cwd).u32(process.umask).u32(who.uid).u32(who.gid);
    writer = writer.u32(who.groups.len() as u32);
    for group in &who.groups {
        writer = writer.u32(*group);
    }
    let descriptors: Vec<(u32, FileId, bool)> = process.all().collect();
    writer = writer.u32(descriptors.len() as u32);
    for (fd, file, close_on_exec) in descriptors {
        writer = writer.u32(fd).u32(file).bool(close_on_exec);
    }
    writer.done()
}

fn pipe_record(pipe: &Pipe) -> Vec<u8> {
    let (mount, ino) = pipe.fifo.unwrap_or_default();
    let first = pipe.kept.records.front().map_or(pipe.taken, |piece| piece.1);
    Writer::new().bool(pipe.fifo.is_some()).u32(mount).u64(ino).u64(pipe.taken).u64(first).done()
}
