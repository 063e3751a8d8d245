//! A new instance of VFS takes up the state of the last one.
//!
//! ```text
//! records ── read and checked ── servers found again ── intents looked at ── who died meanwhile
//! ```
//! Nothing of it is believed without being checked: numbers that name nothing, parents in a circle,
//! texts that are none make the whole state `BadMessage`, and VFS begins anew. What follows from other
//! records is not in any (counts of users, children, ends of pipes): it cannot contradict them.
//!
//! A file-system server that is the same as before goes on with what it has (`Attach`); one that died
//! as well is mounted again as after a death of its own.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::services::vfs::{FD_MAX, mode};
use xinim_fs_kit::FileSystem;
use xinim_keep::Journal;
use xinim_keep::codec::Reader;

use crate::access::{Credentials, GROUPS_MAX};
use crate::files::{FileId, Object, OpenFile};
use crate::intents::{Done, Intent};
use crate::keeping::{VERSION, key, keys, kind};
use crate::locks::{Lock, Owner};
use crate::losses::Losses;
use crate::mounts::{Mount, MountId, ServerName};
use crate::pipe::{CAPACITY, Pipe, PipeId};
use crate::process::Process;
use crate::state::State;
use crate::tree::{Node, NodeId};
use crate::vfs::{Host, Vfs};

type Records<H> = Journal<<H as Host>::Area>;

impl<H: Host> Vfs<H> {
    /// VFS as the records say. On an error, which says why they make no sense, host and journal come
    /// back. The new view has the state already.
    #[allow(clippy::type_complexity)]
    pub fn restore(
        mut host: H,
        journal: Journal<H::Area>,
    ) -> core::result::Result<Self, (H, Journal<H::Area>, Error)> {
        let state = match read_state(&mut host, &journal) {
            Ok(state) => state,
            Err(error) => return Err((host, journal, error)),
        };
        let intents: Vec<(u32, Vec<u8>)> = journal
            .range(keys(kind::INTENT))
            .map(|(key, record)| (key as u32, record.to_vec()))
            .collect();
        let done: Vec<_> = journal
            .range(keys(kind::DONE))
            .filter_map(|(key, record)| Some((key as u32, Done::read(record).ok()?)))
            .collect();
        let mut vfs = Self::with_state(host, state);
        vfs.keeping.done.extend(done);
        vfs.keep_in(journal);
        for (_, record) in &intents {
            for node in Intent::read(record).map_or(Vec::new(), |(_, intent)| intent.nodes()) {
                if vfs.tree.get(node).is_some() {
                    vfs.pin(node);
                }
            }
        }
        vfs.tree.forget_unused();
        let mounts: Vec<MountId> = vfs.mounts().map(|(id, _)| id).collect();
        for id in mounts {
            vfs.go_on_with(id);
        }
        for (pid, record) in intents {
            vfs.settle_intent(pid, &record);
        }
        let processes: Vec<u32> = vfs.processes.keys().copied().collect();
        for pid in processes {
            if vfs.host.watch(pid).is_err() {
                vfs.remove_process(pid);
            }
        }
        vfs.touched.clear();
        vfs.finish();
        vfs.flush();
        Ok(vfs)
    }

    /// Attaches to a mount's server, or mounts it again.
    fn go_on_with(&mut self, id: MountId) {
        let generation = self.mount(id).generation;
        let held = |node: &&Node| node.mount == id && node.held && node.generation == generation;
        let held: Vec<u64> =
            self.tree.iter().map(|(_, node)| node).filter(held).map(|n| n.ino).collect();
        if self.own(id).is_err() {
            return;
        }
        if self.mount(id).same_server {
            match self.with_fs(id, |fs| fs.attach(&held)) {
                Ok(_) => return self.give_up_mounts(),
                Err(error) => self.log_mount(id, error),
            }
        }
        // A server that is not there any more is asked for again when somebody needs it.
        let _ = self.recover(id);
        self.give_up_mounts();
    }

    fn log_mount(&mut self, id: MountId, error: Error) {
        let label = self.mount(id).server.label.clone();
        self.host.log(&alloc::format!("{label} does not go on with its mount: {error}"));
    }

    fn settle_intent(&mut self, pid: u32, record: &[u8]) {
        let Ok((ticket, intent)) = Intent::read(record) else { return };
        let nodes = intent.nodes();
        if nodes.iter().all(|&node| self.tree.get(node).is_some()) {
            match self.look_up_intent(intent) {
                Ok(Some(done)) => {
                    self.keeping.done.insert(pid, (ticket, done));
                    if let Some(journal) = &mut self.keeping.journal {
                        journal.put(key(kind::DONE, pid.into()), &done.write(ticket));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let line = alloc::format!("what process {pid} was doing is not known: {error}");
                    self.host.log(&line);
                }
            }
            self.finish();
            for node in nodes {
                self.unpin(node);
            }
        }
        // From here on others may change what it was about.
        if let Some(journal) = &mut self.keeping.journal {
            journal.remove(key(kind::INTENT, pid.into()));
        }
    }
}

/// Everything the records say, checked; no server was asked anything.
fn read_state<H: Host>(host: &mut H, journal: &Records<H>) -> Result<State<H>> {
    let mut meta = Reader::new(journal.get(key(kind::META, 0)).ok_or(Error::NoEnt)?);
    if meta.u32()? != VERSION {
        return Err(Error::NotSup);
    }
    let mut state = State::empty();
    state.root_mount = meta.u32()?;
    for (key, record) in journal.range(keys(kind::NODE)) {
        let node = read_node(record)?;
        state.tree.put_back(key as NodeId, node);
    }
    state.tree.mend()?;
    for (key, record) in journal.range(keys(kind::MOUNT)) {
        read_mount(host, &mut state, key as MountId, record)?;
    }
    state.mounts.mend();
    let root = state.mounts.get(state.root_mount).ok_or(Error::BadMessage)?;
    if root.covers.is_some() {
        return Err(Error::BadMessage);
    }
    for (id, node) in state.tree.iter() {
        let mount = state.mounts.get(node.mount).ok_or(Error::BadMessage)?;
        if node.parent == id && mount.root != id {
            return Err(Error::BadMessage);
        }
    }
    for (key, record) in journal.range(keys(kind::PIPE)) {
        let pipe = read_pipe(journal, key as PipeId, record)?;
        if let Some(fifo) = pipe.fifo {
            state.fifos.insert(fifo, key as PipeId);
        }
        state.pipes.insert_at(key as PipeId, pipe);
    }
    state.pipes.mend();
    read_users(&mut state, journal)?;
    read_locks(&mut state, journal)?;
    if let Some(record) = journal.get(key(kind::CLOSING, 0)) {
        let mut reader = Reader::new(record);
        while reader.end().is_err() {
            let server = Name::new(reader.str()?)?;
            state.closing.push_back((server, reader.u64()?));
        }
    }
    Ok(state)
}

fn read_node(record: &[u8]) -> Result<Node> {
    let mut reader = Reader::new(record);
    let (mount, ino, kind) = (reader.u32()?, reader.u64()?, reader.u32()?);
    let (parent, name) = (reader.u32()?, reader.bytes()?);
    let mut node = Node::new(mount, ino, kind, parent, name);
    node.generation = reader.u32()?;
    (node.held, node.gone) = (reader.bool()?, reader.bool()?);
    node.losses = Losses::get(&mut reader)?;
    // Nobody knows any more what was made durable.
    node.unsaved = !matches!(kind, mode::BLOCK | mode::CHARACTER);
    // Somebody may have read it since its last change: then the next read does not count, which
    // costs an access time that is a little too old.
    reader.end()?;
    if kind & !mode::TYPE_MASK != 0 {
        return Err(Error::BadMessage);
    }
    Ok(node)
}

fn read_mount<H: Host>(
    host: &mut H,
    state: &mut State<H>,
    id: MountId,
    record: &[u8],
) -> Result<()> {
    let mut reader = Reader::new(record);
    let (root, covers, flags) = (reader.u32()?, reader.option()?, reader.u32()?);
    let server_read_only = reader.bool()?;
    let (source, fs_type) = (reader.str()?, reader.str()?);
    let (generation, detached, lost) = (reader.u32()?, reader.bool()?, reader.bool()?);
    let server = ServerName {
        label: String::from(reader.str()?),
        instance: reader.u32()?,
        source: String::from(reader.str()?),
        flags: reader.u32()?,
    };
    reader.end()?;
    if state.tree.get(root).is_none_or(|node| node.mount != id || node.parent != root) {
        return Err(Error::BadMessage);
    }
    let (fs, same_server) = host.adopt(&server, fs_type)?;
    let mut mount = Mount::new(fs, flags, covers, source, fs_type);
    (mount.root, mount.server_read_only) = (root, server_read_only);
    (mount.generation, mount.server) = (generation, server);
    mount.same_server = same_server;
    (mount.unsaved, mount.lost) = (mount.keeps_state(), lost);
    // One that stands nowhere was being unmounted.
    mount.detached = detached || covers.is_none() && id != state.root_mount;
    state.detached += u32::from(mount.detached);
    if let Some(covered) = covers {
        if state.tree.get(covered).is_none_or(|node| node.mount == id) {
            return Err(Error::BadMessage);
        }
        state.tree.node_mut(covered).covered_by = Some(id);
    }
    state.mounts.insert_at(id, mount);
    Ok(())
}

fn read_pipe<A: xinim_keep::Area>(journal: &Journal<A>, id: PipeId, record: &[u8]) -> Result<Pipe> {
    let mut reader = Reader::new(record);
    let (is_fifo, mount, ino) = (reader.bool()?, reader.u32()?, reader.u64()?);
    let (taken, first) = (reader.u64()?, reader.u64()?);
    reader.end()?;
    let mut pipe = Pipe { fifo: is_fifo.then_some((mount, ino)), taken, ..Pipe::default() };
    let base = u64::from(id) << 32;
    let pieces = key(kind::BYTES, base)..=key(kind::BYTES, base | u64::from(u32::MAX));
    let mut pieces: Vec<(u32, &[u8])> = journal.range(pieces).map(|(k, r)| (k as u32, r)).collect();
    // Numbers may have wrapped: the older ones are then the high ones.
    if pieces.last().is_some_and(|last| last.0 - pieces[0].0 > u32::MAX / 2) {
        pieces.sort_by_key(|piece| piece.0.wrapping_add(u32::MAX / 2));
    }
    let mut at = first;
    for (number, bytes) in pieces {
        let end = at + bytes.len() as u64;
        let skip = taken.saturating_sub(at).min(bytes.len() as u64) as usize;
        pipe.buffer.extend(&bytes[skip..]);
        pipe.kept.records.push_back((number, at, end));
        pipe.kept.next = number.wrapping_add(1);
        at = end;
    }
    if pipe.buffer.len() > CAPACITY || first > taken {
        return Err(Error::BadMessage);
    }
    Ok(pipe)
}

/// Open files and processes, and what follows from them: pins, users, ends of pipes.
fn read_users<H: Host>(state: &mut State<H>, journal: &Records<H>) -> Result<()> {
    let mut files: BTreeMap<FileId, OpenFile> = BTreeMap::new();
    for (key, record) in journal.range(keys(kind::FILE)) {
        let mut reader = Reader::new(record);
        let (flags, position) = (reader.u32()?, reader.u64()?);
        let (locked, heard) = (reader.bool()?, reader.u32()?);
        let object = match reader.u8()? {
            0 => Object::Node(reader.u32()?),
            1 => Object::Pipe(reader.u32()?, reader.option()?),
            2 => Object::Attached { server: Name::new(reader.str()?)?, cookie: reader.u64()? },
            _ => return Err(Error::BadMessage),
        };
        reader.end()?;
        let file = OpenFile { position, locked, heard, refs: 0, ..OpenFile::new(object, flags) };
        files.insert(key as FileId, file);
    }
    for (key, record) in journal.range(keys(kind::PROCESS)) {
        let process = read_process(record, |file| match files.get_mut(&file) {
            Some(file) => {
                file.refs += 1;
                true
            }
            None => false,
        })?;
        pin(state, process.cwd)?;
        state.processes.insert(key as u32, process);
    }
    // One without users was about to be closed, or kept by an operation that will be repeated.
    for (id, file) in files.into_iter().filter(|(_, file)| file.refs > 0) {
        match file.object {
            Object::Node(node) => pin(state, node)?,
            Object::Pipe(pipe, node) => {
                let pipe = state.pipes.get_mut(pipe).ok_or(Error::BadMessage)?;
                pipe.readers += u32::from(file.readable());
                pipe.writers += u32::from(file.writable());
                node.into_iter().try_for_each(|node| pin(state, node))?;
            }
            Object::Attached { .. } => {}
        }
        state.files.insert_at(id, file);
    }
    state.files.mend();
    let ended: Vec<PipeId> =
        state.pipes.iter().filter(|(_, pipe)| pipe.is_unused()).map(|(id, _)| id).collect();
    for id in ended {
        if let Some(Pipe { fifo: Some(fifo), .. }) = state.pipes.remove(id) {
            state.fifos.remove(&fifo);
        }
    }
    Ok(())
}

fn pin<H: Host>(state: &mut State<H>, node: NodeId) -> Result<()> {
    state.tree.get(node).ok_or(Error::BadMessage)?;
    state.tree.node_mut(node).pins += 1;
    Ok(())
}

fn read_process(record: &[u8], mut is_file: impl FnMut(FileId) -> bool) -> Result<Process> {
    let mut reader = Reader::new(record);
    let mut process = Process::new(reader.u32()?);
    process.umask = reader.u32()?;
    let (uid, gid, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if count as usize > GROUPS_MAX {
        return Err(Error::BadMessage);
    }
    let groups = (0..count).map(|_| reader.u32()).collect::<Result<_>>()?;
    process.who = Arc::new(Credentials { uid, gid, groups });
    for _ in 0..reader.u32()? {
        let (fd, file, close_on_exec) = (reader.u32()?, reader.u32()?, reader.bool()?);
        if fd >= FD_MAX || !is_file(file) || process.set(fd, file).is_some() {
            return Err(Error::BadMessage);
        }
        process.set_close_on_exec(fd, close_on_exec)?;
    }
    reader.end()?;
    Ok(process)
}

fn read_locks<H: Host>(state: &mut State<H>, journal: &Records<H>) -> Result<()> {
    let Some(record) = journal.get(key(kind::LOCKS, 0)) else { return Ok(()) };
    let mut reader = Reader::new(record);
    while reader.end().is_err() {
        let key = (reader.u32()?, reader.u64()?);
        let (of_file, owner, pid) = (reader.bool()?, reader.u32()?, reader.u32()?);
        let (start, end, exclusive) = (reader.u64()?, reader.u64()?, reader.bool()?);
        let (owner, known) = match of_file {
            true => (Owner::File(owner), state.files.get(owner).is_some()),
            false => (Owner::Process(owner), state.processes.contains_key(&owner)),
        };
        if !known || start > end {
            return Err(Error::BadMessage);
        }
        state.locks.put_back(key, Lock { owner, pid, start, end, exclusive });
    }
    Ok(())
}
