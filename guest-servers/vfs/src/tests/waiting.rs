//! Requests that wait, or must not: named pipes, non-blocking ends, polls; attached descriptors and
//! files in memory, which end with their last user.

use std::prelude::v1::*;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Name, decode_reply};
use xinim_abi::ipc::BADGE_ADMIN;
use xinim_abi::services::pm::FdMap;
use xinim_abi::services::vfs::vfs as api;
use xinim_abi::services::vfs::{INHERIT_ALL, PollFd, Stat, control, lock, mode, open, poll};
use zerocopy::{FromBytes, IntoBytes};

use super::host::*;
use super::messages::{Clients, WINDOW};
use crate::pipe::CAPACITY;

fn fifo(c: &mut Clients) {
    c.put(0, 0, b"/p");
    c.call(0, &api::Mknod { path_len: 2, mode: mode::FIFO | 0o644, rdev: 0 }).unwrap();
}

fn open_waits(c: &mut Clients, client: u32, flags: u32) -> u64 {
    c.put(client, 0, b"/p");
    c.waits(client, &api::Open { path_len: 2, flags, mode: 0 })
}

#[test]
fn named_pipes_wait_for_their_other_end() {
    let mut c = Clients::new(2);
    fifo(&mut c);
    let token = open_waits(&mut c, 0, open::READ);
    let write = c.open(1, "/p", open::WRITE).unwrap();
    let read = c.answered::<api::Open>(token).unwrap().unwrap().fd;
    assert_eq!(c.write(1, write, b"hello"), Ok(5));
    assert_eq!(c.read(0, read, 10).unwrap(), b"hello");
    c.call(0, &api::Fstat { fd: read }).unwrap();
    let stat = Stat::read_from_bytes(&c.get(0, 0, size_of::<Stat>())).unwrap();
    assert_eq!(stat.mode & mode::TYPE_MASK, mode::FIFO);
    // The end, and a broken pipe, come with the last of the other side.
    c.call(1, &api::Close { fd: write }).unwrap();
    assert_eq!(c.read(0, read, 10).unwrap(), b"");
    let write = c.open(1, "/p", open::WRITE).unwrap();
    c.call(0, &api::Close { fd: read }).unwrap();
    assert_eq!(c.write(1, write, b"x"), Err(Error::Pipe));
    c.call(1, &api::Close { fd: write }).unwrap();
    // The other way round; and both ends at once wait for nobody.
    let token = open_waits(&mut c, 1, open::WRITE);
    let read = c.open(0, "/p", open::READ).unwrap();
    assert!(c.answered::<api::Open>(token).unwrap().is_ok());
    assert!(c.open(0, "/p", open::READ_WRITE).is_ok());
    c.call(0, &api::Close { fd: read }).unwrap();
}

#[test]
fn named_pipes_without_waiting() {
    let mut c = Clients::new(2);
    fifo(&mut c);
    let nonblock = open::NONBLOCK;
    assert_eq!(c.open(0, "/p", open::WRITE | nonblock), Err(Error::NxIo), "nobody reads");
    let read = c.open(0, "/p", open::READ | nonblock).unwrap();
    assert_eq!(c.read(0, read, 10).unwrap(), b"", "no writer: the end");
    let write = c.open(1, "/p", open::WRITE | nonblock).unwrap();
    assert_eq!(c.read(0, read, 10), Err(Error::Again));
    // As much as there is room for, then nothing.
    c.put(1, 0, &std::vec![7; CAPACITY + 5000]);
    let request = api::Write { fd: write, offset: -1, at: 0, len: (CAPACITY + 5000) as u32 };
    assert_eq!(c.call(1, &request).unwrap().count, CAPACITY as u64);
    assert_eq!(c.call(1, &request), Err(Error::Again));
    let available = api::Control { fd: read, operation: control::AVAILABLE, argument: 0 };
    assert_eq!(c.call(0, &available).unwrap().value, CAPACITY as u64);
    // The flag can change.
    let flags = |operation, argument| api::Control { fd: read, operation, argument };
    assert_eq!(c.call(0, &flags(control::GET_FLAGS, 0)).unwrap().value, nonblock.into());
    c.call(0, &flags(control::SET_FLAGS, open::WRITE.into())).unwrap();
    assert_eq!(c.call(0, &flags(control::GET_FLAGS, 0)).unwrap().value, 0);
    assert_eq!(c.read(0, read, WINDOW as u32 - 100).unwrap().len(), CAPACITY);
    c.waits(0, &api::Read { fd: read, offset: -1, at: 0, len: 1 });
}

#[test]
fn who_dies_opens_nothing() {
    let mut c = Clients::new(2);
    fifo(&mut c);
    let token = open_waits(&mut c, 0, open::READ);
    c.server.process_died(PID);
    open_waits(&mut c, 1, open::WRITE);
    assert!(c.answer(token).is_none());
    // The name is free to go while it is open.
    c.put(1, 0, b"/p");
    assert!(c.call(1, &api::Unlink { path_len: 2, directory: false }).is_ok());
}

fn ask(c: &mut Clients, client: u32, fds: &mut [PollFd]) -> Result<u32> {
    c.put(client, 0, fds.as_bytes());
    let ready = c.call(client, &api::Poll { count: fds.len() as u32, bit: 3, notify: 900 })?.ready;
    let bytes = c.get(client, 0, size_of_val(fds));
    fds.as_mut_bytes().copy_from_slice(&bytes);
    Ok(ready)
}

#[test]
fn polls() {
    let mut c = Clients::new(2);
    let (read, write) = c.shared_pipe();
    let file = c.open(1, "/f", open::READ_WRITE | open::CREATE).unwrap();
    let tty = c.open(1, "/dev/tty", open::READ).unwrap();
    let wish = |fd, events| PollFd { fd, events, ready: 0 };
    let notified = |c: &mut Clients| {
        let host = c.server.with(|vfs| vfs.host().clone());
        core::mem::take(&mut host.inner().notified)
    };
    let mut fds = [wish(read, poll::IN), wish(tty, poll::IN), wish(99, 0), wish(file, poll::OUT)];
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(2));
    assert_eq!(fds.map(|fd| fd.ready), [0, poll::ELSEWHERE, poll::INVALID, poll::OUT]);
    c.write(0, write, b"x").unwrap();
    assert!(notified(&mut c).is_empty(), "something was ready: nobody waits");
    let mut fds = [wish(read, poll::IN)];
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(1));
    c.read(1, read, 10).unwrap();
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(0));
    // Twice with one bit counts once.
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(0));
    c.write(0, write, b"y").unwrap();
    c.write(0, write, b"z").unwrap();
    assert_eq!(notified(&mut c), [(900, 1 << 3)]);
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(1));
    c.read(1, read, 10).unwrap();
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(0));
    c.call(0, &api::Close { fd: write }).unwrap();
    assert_eq!(notified(&mut c).len(), 1);
    assert_eq!(ask(&mut c, 1, &mut fds), Ok(1));
    assert_eq!(fds[0].ready, poll::HANG_UP);
    let too_many = api::Poll { count: 5000, bit: 0, notify: 900 };
    assert_eq!(c.call(1, &too_many), Err(Error::Inval));
}

#[test]
fn attached_objects_end_with_their_last_descriptor() {
    let mut c = Clients::new(2);
    let attach = |name, flags| api::Attach { server: Name::new(name).unwrap(), cookie: 42, flags };
    assert_eq!(c.call(0, &attach("nobody", 0)), Err(Error::NxIo));
    let fd = c.call(0, &attach("net", open::CLOSE_ON_EXEC)).unwrap().fd;
    assert_eq!(c.write(0, fd, b"x"), Err(Error::Redirect));
    let answer = c.call(0, &api::Redirect { fd }).unwrap();
    assert_eq!((answer.cookie, answer.endpoint), (42, 88));
    c.call(0, &api::Fstat { fd }).unwrap();
    let stat = Stat::read_from_bytes(&c.get(0, 0, size_of::<Stat>())).unwrap();
    assert_eq!(stat.mode & mode::TYPE_MASK, mode::SOCKET);
    let dup = c.call(0, &api::Dup { fd, at_least: 5 }).unwrap().fd;
    // A child gets all that is not to be closed on exec: the duplicate.
    let all = FdMap { child: INHERIT_ALL.into(), parent: INHERIT_ALL.into() };
    c.put(0, 0, all.as_bytes());
    let inherit = api::Inherit { parent: PID, child: PID + 1, count: 1 };
    let (_, answer) = c.send(0, BADGE_ADMIN, &inherit);
    decode_reply::<api::Inherited>(&answer.unwrap()).unwrap();
    c.call(1, &api::Connect { len: WINDOW as u64, window: 101 }).unwrap();
    assert_eq!(c.call(1, &api::Fstat { fd }), Err(Error::BadF));
    c.call(0, &api::Close { fd }).unwrap();
    c.call(0, &api::Close { fd: dup }).unwrap();
    let host = c.server.with(|vfs| vfs.host().clone());
    assert!(host.inner().attached_closed.is_empty());
    c.server.process_died(PID + 1);
    assert_eq!(host.inner().attached_closed, [("net".into(), 42)]);
}

/// Other services learn from VFS who a process is, and only what VFS itself believes.
#[test]
fn vouching_for_a_process() {
    let mut c = Clients::new(2);
    let vouch = |name| api::Vouch { server: Name::new(name).unwrap() };
    assert_eq!(c.call(0, &vouch("nobody")), Err(Error::NxIo));
    c.call(0, &vouch("net")).unwrap();
    let user = api::Identify { pid: PID, uid: 1000, gid: 100, count: 0 };
    let (_, answer) = c.send(1, BADGE_ADMIN, &user);
    decode_reply::<api::Identified>(&answer.unwrap()).unwrap();
    c.call(0, &vouch("net")).unwrap();
    let host = c.server.with(|vfs| vfs.host().clone());
    assert_eq!(host.inner().vouched, [(PID, 0), (PID, 1000)]);
}

#[test]
fn files_in_memory() {
    let mut c = Clients::new(2);
    let fd = c.open(0, "/f", open::READ_WRITE | open::CREATE).unwrap();
    c.write(0, fd, &[1; 10_000]).unwrap();
    let other = c.open(1, "/f", open::READ).unwrap();
    assert_eq!(c.call(1, &api::Share { fd: other, writable: true }), Err(Error::Access));
    let shared = c.call(0, &api::Share { fd, writable: true }).unwrap();
    assert_eq!(shared.len, 10_000);
    let again = c.call(1, &api::Share { fd: other, writable: false }).unwrap();
    assert_eq!(again.memory, shared.memory, "one memory for all");
    let host = c.server.with(|vfs| vfs.host().clone());
    let memory = host.inner().windows[&shared.memory].clone();
    assert!(memory.0.borrow()[..10_000].iter().all(|&byte| byte == 1));
    // From file to memory, and back.
    c.call(0, &api::Seek { fd, offset: 4000, whence: 0 }).unwrap();
    c.write(0, fd, &[2; 200]).unwrap();
    assert_eq!(memory.0.borrow()[3999..4001], [1, 2]);
    memory.0.borrow_mut()[9000] = 9;
    let request = api::Read { fd: other, offset: 9000, at: 0, len: 2 };
    assert_eq!(c.call(1, &request).unwrap().count, 2);
    assert_eq!(c.get(1, 0, 2), [9, 1]);
    c.call(0, &api::Ftruncate { fd, size: 9500 }).unwrap();
    assert_eq!(memory.0.borrow()[9500..9600], [0; 100]);
    // What was written last is there after the last one died.
    memory.0.borrow_mut()[0] = 77;
    memory.0.borrow_mut()[9990] = 77;
    c.server.process_died(PID);
    c.server.process_died(PID + 1);
    assert!(host.inner().closed.contains(&shared.memory));
    c.server.with(|vfs| {
        vfs.add_process(70);
        let fd = vfs.open(70, b"/f", open::READ, 0).unwrap();
        let mut bytes = [0; 9600];
        let mut out = &mut bytes[..];
        let done = vfs.read(70, fd, 0, 9600, &mut out).unwrap();
        assert_eq!(done, crate::Transfer::Done(9500), "it never makes a file longer");
        assert_eq!((bytes[0], bytes[1], bytes[4000], bytes[9000]), (77, 1, 2, 9));
    });
}

#[test]
fn locks_wait_through_messages() {
    let mut c = Clients::new(2);
    let one = c.open(0, "/f", open::READ_WRITE | open::CREATE).unwrap();
    let two = c.open(1, "/f", open::READ_WRITE).unwrap();
    let request = |fd, kind| api::Lock { fd, kind, start: 0, len: 0 };
    c.call(0, &request(one, lock::WRITE)).unwrap();
    let token = c.waits(1, &request(two, lock::WRITE | lock::WAIT));
    c.server.process_died(PID);
    assert_eq!(c.answered::<api::Lock>(token).unwrap().unwrap().kind, lock::WRITE);
}

/// A worker that went astray has the state and never gives it back. Whoever waits for it must not wait for ever:
/// the death of VFS is survived, and this is not.
#[test]
#[should_panic(expected = "the state does not come back")]
fn a_state_that_is_lost_ends_the_server() {
    let (vfs, _) = vfs();
    let astray = vfs.into_inner();
    let mut worker = astray.another();
    core::mem::forget(astray);
    worker.enter();
}
