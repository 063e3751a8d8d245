use crate::request::Request;
use crate::script::{Interpreter, interpreter};
use crate::status;
use crate::table::{Answer, Table};
use crate::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use xinim_abi::error::Error;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::ipc::ReplyToken;
use xinim_abi::services::pm::{FdMap, SpawnHeader};
use zerocopy::IntoBytes;

fn encode(path: &str, args: &[&str], env: &[&str], fds: &[(u32, u32)]) -> Vec<u8> {
    let header = SpawnHeader {
        argc: (args.len() as u32).into(),
        envc: (env.len() as u32).into(),
        fd_count: (fds.len() as u32).into(),
        reserved: 0.into(),
    };
    let mut bytes = header.as_bytes().to_vec();
    for text in core::iter::once(&path).chain(args).chain(env) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    for &(child, parent) in fds {
        bytes.extend_from_slice(FdMap { child: child.into(), parent: parent.into() }.as_bytes());
    }
    bytes
}

#[test]
fn a_request() {
    let bytes = encode("/bin/ls", &["ls", ""], &["A=1"], &[(0, 3), (1, 1)]);
    let request = Request::parse(&bytes).unwrap();
    assert_eq!(request.path, "/bin/ls");
    assert_eq!(request.args, ["ls", ""]);
    assert_eq!(request.env, ["A=1"]);
    assert_eq!(request.fds, [(0, 3), (1, 1)]);
    for cut in 0..bytes.len() {
        assert!(Request::parse(&bytes[..cut]).is_err(), "{cut}");
    }
    let twice = encode("/x", &[], &[], &[(1, 3), (1, 1)]);
    assert_eq!(Request::parse(&twice), Err(Error::BadF));
    assert_eq!(Request::parse(&encode("/x", &[], &[], &[(1024, 3)])), Err(Error::BadF));
    assert_eq!(Request::parse(&encode("", &[], &[], &[])), Err(Error::NoEnt));
    let long = "x".repeat(4096);
    assert_eq!(Request::parse(&encode(&long, &[], &[], &[])), Err(Error::NameTooLong));
    let many = vec![long.as_str(); 25];
    assert_eq!(Request::parse(&encode("/x", &many, &[], &[])), Err(Error::TooBig));
}

use alloc::string::ToString;

#[test]
fn scripts() {
    let sh = |argument| Some(Interpreter { path: "/bin/sh", argument });
    assert_eq!(interpreter(b"#!/bin/sh\necho"), sh(None));
    assert_eq!(interpreter(b"#! /bin/sh -e -x \n"), sh(Some("-e -x")));
    assert_eq!(interpreter(b"#!/bin/sh"), sh(None));
    assert_eq!(interpreter(b"#!sh\n"), None);
    assert_eq!(interpreter(b"echo\n"), None);
    assert_eq!(interpreter(b""), None);
    let long = ["#!/bin/", &"x".repeat(300)].concat().to_string();
    assert_eq!(interpreter(long.as_bytes()), None);
}

#[test]
fn statuses() {
    let of =
        |cause, code, vector| status::of(&Obituary { cause, code, vector, ..Default::default() });
    assert_eq!(of(cause::EXIT, 3, 0), 3);
    assert_eq!(of(cause::EXIT, -1, 0), 255);
    assert_eq!(of(cause::EXIT, 256, 0), 0);
    assert_eq!(of(cause::FAULT, 0, 14), 139);
    assert_eq!(of(cause::FAULT, 0, 6), 132);
    assert_eq!(of(cause::FAULT, 0, 0), 136);
    assert_eq!(of(cause::FAULT, 0, 3), 133);
    assert_eq!(of(cause::KILLED, 9, 0), 137);
    assert_eq!(of(cause::KILLED, -1, 0), 255);
}

fn token(n: u64) -> ReplyToken {
    ReplyToken(n)
}

#[test]
fn a_childs_end_is_told_once() {
    let mut t = Table::default();
    assert_eq!(t.wait(1, 0, false, token(1)), Some(Err(Error::Child)));
    t.add(10, 1);
    t.add(11, 1);
    assert_eq!(t.wait(1, 0, true, token(1)), Some(Err(Error::Again)));
    assert_eq!(t.wait(2, 10, false, token(1)), Some(Err(Error::Child)), "not its child");
    assert_eq!(t.died(10, 7), []);
    assert_eq!(t.died(10, 8), [], "told twice");
    assert_eq!(t.wait(1, 11, true, token(1)), Some(Err(Error::Again)));
    assert_eq!(t.wait(1, 0, false, token(1)), Some(Ok((10, 7))));
    assert_eq!(t.wait(1, 10, false, token(1)), Some(Err(Error::Child)));
    assert_eq!(t.wait(1, 11, false, token(2)), None);
    assert_eq!(t.wait(1, 0, false, token(3)), None);
    let answers = t.died(11, 0);
    assert_eq!(answers[0], Answer { token: token(2), result: Ok((11, 0)) });
    assert_eq!(answers[1], Answer { token: token(3), result: Err(Error::Child) });
}

#[test]
fn orphans_vanish() {
    let mut t = Table::default();
    t.add(10, 1);
    t.add(20, 10);
    t.add(21, 10);
    t.died(21, 0);
    assert_eq!(t.wait(10, 20, false, token(1)), None);
    // Neither the zombie nor the waiter outlives the parent; the orphan runs on.
    assert_eq!(t.died(10, 0), []);
    assert!(!t.contains(21) && t.is_running(20));
    assert_eq!(t.died(20, 0), []);
    assert!(!t.contains(20));
    assert_eq!(t.wait(1, 0, false, token(2)), Some(Ok((10, 0))));
}

#[test]
fn ctrl_c_ends_the_foreground_and_what_it_started() {
    let mut t = Table::default();
    t.add(10, 1);
    t.add(11, 10);
    t.add(12, 11);
    t.add(13, 1);
    assert_eq!(t.interrupted(), []);
    assert_eq!(t.set_foreground(2, 10), Err(Error::Child));
    t.set_foreground(1, 10).unwrap();
    assert_eq!(t.interrupted(), [10, 11, 12]);
    assert_eq!(t.family(1), [10, 13, 11, 12], "1 is no program itself");
    t.died(10, 130);
    assert_eq!(t.interrupted(), []);
    assert_eq!(t.set_foreground(1, 10), Ok(()), "it has just ended");
    t.set_foreground(1, 13).unwrap();
    t.set_foreground(1, 0).unwrap();
    assert_eq!(t.interrupted(), []);
}

#[test]
fn one_parent_cannot_fill_the_table() {
    let mut t = Table::default();
    for pid in 0..CHILDREN_MAX as u32 {
        t.room(1).unwrap();
        t.add(100 + pid, 1);
        t.died(100 + pid, 0);
    }
    assert_eq!(t.room(1), Err(Error::Again));
    assert_eq!(t.room(2), Ok(()));
    t.wait(1, 0, true, token(1)).unwrap().unwrap();
    assert_eq!(t.room(1), Ok(()));
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&bytes);
        let _ = interpreter(&bytes);
    }

    #[test]
    fn requests_come_back(
        path in "[a-z/]{1,20}",
        args in proptest::collection::vec("[a-z ]{0,9}", 0..5),
        env in proptest::collection::vec("[A-Z=]{0,9}", 0..5),
        fds in proptest::collection::btree_map(0u32..1024, any::<u32>(), 0..5),
    ) {
        let args: Vec<&str> = args.iter().map(|s| s.as_str()).collect();
        let env: Vec<&str> = env.iter().map(|s| s.as_str()).collect();
        let fds: Vec<_> = fds.into_iter().collect();
        let bytes = encode(&path, &args, &env, &fds);
        prop_assert_eq!(Request::parse(&bytes), Ok(Request { path: &path, args, env, fds }));
    }

    /// Every end is told exactly once: by a wait that finds it, or to one that waited.
    #[test]
    fn no_end_is_lost(steps in proptest::collection::vec((0u8..3, 0u32..6), 0..100)) {
        let mut t = Table::default();
        let (mut born, mut dead, mut told) = (0u32, 0usize, 0usize);
        let mut kept = 0u64;
        for (step, n) in steps {
            match step {
                0 => { born += 1; t.add(10 + born, 1); }
                1 => {
                    let pid = 10 + n;
                    if t.is_running(pid) { dead += 1; }
                    told += t.died(pid, n).iter().filter(|a| a.result.is_ok()).count();
                }
                _ => {
                    kept += 1;
                    let child = if n == 0 { 0 } else { 10 + n };
                    if let Some(Ok(_)) = t.wait(1, child, n % 2 == 0, token(kept)) { told += 1; }
                }
            }
        }
        let left = core::iter::from_fn(|| t.wait(1, 0, true, token(0))?.ok()).count();
        prop_assert_eq!(dead, told + left);
    }
}

mod identity {
    use crate::identity::{Identity, Triple};
    use xinim_abi::error::Error;
    use xinim_abi::services::vfs::KEEP_ID;

    const KEEP: Triple = Triple { real: KEEP_ID, effective: KEEP_ID, saved: KEEP_ID };

    #[test]
    fn root_becomes_anybody_and_nobody_comes_back() {
        let mut identity = Identity::default();
        identity.set_groups(&[5, 6]).unwrap();
        identity.set_gids(Triple::all(100)).unwrap();
        identity.set_uids(Triple::all(1000)).unwrap();
        assert_eq!(identity.set_uids(Triple { effective: 0, ..KEEP }), Err(Error::Perm));
        assert_eq!(identity.set_gids(Triple::all(0)), Err(Error::Perm));
        assert_eq!(identity.set_groups(&[]), Err(Error::Perm));
        assert_eq!(identity.set_uids(Triple::all(1000)), Ok(()));
    }

    #[test]
    fn set_id_programs_go_back_and_forth() {
        let user = Identity { uids: Triple::all(1000), ..Identity::default() };
        let mut program = user.clone().for_program(Some(0), None);
        assert!(program.is_root() && program.uids.real == 1000);
        program.set_uids(Triple { effective: 1000, ..KEEP }).unwrap();
        assert!(!program.is_root());
        program.set_uids(Triple { effective: 0, ..KEEP }).unwrap();
        assert!(program.is_root(), "the saved id is still there");
        program.set_uids(Triple::all(1000)).unwrap();
        assert_eq!(program.set_uids(Triple { effective: 0, ..KEEP }), Err(Error::Perm));
        assert_eq!(user.clone().for_program(None, None), user);
    }

    #[test]
    fn who_may_kill_whom() {
        let user = |id| Identity { uids: Triple::all(id), ..Identity::default() };
        assert!(user(0).may_kill(&user(5)) && user(5).may_kill(&user(5)));
        assert!(!user(5).may_kill(&user(0)) && !user(5).may_kill(&user(6)));
        // A set-user-ID program still is its starter's.
        assert!(user(5).may_kill(&user(5).for_program(Some(0), None)));
    }
}
