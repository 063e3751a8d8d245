//! The server: messages, windows, pipes that wait.

use std::cell::RefCell;
use std::prelude::v1::*;
use std::rc::Rc;
use std::vec;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Request, decode_reply};
use xinim_abi::ipc::{BADGE_ADMIN, Message, ReplyToken, Tag, WORDS};
use xinim_abi::services::vfs::vfs as api;
use xinim_abi::services::vfs::{Stat, mode, open};
use zerocopy::{FromBytes, IntoBytes};

use super::host::*;
use crate::pipe::{ATOMIC, CAPACITY};
use crate::server::{Caller, Server};

pub(super) const WINDOW: usize = 256 * 1024;

pub(super) struct Clients {
    pub server: Server<TestHost>,
    windows: Vec<TestWindow>,
    next_token: u64,
}

impl Clients {
    /// Processes 10, 11, … with a window each.
    pub fn new(count: u32) -> Self {
        let (mut vfs, _) = vfs();
        with_devices(&mut vfs);
        vfs.remove_process(PID);
        let mut clients =
            Self { server: Server::new(vfs.into_inner()), windows: Vec::new(), next_token: 1 };
        for n in 0..count {
            let window = TestWindow(Rc::new(RefCell::new(vec![0; WINDOW])));
            clients.windows.push(window.clone());
            clients.server.with(|vfs| vfs.host().clone()).inner().windows.insert(100 + n, window);
            clients.call(n, &api::Connect { len: WINDOW as u64, window: 100 + n }).unwrap();
        }
        clients
    }

    pub fn send<R: Request>(
        &mut self,
        client: u32,
        badge: u64,
        request: &R,
    ) -> (u64, Option<Message>) {
        let token = self.next_token;
        self.next_token += 1;
        let caller = Caller { pid: PID + client, badge, token: ReplyToken(token) };
        (token, self.server.call(caller, &request.encode()))
    }

    pub fn call<R: Request>(&mut self, client: u32, request: &R) -> Result<R::Reply> {
        let (token, answer) = self.send(client, 0, request);
        decode_reply(&answer.or_else(|| self.answer(token)).expect("it waits"))
    }

    /// A request that has to wait: its token.
    pub fn waits<R: Request>(&mut self, client: u32, request: &R) -> u64 {
        let (token, answer) = self.send(client, 0, request);
        assert!(answer.or_else(|| self.answer(token)).is_none(), "it should wait");
        token
    }

    pub fn answer(&mut self, token: u64) -> Option<Message> {
        let host = self.server.with(|vfs| vfs.host().clone());
        let replies = &mut host.inner().replies;
        let at = replies.iter().position(|reply| reply.0 == ReplyToken(token))?;
        Some(replies.remove(at).unwrap().1)
    }

    pub fn answered<R: Request>(&mut self, token: u64) -> Option<Result<R::Reply>> {
        self.answer(token).map(|message| decode_reply(&message))
    }

    pub fn put(&mut self, client: u32, at: usize, bytes: &[u8]) {
        self.windows[client as usize].0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn get(&self, client: u32, at: usize, len: usize) -> Vec<u8> {
        self.windows[client as usize].0.borrow()[at..at + len].to_vec()
    }

    pub fn open(&mut self, client: u32, path: &str, flags: u32) -> Result<u32> {
        self.put(client, 0, path.as_bytes());
        let request = api::Open { path_len: path.len() as u32, flags, mode: 0o644 };
        self.call(client, &request).map(|reply| reply.fd)
    }

    pub fn write(&mut self, client: u32, fd: u32, data: &[u8]) -> Result<u64> {
        self.put(client, 5000, data);
        let request = api::Write { fd, offset: -1, at: 5000, len: data.len() as u32 };
        self.call(client, &request).map(|reply| reply.count)
    }

    pub fn read(&mut self, client: u32, fd: u32, len: u32) -> Result<Vec<u8>> {
        let count = self.call(client, &api::Read { fd, offset: -1, at: 70, len })?.count;
        Ok(self.get(client, 70, count as usize))
    }

    /// Gives client 1 the ends of a pipe of client 0 as descriptors 0 and 1, and leaves the
    /// writing one with client 0, the reading one with client 1.
    pub fn shared_pipe(&mut self) -> (u32, u32) {
        let pipe = self.call(0, &api::Pipe {}).unwrap();
        let map: [u32; 2] = [0, pipe.read];
        self.put(0, 0, map.as_bytes());
        let request = api::Inherit { parent: PID, child: PID + 1, count: 1 };
        let (_, answer) = self.send(0, BADGE_ADMIN, &request);
        decode_reply::<api::Inherited>(&answer.unwrap()).unwrap();
        self.call(1, &api::Connect { len: WINDOW as u64, window: 101 }).unwrap();
        self.call(0, &api::Close { fd: pipe.read }).unwrap();
        (0, pipe.write)
    }
}

#[test]
fn files_through_windows() {
    let mut c = Clients::new(1);
    let fd = c.open(0, "/f", open::READ_WRITE | open::CREATE).unwrap();
    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    assert_eq!(c.write(0, fd, &data), Ok(100_000));
    assert_eq!(c.call(0, &api::Seek { fd, offset: 0, whence: 0 }).unwrap().position, 0);
    assert!(c.read(0, fd, 200_000).unwrap() == data);
    c.call(0, &api::Fstat { fd }).unwrap();
    let stat = Stat::read_from_bytes(&c.get(0, 0, size_of::<Stat>())).unwrap();
    assert_eq!((stat.size, stat.mode), (100_000, mode::REGULAR | 0o644));
    c.put(0, 0, b"/f/link");
    c.call(0, &api::Symlink { target_len: 2, path_len: 5 }).unwrap();
    c.put(0, 0, b"/link");
    assert_eq!(c.call(0, &api::Readlink { path_len: 5 }).unwrap().len, 2);
    assert_eq!(c.get(0, 0, 2), b"/f");
    c.put(0, 0, b"/dev");
    c.call(0, &api::Chdir { path_len: 4 }).unwrap();
    assert_eq!(c.call(0, &api::Getcwd {}).unwrap().len, 4);
    let len = c.call(0, &api::Mounts {}).unwrap().len as usize;
    assert_eq!(c.get(0, 0, len), b"root / ramfs rw\ndevfs /dev devfs rw\n");
}

#[test]
fn bounds_are_checked() {
    let mut c = Clients::new(1);
    let fd = c.open(0, "/f", open::READ_WRITE | open::CREATE).unwrap();
    let end = WINDOW as u32;
    for (at, len) in [(end, 1), (end - 1, 2), (u32::MAX, u32::MAX), (0, end + 1)] {
        assert_eq!(c.call(0, &api::Write { fd, offset: -1, at, len }), Err(Error::Fault));
        assert_eq!(c.call(0, &api::Read { fd, offset: -1, at, len }), Err(Error::Fault));
        assert_eq!(c.call(0, &api::Readdir { fd, at, len }), Err(Error::Fault));
    }
    let long = api::Open { path_len: u32::MAX, flags: 0, mode: 0 };
    assert_eq!(c.call(0, &long), Err(Error::NameTooLong));
    // Without a window nothing with a path works.
    let (_, answer) = c.send(5, 0, &api::Stat { path_len: 1, follow: true });
    assert_eq!(decode_reply::<api::StatDone>(&answer.unwrap()), Err(Error::Fault));
    for len in [0, u64::MAX, (WINDOW + 1) as u64] {
        assert_eq!(c.call(0, &api::Connect { len, window: 100 }), Err(Error::Inval));
    }
}

#[test]
fn only_the_process_manager_may() {
    let mut c = Clients::new(2);
    let inherit = api::Inherit { parent: PID, child: PID + 1, count: 0 };
    assert_eq!(c.call(0, &inherit), Err(Error::Perm));
    let open_for = api::OpenFor { parent: PID + 1, path_len: 1 };
    assert_eq!(c.call(0, &open_for), Err(Error::Perm));
    c.put(0, 0, b"/");
    let (_, answer) = c.send(0, BADGE_ADMIN, &open_for);
    assert_eq!(decode_reply::<api::OpenedFor>(&answer.unwrap()), Err(Error::Access));
    let (_, answer) = c.send(0, BADGE_ADMIN, &api::Inherit { count: u32::MAX, ..inherit });
    assert_eq!(decode_reply::<api::Inherited>(&answer.unwrap()), Err(Error::Inval));
    // A child that is dead already leaves nothing behind.
    c.server.with(|vfs| vfs.host().clone()).inner().dead.push(50);
    let (_, answer) = c.send(0, BADGE_ADMIN, &api::Inherit { child: 50, ..inherit });
    assert_eq!(decode_reply::<api::Inherited>(&answer.unwrap()), Err(Error::Srch));
    assert_eq!(c.server.with(|vfs| vfs.getcwd(50)), Err(Error::Fault));
}

#[test]
fn handles_are_closed_after_the_reply() {
    let mut c = Clients::new(1);
    let fd = c.open(0, "/dev/tty", open::READ_WRITE).unwrap();
    assert_eq!(c.write(0, fd, b"x"), Err(Error::Redirect));
    let answer = c.call(0, &api::Redirect { fd }).unwrap();
    assert_eq!((answer.cookie, answer.endpoint), (5, 77));
    assert_eq!(c.server.with(|vfs| vfs.host().clone()).inner().closed, [77, 77]);
}

#[test]
fn readers_wait_for_writers() {
    let mut c = Clients::new(2);
    let (read, write) = c.shared_pipe();
    let token = c.waits(1, &api::Read { fd: read, offset: -1, at: 0, len: 100 });
    assert_eq!(c.write(0, write, b"hello"), Ok(5));
    assert_eq!(c.answered::<api::Read>(token).unwrap().unwrap().count, 5);
    assert_eq!(c.get(1, 0, 5), b"hello");
    // What is left stays for the next read; the end comes with the last writer.
    c.write(0, write, b"abcdef").unwrap();
    assert_eq!(c.read(1, read, 4).unwrap(), b"abcd");
    let dup = c.call(0, &api::Dup { fd: write, at_least: 0 }).unwrap().fd;
    c.call(0, &api::Close { fd: write }).unwrap();
    assert_eq!(c.read(1, read, 10).unwrap(), b"ef");
    let token = c.waits(1, &api::Read { fd: read, offset: -1, at: 0, len: 100 });
    c.call(0, &api::Close { fd: dup }).unwrap();
    assert_eq!(c.answered::<api::Read>(token).unwrap().unwrap().count, 0);
    assert_eq!(c.read(1, read, 10).unwrap(), b"");
    assert_eq!(c.call(1, &api::Seek { fd: read, offset: 0, whence: 0 }), Err(Error::SPipe));
    assert_eq!(c.call(1, &api::Write { fd: read, offset: -1, at: 0, len: 1 }), Err(Error::BadF));
}

#[test]
fn writers_wait_for_room() {
    let mut c = Clients::new(2);
    let (read, write) = c.shared_pipe();
    let data: Vec<u8> = (0..200_000u32).map(|n| (n / 3) as u8).collect();
    c.put(0, 0, &data);
    let len = data.len() as u32;
    let token = c.waits(0, &api::Write { fd: write, offset: -1, at: 0, len });
    let mut got = Vec::new();
    while got.len() < data.len() {
        assert!(c.answer(token).is_none() || got.len() + CAPACITY >= data.len());
        got.extend(c.read(1, read, 30_000).unwrap());
    }
    assert!(got == data);
}

#[test]
fn short_writes_are_not_split() {
    let mut c = Clients::new(2);
    let (read, write) = c.shared_pipe();
    assert_eq!(c.write(0, write, &vec![1; CAPACITY - 10]), Ok((CAPACITY - 10) as u64));
    let short = vec![2; ATOMIC];
    c.put(0, 0, &short);
    let request = api::Write { fd: write, offset: -1, at: 0, len: ATOMIC as u32 };
    let token = c.waits(0, &request);
    assert_eq!(c.read(1, read, (CAPACITY - 10) as u32).unwrap().len(), CAPACITY - 10);
    assert_eq!(c.answered::<api::Write>(token).unwrap().unwrap().count, ATOMIC as u64);
    assert_eq!(c.read(1, read, 100_000).unwrap(), short);
}

#[test]
fn broken_pipes() {
    let mut c = Clients::new(2);
    let (read, write) = c.shared_pipe();
    c.put(0, 0, &vec![1; CAPACITY + 10_000]);
    let len = (CAPACITY + 10_000) as u32;
    let partly = c.waits(0, &api::Write { fd: write, offset: -1, at: 0, len });
    let whole = c.waits(0, &api::Write { fd: write, offset: -1, at: 0, len: 10 });
    c.call(1, &api::Close { fd: read }).unwrap();
    assert_eq!(c.answered::<api::Write>(partly).unwrap().unwrap().count, CAPACITY as u64);
    assert_eq!(c.answered::<api::Write>(whole).unwrap(), Err(Error::Pipe));
    assert_eq!(c.write(0, write, b"x"), Err(Error::Pipe));
}

#[test]
fn the_dead_wait_no_more() {
    let mut c = Clients::new(2);
    let (read, write) = c.shared_pipe();
    // A reader dies while it waits: the writer must not be told that somebody read.
    let token = c.waits(1, &api::Read { fd: read, offset: -1, at: 0, len: 100 });
    c.server.process_died(PID + 1);
    assert_eq!(c.write(0, write, b"x"), Err(Error::Pipe));
    assert!(c.answer(token).is_none());
    // A writer dies: the reader sees the end.
    let mut c = Clients::new(2);
    let (read, _) = c.shared_pipe();
    let token = c.waits(1, &api::Read { fd: read, offset: -1, at: 0, len: 100 });
    c.server.process_died(PID);
    assert_eq!(c.answered::<api::Read>(token).unwrap().unwrap().count, 0);
}

proptest! {
    #[test]
    fn any_message_is_answered_or_waits(
        messages in prop::collection::vec((1u64..56, 0u64..3, any::<[u16; WORDS]>(), any::<bool>()), 1..60),
        text in "[a-c/.]{0,40}",
    ) {
        let mut c = Clients::new(2);
        c.put(0, 0, text.as_bytes());
        for (op, handles, words, wild) in messages {
            let words = words.map(|word| match wild {
                true => u64::from(word) << 48 | u64::from(word),
                false => u64::from(word % 24),
            });
            let message = Message { tag: Tag::new((api::INTERFACE << 8) | op as u16, handles), words };
            let caller = Caller { pid: PID, badge: BADGE_ADMIN, token: ReplyToken(1) };
            c.server.call(caller, &message);
        }
        c.server.process_died(PID);
        c.server.process_died(PID + 1);
    }
}
