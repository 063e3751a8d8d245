//! File locks: the table against a byte-by-byte model, and through descriptors.

use std::collections::BTreeMap;
use std::prelude::v1::*;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::decode_reply;
use xinim_abi::ipc::ReplyToken;
use xinim_abi::services::vfs::lock::{OPEN_FILE, READ, TEST, UNLOCK, WAIT, WRITE};
use xinim_abi::services::vfs::{open, vfs as api};

use super::host::*;
use crate::Locking;
use crate::locks::{Lock, Locks, Owner};

fn range(owner: u32, start: u64, end: u64, exclusive: bool) -> Lock {
    Lock { owner: Owner::Process(owner), pid: owner, start, end, exclusive }
}

proptest! {
    /// Every byte is locked by exactly whom a model says, and grants never conflict.
    #[test]
    fn as_a_model_of_single_bytes(
        steps in prop::collection::vec((0u32..3, 0u64..12, 1u64..6, 0u32..3), 1..80),
    ) {
        let mut locks = Locks::new();
        let mut model: BTreeMap<(u64, u32), bool> = BTreeMap::new();
        for (owner, start, len, action) in steps {
            let end = start + len;
            if action == 2 {
                locks.release(0u8, Owner::Process(owner), start, end);
                model.retain(|&(at, who), _| who != owner || !(start..end).contains(&at));
            } else {
                let exclusive = action == 1;
                let clash = model.iter().any(|(&(at, who), &other)| {
                    who != owner && (start..end).contains(&at) && (exclusive || other)
                });
                let result = locks.take(0, range(owner, start, end, exclusive));
                prop_assert_eq!(result, if clash { Err(Error::Again) } else { Ok(()) });
                if !clash {
                    model.extend((start..end).map(|at| ((at, owner), exclusive)));
                }
            }
            let mut seen = BTreeMap::new();
            for (_, lock, waits) in locks.all() {
                prop_assert!(!waits);
                for at in lock.start..lock.end {
                    let twice = seen.insert((at, lock.pid), lock.exclusive);
                    prop_assert!(twice.is_none(), "an owner's locks never overlap");
                }
            }
            prop_assert_eq!(&seen, &model);
        }
    }
}

#[test]
fn waiting_in_a_circle_is_refused() {
    let mut locks = Locks::new();
    for (owner, file) in [(1, 10), (2, 20), (3, 30)] {
        locks.take(file, range(owner, 0, 1, true)).unwrap();
    }
    assert_eq!(locks.wait(20, range(1, 0, 1, true), ReplyToken(1)), Ok(()));
    assert_eq!(locks.wait(30, range(2, 0, 1, false), ReplyToken(2)), Ok(()));
    assert_eq!(locks.wait(10, range(3, 0, 1, true), ReplyToken(3)), Err(Error::Deadlk));
    // A lock of an open file is not of a process: no circle is seen.
    let file = Lock { owner: Owner::File(5), ..range(3, 0, 1, true) };
    assert_eq!(locks.wait(10, file, ReplyToken(3)), Ok(()));
    let granted = locks.release(30, Owner::Process(3), 0, 9);
    assert_eq!(granted.iter().map(|w| w.token.0).collect::<Vec<_>>(), [2]);
}

fn ask(vfs: &mut Direct, pid: u32, fd: u32, kind: u32, start: u64, len: u64) -> Result<Locking> {
    vfs.lock(pid, &api::Lock { fd, kind, start, len }, ReplyToken(u64::from(pid)))
}

/// Whether the request of `pid` that waited was answered with success.
fn answered(vfs: &mut Direct, pid: u32) -> bool {
    let mut host = vfs.host().inner();
    let found = host.replies.iter().position(|reply| reply.0.0 == u64::from(pid));
    found
        .and_then(|at| host.replies.remove(at))
        .is_some_and(|(_, message)| decode_reply::<api::Locked>(&message).is_ok())
}

fn world() -> (Direct, u32, u32) {
    let (mut vfs, _) = vfs();
    vfs.add_process(11);
    let one = vfs.open(PID, b"/f", NEW, 0o644).unwrap();
    vfs.link(PID, b"/f", b"/g").unwrap();
    // The same file by another name.
    let two = vfs.open(11, b"/g", RW, 0).unwrap();
    (vfs, one, two)
}

#[test]
fn ranges_between_processes() {
    let (mut vfs, one, two) = world();
    assert!(ask(&mut vfs, PID, one, WRITE, 10, 10).is_ok());
    assert_eq!(ask(&mut vfs, 11, two, READ, 15, 1), Err(Error::Again));
    assert!(ask(&mut vfs, 11, two, WRITE, 20, 0).is_ok());
    let found = ask(&mut vfs, 11, two, READ | TEST, 0, 0).unwrap();
    let expected = api::Locked { kind: WRITE, pid: PID, start: 10, len: 10 };
    assert_eq!(found, Locking::Done(expected));
    assert_eq!(ask(&mut vfs, 11, two, WRITE | WAIT, 12, 1), Ok(Locking::Waits));
    // The other way round would never end.
    assert_eq!(ask(&mut vfs, PID, one, READ | WAIT, 25, 1), Err(Error::Deadlk));
    assert!(ask(&mut vfs, PID, one, UNLOCK, 10, 2).is_ok() && !answered(&mut vfs, 11));
    assert!(ask(&mut vfs, PID, one, READ, 12, 3).is_ok(), "its own lock is no hindrance");
    assert!(!answered(&mut vfs, 11));
    // Closing any descriptor of the file gives its locks up.
    let other = vfs.open(PID, b"/g", open::READ, 0).unwrap();
    vfs.close(PID, other).unwrap();
    assert!(answered(&mut vfs, 11));
    // Death does too.
    assert_eq!(ask(&mut vfs, PID, one, WRITE | WAIT, 12, 1), Ok(Locking::Waits));
    vfs.remove_process(11);
    assert!(answered(&mut vfs, PID));
    assert_eq!(
        vfs.locks_text(),
        "process write 10 1:4098 12 12\n".replace("4098", &{
            let ino = vfs.stat(PID, b"/f", true).unwrap().ino;
            std::format!("{ino}")
        })
    );
}

#[test]
fn whole_files_belong_to_open_files() {
    let (mut vfs, one, two) = world();
    let exclusive = WRITE | OPEN_FILE;
    assert!(ask(&mut vfs, PID, one, exclusive, 0, 0).is_ok());
    assert_eq!(ask(&mut vfs, 11, two, READ | OPEN_FILE, 0, 0), Err(Error::Again));
    // A second open file of the same process is another owner; a duplicate is not.
    let again = vfs.open(PID, b"/f", RW, 0).unwrap();
    assert_eq!(ask(&mut vfs, PID, again, exclusive, 0, 0), Err(Error::Again));
    let dup = vfs.dup(PID, one, 0).unwrap();
    assert!(ask(&mut vfs, PID, dup, READ | OPEN_FILE, 0, 0).is_ok());
    assert!(ask(&mut vfs, 11, two, READ | OPEN_FILE, 0, 0).is_ok());
    assert_eq!(ask(&mut vfs, 11, two, exclusive | WAIT, 0, 0), Ok(Locking::Waits));
    vfs.close(PID, one).unwrap();
    assert!(!answered(&mut vfs, 11), "the duplicate keeps it");
    vfs.close(PID, dup).unwrap();
    assert!(answered(&mut vfs, 11));
}

#[test]
fn what_cannot_be_locked() {
    let (mut vfs, one, _) = world();
    let read_only = vfs.open(PID, b"/f", open::READ, 0).unwrap();
    assert_eq!(ask(&mut vfs, PID, read_only, WRITE, 0, 1), Err(Error::BadF));
    assert!(ask(&mut vfs, PID, read_only, WRITE | OPEN_FILE, 0, 0).is_ok());
    let (end, _) = vfs.pipe(PID).unwrap();
    assert_eq!(ask(&mut vfs, PID, end, READ, 0, 1), Err(Error::Inval));
    assert_eq!(ask(&mut vfs, PID, one, READ, u64::MAX, 2), Err(Error::Overflow));
    for kind in [3, 99, UNLOCK | TEST] {
        assert_eq!(ask(&mut vfs, PID, one, kind, 0, 1), Err(Error::Inval));
    }
    assert_eq!(ask(&mut vfs, PID, 77, READ, 0, 1), Err(Error::BadF));
}
