//! VFS dies, at any question to a file system, and its next instance goes on.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::prelude::v1::*;
use std::rc::Rc;
use std::{format, vec};

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Request, decode_reply};
use xinim_abi::ipc::{BADGE_ADMIN, Message, ReplyToken};
use xinim_abi::services::vfs::vfs as api;
use xinim_abi::services::vfs::{lock, mount, open};
use xinim_fs_kit::Window;
use xinim_keep::Journal;
use zerocopy::IntoBytes;

use super::host::*;
use crate::Vfs;
use crate::server::{Caller, Server};

const LEN: usize = 64 * 1024;

/// A machine in which VFS can die.
struct World {
    host: TestHost,
    area: TestArea,
    server: Option<Server<TestHost>>,
    windows: Vec<TestWindow>,
    number: u16,
    token: u64,
    pub fat: Rc<Control>,
    devices: Rc<Control>,
    pub deaths: u32,
}

impl World {
    fn new(clients: u32) -> Self {
        let (mut vfs, _) = vfs();
        vfs.remove_process(PID);
        let devices = with_devices_of_root(&mut vfs);
        let fat = add_fat(&mut vfs);
        let area = TestArea::new();
        vfs.keep_in(Journal::open(area.clone()).unwrap().0);
        let host = vfs.host().clone();
        let server = Some(Server::new(vfs.into_inner()));
        let (windows, number, token) = (Vec::new(), 0, 0);
        let mut world =
            Self { host, area, server, windows, number, token, fat, devices, deaths: 0 };
        for n in 0..clients {
            let window = TestWindow(Rc::new(RefCell::new(vec![0; LEN])));
            world.windows.push(window.clone());
            world.host.inner().windows.insert(100 + n, window);
            world.connect(n);
        }
        world.path(0, "/mnt");
        world.call(0, &api::Mkdir { path_len: 4, mode: 0o777 }).unwrap();
        let texts = "/dev/vda/mntfat";
        world.path(0, texts);
        let request = api::Mount { source_len: 8, target_len: 4, type_len: 3, flags: 0 };
        world.call(0, &request).unwrap();
        world
    }

    fn caller(&mut self, client: u32, badge: u64) -> Caller {
        self.token += 1;
        Caller { pid: PID + client, badge, token: ReplyToken(self.token) }
    }

    fn connect(&mut self, client: u32) {
        let caller = self.caller(client, 0);
        let request = api::Connect { len: LEN as u64, window: 100 + client };
        let answer = self.server.as_mut().unwrap().call(caller, &request.encode());
        decode_reply::<api::Connected>(&answer.unwrap()).unwrap();
    }

    /// VFS is no more, and comes back.
    fn die(&mut self) {
        self.server = None;
        self.deaths += 1;
        self.host.inner().replies.clear();
        let journal = Journal::open(self.area.clone()).unwrap().0;
        assert!(crate::has_state(&journal));
        match Vfs::restore(self.host.clone(), journal) {
            Ok(vfs) => self.server = Some(Server::new(vfs)),
            Err((_, _, error)) => std::panic!("not restored: {error}"),
        }
        for client in 0..self.windows.len() as u32 {
            if !self.host.inner().dead.contains(&(PID + client)) {
                self.connect(client);
            }
        }
    }

    fn send(
        &mut self,
        client: u32,
        badge: u64,
        message: Message,
    ) -> Option<(u64, Option<Message>)> {
        let caller = self.caller(client, badge);
        let mut server = self.server.take().unwrap();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let answer = server.call(caller, &message);
            (answer, server)
        }));
        let (answer, server) = answer.ok()?;
        self.server = Some(server);
        Some((caller.token.0, answer))
    }

    /// As a client's library does it: the same request again when VFS died.
    fn begin<R: Request>(
        &mut self,
        client: u32,
        badge: u64,
        request: &R,
    ) -> (u64, Option<Message>) {
        self.number += 1;
        let window = self.windows[client as usize].0.borrow().clone();
        for again in [false, true, true, true, true] {
            *self.windows[client as usize].0.borrow_mut() = window.clone();
            let mut message = request.encode();
            message.tag = message.tag.numbered(self.number, again);
            match self.send(client, badge, message) {
                Some((token, answer)) => return (token, answer.or_else(|| self.answer(token))),
                None => self.die(),
            }
        }
        std::panic!("VFS dies at every attempt");
    }

    /// The request that was last begun, once more: VFS died, and the client did not hear its answer.
    fn again<R: Request>(&mut self, client: u32, request: &R) -> Result<R::Reply> {
        let mut message = request.encode();
        message.tag = message.tag.numbered(self.number, true);
        let (token, answer) = self.send(client, 0, message).unwrap();
        decode_reply(&answer.or_else(|| self.answer(token)).expect("it waits"))
    }

    fn call<R: Request>(&mut self, client: u32, request: &R) -> Result<R::Reply> {
        decode_reply(&self.begin(client, 0, request).1.expect("it waits"))
    }

    fn answer(&mut self, token: u64) -> Option<Message> {
        let replies = &mut self.host.inner().replies;
        let at = replies.iter().position(|reply| reply.0 == ReplyToken(token))?;
        Some(replies.remove(at).unwrap().1)
    }

    fn path(&self, client: u32, path: &str) -> u32 {
        self.windows[client as usize].write(0, path.as_bytes()).unwrap();
        path.len() as u32
    }

    fn open(&mut self, client: u32, path: &str, flags: u32) -> Result<u32> {
        let path_len = self.path(client, path);
        self.call(client, &api::Open { path_len, flags, mode: 0o644 }).map(|r| r.fd)
    }

    fn write(&mut self, client: u32, fd: u32, data: &[u8]) -> Result<u64> {
        self.windows[client as usize].write(0, data).unwrap();
        let request = api::Write { fd, offset: -1, at: 0, len: data.len() as u32 };
        self.call(client, &request).map(|r| r.count)
    }

    fn read(&mut self, client: u32, fd: u32, len: u32) -> Result<Vec<u8>> {
        let count = self.call(client, &api::Read { fd, offset: -1, at: 0, len })?.count as usize;
        Ok(self.windows[client as usize].0.borrow()[..count].to_vec())
    }

    fn content(&mut self, path: &str) -> Result<Vec<u8>> {
        let fd = self.open(0, path, open::READ)?;
        let data = self.read(0, fd, 60_000);
        self.call(0, &api::Close { fd }).unwrap();
        data
    }

    fn unlink(&mut self, client: u32, path: &str) -> Result<()> {
        let path_len = self.path(client, path);
        self.call(client, &api::Unlink { path_len, directory: false }).map(drop)
    }

    fn mkdir(&mut self, client: u32, path: &str) -> Result<()> {
        let path_len = self.path(client, path);
        self.call(client, &api::Mkdir { path_len, mode: 0o755 }).map(drop)
    }

    fn rename(&mut self, client: u32, from: &str, to: &str) -> Result<()> {
        self.path(client, &format!("{from}{to}"));
        let request = api::Rename { from_len: from.len() as u32, to_len: to.len() as u32 };
        self.call(client, &request).map(drop)
    }

    /// Client 1 gets client 0's descriptor.
    fn inherit(&mut self, fd: u32) {
        self.windows[0].write(0, [fd, fd].as_bytes()).unwrap();
        let request = api::Inherit { parent: PID, child: PID + 1, count: 1 };
        let answer = self.begin(0, BADGE_ADMIN, &request).1.unwrap();
        decode_reply::<api::Inherited>(&answer).unwrap();
        self.connect(1);
    }
}

/// A /dev beside the root.
fn with_devices_of_root(vfs: &mut Direct) -> Rc<Control> {
    assert!(vfs.add_process(PID));
    let control = with_devices(vfs);
    vfs.remove_process(PID);
    control
}

#[test]
fn descriptors_positions_and_working_directories_go_on() {
    let mut w = World::new(2);
    let fd = w.open(0, "/mnt/f", NEW).unwrap();
    w.write(0, fd, b"one two").unwrap();
    w.mkdir(0, "/mnt/d").unwrap();
    let path_len = w.path(0, "/mnt/d");
    w.call(0, &api::Chdir { path_len }).unwrap();
    w.call(0, &api::Seek { fd, offset: 4, whence: 0 }).unwrap();
    w.inherit(fd);
    let mounts = w.fat.mounts.get();
    w.die();
    assert_eq!(w.fat.mounts.get(), mounts, "the server went on");
    assert_eq!(w.read(1, fd, 100).unwrap(), b"two", "shared after the death too");
    assert_eq!(w.read(0, fd, 100).unwrap(), b"");
    let other = w.open(0, "../f", open::READ).unwrap();
    assert_eq!(w.read(0, other, 3).unwrap(), b"one");
    let len = w.call(0, &api::Getcwd {}).unwrap().len as usize;
    assert_eq!(&w.windows[0].0.borrow()[..len], b"/mnt/d");
    assert_eq!(w.call(0, &api::Fstat { fd: 99 }).err(), Some(Error::BadF));
}

#[test]
fn unlinked_files_stay_open() {
    let mut w = World::new(1);
    let fd = w.open(0, "/mnt/f", NEW).unwrap();
    w.write(0, fd, b"data").unwrap();
    w.unlink(0, "/mnt/f").unwrap();
    let renamed = w.open(0, "/mnt/g", NEW).unwrap();
    w.rename(0, "/mnt/g", "/mnt/h").unwrap();
    w.die();
    assert_eq!(w.fat.holds.get(), 2);
    w.call(0, &api::Seek { fd, offset: 0, whence: 0 }).unwrap();
    assert_eq!(w.read(0, fd, 10).unwrap(), b"data");
    assert_eq!(w.write(0, renamed, b"x"), Ok(1));
    for fd in [fd, renamed] {
        w.call(0, &api::Close { fd }).unwrap();
    }
    assert_eq!(w.fat.holds.get(), 0);
    assert_eq!(w.content("/mnt/h").unwrap(), b"x");
    assert_eq!(w.content("/mnt/f"), Err(Error::NoEnt));
}

#[test]
fn an_answer_that_was_not_heard_is_given_again() {
    let mut w = World::new(1);
    w.mkdir(0, "/d").unwrap();
    w.die();
    let request = api::Mkdir { path_len: w.path(0, "/d"), mode: 0o755 };
    assert!(w.again(0, &request).is_ok());
    assert_eq!(w.mkdir(0, "/d"), Err(Error::Exist), "another request is another");
    let fd = w.open(0, "/mnt/f", NEW | open::APPEND).unwrap();
    w.write(0, fd, b"line").unwrap();
    w.die();
    let request = api::Write { fd, offset: -1, at: 0, len: 4 };
    assert_eq!(w.again(0, &request).unwrap().count, 4);
    assert_eq!(w.content("/mnt/f").unwrap(), b"line");
    w.call(0, &api::Close { fd }).unwrap();
    w.die();
    assert!(w.again(0, &api::Close { fd }).is_ok());
    let pipe = w.call(0, &api::Pipe {}).unwrap();
    w.die();
    assert_eq!(w.again(0, &api::Pipe {}).unwrap(), pipe);
}

#[test]
fn pipes_keep_bytes_and_waiting_goes_on() {
    let mut w = World::new(2);
    let pipe = w.call(0, &api::Pipe {}).unwrap();
    w.inherit(pipe.read);
    w.call(0, &api::Close { fd: pipe.read }).unwrap();
    w.write(0, pipe.write, b"hello ").unwrap();
    w.die();
    w.write(0, pipe.write, b"world").unwrap();
    assert_eq!(w.read(1, pipe.read, 3).unwrap(), b"hel");
    w.die();
    assert_eq!(w.read(1, pipe.read, 100).unwrap(), b"lo world");
    // A reader waits when VFS dies, and asks again.
    let request = api::Read { fd: pipe.read, offset: -1, at: 0, len: 5 };
    assert!(w.begin(1, 0, &request).1.is_none());
    w.die();
    let (token, number) = {
        let mut message = request.encode();
        message.tag = message.tag.numbered(w.number, true);
        (w.send(1, 0, message).unwrap().0, w.number)
    };
    w.write(0, pipe.write, b"again").unwrap();
    assert!(w.number > number);
    assert_eq!(decode_reply::<api::Count>(&w.answer(token).unwrap()).unwrap().count, 5);
    // A writer has put in a part of its bytes.
    let big: Vec<u8> = (0..60_000u32 * 2).map(|n| (n % 251) as u8).collect();
    w.windows[0].write(0, &big[..60_000]).unwrap();
    assert_eq!(w.write(0, pipe.write, &big[..60_000]), Ok(60_000));
    w.windows[0].write(0, &big[60_000..]).unwrap();
    let request = api::Write { fd: pipe.write, offset: -1, at: 0, len: 60_000 };
    assert!(w.begin(0, 0, &request).1.is_none());
    let number = w.number;
    w.die();
    let mut message = request.encode();
    message.tag = message.tag.numbered(number, true);
    let (token, answer) = w.send(0, 0, message).unwrap();
    assert!(answer.is_none());
    let mut all = Vec::new();
    while all.len() < big.len() {
        all.extend(w.read(1, pipe.read, 7000).unwrap());
    }
    assert!(all == big, "no byte twice, none lost");
    assert_eq!(decode_reply::<api::Written>(&w.answer(token).unwrap()).unwrap().count, 60_000);
    w.call(0, &api::Close { fd: pipe.write }).unwrap();
    w.die();
    assert_eq!(w.read(1, pipe.read, 10).unwrap(), b"", "the end of the pipe");
}

#[test]
fn locks_go_on_and_the_dead_are_buried() {
    let mut w = World::new(2);
    let fd = w.open(0, "/mnt/f", NEW).unwrap();
    let other = w.open(1, "/mnt/f", NEW).unwrap();
    let pipe = w.call(0, &api::Pipe {}).unwrap();
    w.inherit(pipe.read);
    let other = match w.open(1, "/mnt/f", NEW) {
        Ok(fd) => fd,
        Err(_) => other,
    };
    let write = |fd| api::Lock { fd, kind: lock::WRITE, start: 0, len: 10 };
    w.call(0, &write(fd)).unwrap();
    w.die();
    assert_eq!(w.call(1, &write(other)), Err(Error::Again));
    // It dies while VFS is dead.
    w.host.inner().dead.push(PID);
    w.die();
    assert!(w.call(1, &write(other)).is_ok());
    assert_eq!(w.read(1, pipe.read, 1).unwrap(), b"", "its end of the pipe is closed");
}

#[test]
fn mounts_go_on_also_with_servers_that_died_too() {
    let mut w = World::new(1);
    let fd = w.open(0, "/mnt/f", NEW).unwrap();
    w.write(0, fd, b"data").unwrap();
    w.host.inner().known.values_mut().for_each(|known| known.1 += 1);
    w.fat.die_after.set(Some(0));
    let _ = w.call(0, &api::Fsync { fd });
    w.die();
    w.call(0, &api::Seek { fd, offset: 0, whence: 0 }).unwrap();
    assert_eq!(w.read(0, fd, 9).unwrap(), b"data");
    let path_len = w.path(0, "/mnt");
    w.call(0, &api::Close { fd }).unwrap();
    w.path(0, "/mnt");
    w.call(0, &api::Remount { path_len, flags: mount::NO_EXEC }).unwrap();
    w.die();
    w.path(0, "/mnt");
    w.call(0, &api::Umount { path_len, lazy: false }).unwrap();
    w.die();
    assert_eq!(w.content("/mnt/f"), Err(Error::NoEnt));
}

#[test]
fn losses_that_nobody_heard_of_are_told_by_the_next_instance() {
    let mut w = World::new(1);
    let (open_file, closed) =
        (w.open(0, "/mnt/f", NEW).unwrap(), w.open(0, "/mnt/g", NEW).unwrap());
    let heard = w.open(0, "/mnt/f", RW).unwrap();
    w.write(0, open_file, b"data").unwrap();
    w.write(0, closed, b"data").unwrap();
    w.call(0, &api::Close { fd: closed }).unwrap();
    w.fat.die_after.set(Some(0));
    assert_eq!(w.call(0, &api::Fsync { fd: heard }), Err(Error::Io));
    let fsync = |w: &mut World, fd| w.call(0, &api::Fsync { fd }).map(drop);
    for _ in 0..2 {
        w.die();
        assert_eq!(fsync(&mut w, heard), Ok(()), "it has been told");
    }
    assert_eq!(fsync(&mut w, open_file), Err(Error::Io));
    let closed = w.open(0, "/mnt/g", RW).unwrap();
    assert_eq!(fsync(&mut w, closed), Err(Error::Io));
    w.die();
    assert_eq!((fsync(&mut w, open_file), fsync(&mut w, closed)), (Ok(()), Ok(())));
    assert_eq!(w.call(0, &api::Sync {}).map(drop), Err(Error::Io));
    w.die();
    assert_eq!(w.call(0, &api::Sync {}).map(drop), Ok(()));
}

#[test]
fn what_only_shows_devices_loses_nothing() {
    let mut w = World::new(1);
    w.die();
    w.devices.die_after.set(Some(0));
    assert_eq!(w.call(0, &api::Sync {}).map(drop), Ok(()));
    assert_eq!(w.devices.mounts.get(), 2, "it died");
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let mut w = World::new(2);
    let fd = w.open(0, "/mnt/f", NEW).unwrap();
    w.inherit(fd);
    w.call(0, &api::Pipe {}).unwrap();
    let good = Journal::open(w.area.clone()).unwrap().0;
    let keys: Vec<u64> = good.range(0..=u64::MAX).map(|(key, _)| key).collect();
    let mut refused = 0;
    for key in keys {
        for at in 0..good.get(key).unwrap().len() {
            let area = TestArea::new();
            *area.0.borrow_mut() = w.area.0.borrow().clone();
            let mut journal = Journal::open(area).unwrap().0;
            let mut record = journal.get(key).unwrap().to_vec();
            record[at] ^= 0x41;
            journal.put(key, &record);
            journal.commit().unwrap();
            // It is refused, or it is something that could be so: never a panic.
            refused += u32::from(Vfs::restore(w.host.clone(), journal).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
}

/// Dies at each question to the file system in turn, before or after it is done.
#[test]
fn every_operation_is_done_once() {
    type Step = fn(&mut World) -> Result<()>;
    let steps: [(&str, Step, &[&str]); 7] = [
        ("create", |w| w.open(0, "/mnt/new", NEW | open::EXCLUSIVE).map(drop), &["f", "new"]),
        ("mkdir", |w| w.mkdir(0, "/mnt/new"), &["f", "new"]),
        ("unlink", |w| w.unlink(0, "/mnt/f"), &[]),
        ("rename", |w| w.rename(0, "/mnt/f", "/mnt/g"), &["g"]),
        (
            "link",
            |w| {
                w.path(0, "/mnt/f/mnt/g");
                w.call(0, &api::Link { from_len: 6, to_len: 6 }).map(drop)
            },
            &["f", "g"],
        ),
        (
            "append",
            |w| {
                let fd = w.open(0, "/mnt/f", open::WRITE | open::APPEND)?;
                w.write(0, fd, b"+more").map(|count| assert_eq!(count, 5))
            },
            &["f"],
        ),
        (
            "symlink",
            |w| {
                w.path(0, "x/mnt/new");
                w.call(0, &api::Symlink { target_len: 1, path_len: 8 }).map(drop)
            },
            &["f", "new"],
        ),
    ];
    for (name, step, expected) in steps {
        for late in [false, true] {
            for after in 0..8 {
                let mut w = World::new(1);
                let fd = w.open(0, "/mnt/f", NEW).unwrap();
                w.write(0, fd, b"data").unwrap();
                w.fat.kills_vfs.set(Some((after, late)));
                let result = step(&mut w);
                w.fat.kills_vfs.set(None);
                let what = format!("{name}, dead at {after}, late: {late}, deaths: {}", w.deaths);
                assert_eq!(result, Ok(()), "{what}");
                w.die();
                let names = ["f", "g", "new"].into_iter();
                let there: Vec<&str> = names
                    .filter(|name| {
                        let path_len = w.path(0, &format!("/mnt/{name}"));
                        w.call(0, &api::Stat { path_len, follow: false }).is_ok()
                    })
                    .collect();
                assert_eq!(there, expected, "{what}");
                let data: &[u8] = if name == "append" { b"data+more" } else { b"data" };
                w.call(0, &api::Seek { fd, offset: 0, whence: 0 }).unwrap();
                assert_eq!(w.read(0, fd, 99).unwrap(), data, "{what}");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u8, bool),
    Append(u8, u8),
    Unlink(u8),
    Rename(u8, u8),
    Pipe(u16),
    Take(u16),
    Die,
}

fn steps() -> impl Strategy<Value = Vec<(Step, Option<(u32, bool)>)>> {
    let step = prop_oneof![
        (0u8..4, any::<bool>()).prop_map(|(f, x)| Step::Open(f, x)),
        (0u8..4, 1u8..200).prop_map(|(f, n)| Step::Append(f, n)),
        (0u8..4).prop_map(Step::Unlink),
        (0u8..4, 0u8..4).prop_map(|(a, b)| Step::Rename(a, b)),
        (1u16..5000).prop_map(Step::Pipe),
        (1u16..5000).prop_map(Step::Take),
        Just(Step::Die),
    ];
    prop::collection::vec((step, prop::option::of((0u32..4, any::<bool>()))), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A course of operations comes out as if VFS had never died.
    #[test]
    fn as_if_nothing_had_happened(steps in steps()) {
        std::panic::set_hook(Box::new(|info| {
            if info.payload().downcast_ref::<&str>() != Some(&KILLED) {
                std::eprintln!("{info}");
            }
        }));
        let mut w = World::new(2);
        let mut files: Vec<Option<Vec<u8>>> = vec![None; 4];
        let pipe = w.call(0, &api::Pipe {}).unwrap();
        w.inherit(pipe.read);
        let (mut in_pipe, mut counter) = (Vec::new(), 0u8);
        let name = |f: u8| format!("/mnt/file{f}");
        for (step, kill) in steps {
            w.fat.kills_vfs.set(kill);
            match step {
                Step::Open(f, exclusive) => {
                    let flags = NEW | if exclusive { open::EXCLUSIVE } else { 0 };
                    let result = w.open(0, &name(f), flags);
                    match &mut files[f as usize] {
                        Some(_) if exclusive => prop_assert_eq!(result, Err(Error::Exist)),
                        file => {
                            file.get_or_insert_default();
                            let fd = result.unwrap();
                            w.call(0, &api::Close { fd }).unwrap();
                        }
                    }
                }
                Step::Append(f, n) => match w.open(0, &name(f), open::WRITE | open::APPEND) {
                    Ok(fd) => {
                        counter = counter.wrapping_add(1);
                        let data = vec![counter; n.into()];
                        prop_assert_eq!(w.write(0, fd, &data), Ok(n.into()));
                        files[f as usize].as_mut().unwrap().extend(&data);
                        w.call(0, &api::Close { fd }).unwrap();
                    }
                    Err(error) => {
                        prop_assert_eq!(error, Error::NoEnt);
                        prop_assert!(files[f as usize].is_none());
                    }
                },
                Step::Unlink(f) => {
                    let there = files[f as usize].take().is_some();
                    let expected = if there { Ok(()) } else { Err(Error::NoEnt) };
                    prop_assert_eq!(w.unlink(0, &name(f)), expected);
                }
                Step::Rename(a, b) => {
                    let result = w.rename(0, &name(a), &name(b));
                    prop_assert_eq!(result.is_ok(), files[a as usize].is_some());
                    if result.is_ok() && a != b {
                        files[b as usize] = files[a as usize].take();
                    }
                }
                Step::Pipe(n) if in_pipe.len() + usize::from(n) < 60_000 => {
                    counter = counter.wrapping_add(1);
                    let data = vec![counter; n.into()];
                    prop_assert_eq!(w.write(0, pipe.write, &data), Ok(n.into()));
                    in_pipe.extend(&data);
                }
                Step::Take(n) if !in_pipe.is_empty() => {
                    let data = w.read(1, pipe.read, n.into()).unwrap();
                    let rest = in_pipe.split_off(data.len());
                    prop_assert_eq!(data, core::mem::replace(&mut in_pipe, rest));
                }
                Step::Pipe(_) | Step::Take(_) => {}
                Step::Die => w.die(),
            }
            w.fat.kills_vfs.set(None);
        }
        for (f, file) in (0..).zip(&files) {
            match file {
                Some(data) => prop_assert_eq!(&w.content(&name(f)).unwrap(), data),
                None => prop_assert_eq!(w.content(&name(f)), Err(Error::NoEnt)),
            }
        }
        prop_assert_eq!(w.fat.holds.get(), 0);
    }
}
