//! Random operations of two processes on two mounts, compared with a plain model; file-system
//! servers die in between, and descriptors stay open across unlinking and renaming.

use std::collections::{BTreeMap, BTreeSet};
use std::prelude::v1::*;
use std::vec;

use proptest::prelude::*;
use xinim_abi::error::Error;
use xinim_abi::services::vfs::open;

use super::host::*;

const PATHS: [&str; 8] = ["/a", "/b", "/d/a", "/d/b", "/mnt/a", "/mnt/b", "/mnt/e/a", "/mnt/e/c"];

#[derive(Clone, Debug)]
enum Op {
    Open(usize, bool),
    Close(usize),
    Write(usize, u64, u8, usize),
    Read(usize, u64, usize),
    Unlink(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Truncate(usize, u64),
    Die(u32, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let path = 0..PATHS.len();
    let file = 0..6usize;
    prop_oneof![
        4 => (path.clone(), any::<bool>()).prop_map(|(p, c)| Op::Open(p, c)),
        2 => file.clone().prop_map(Op::Close),
        4 => (file.clone(), 0..6000u64, 1u8.., 1..6000usize).prop_map(|(f, o, v, l)| Op::Write(f, o, v, l)),
        3 => (file, 0..8000u64, 0..8000usize).prop_map(|(f, o, l)| Op::Read(f, o, l)),
        2 => path.clone().prop_map(Op::Unlink),
        3 => (path.clone(), path.clone()).prop_map(|(f, t)| Op::Rename(f, t)),
        1 => (path.clone(), path.clone()).prop_map(|(f, t)| Op::Link(f, t)),
        1 => (path, 0..8000u64).prop_map(|(p, s)| Op::Truncate(p, s)),
        2 => (0..4u32, any::<bool>()).prop_map(|(n, l)| Op::Die(n, l)),
    ]
}

/// An open descriptor and the body it stands for.
struct Opened {
    fd: u32,
    body: usize,
}

#[derive(Default)]
struct Model {
    names: BTreeMap<usize, usize>,
    bodies: Vec<Vec<u8>>,
    open: Vec<Opened>,
    /// Bodies that had two names: after a death a descriptor is found again only by the name it
    /// was opened by.
    linked: BTreeSet<usize>,
    /// Bodies that an instance may have written although the writer was told that it is stale.
    unsure: BTreeSet<usize>,
}

impl Model {
    /// Only a file that has lost its name may be lost with its server.
    fn may_be_stale(&self, body: usize) -> bool {
        self.linked.contains(&body) || !self.names.values().any(|named| *named == body)
    }
}

fn on_mnt(path: usize) -> bool {
    PATHS[path].starts_with("/mnt")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn agrees_with_a_model(ops in prop::collection::vec(op(), 1..80)) {
        let (mut vfs, _) = vfs();
        with_devices(&mut vfs);
        for dir in ["/d", "/mnt"] {
            vfs.mkdir(PID, dir.as_bytes(), 0o755).unwrap();
        }
        let control = add_fat(&mut vfs);
        vfs.mount_at(PID, b"/dev/vda", b"/mnt", b"fat", 0).unwrap();
        vfs.mkdir(PID, b"/mnt/e", 0o755).unwrap();
        let mut model = Model::default();
        let died = ops.iter().any(|op| matches!(op, Op::Die(..)));
        for op in ops {
            match op {
                Op::Open(path, create) => {
                    if model.open.len() >= 6 {
                        continue;
                    }
                    let flags = if create { NEW } else { RW };
                    let result = vfs.open(PID, PATHS[path].as_bytes(), flags, 0o644);
                    match (model.names.get(&path), create) {
                        (None, false) => prop_assert_eq!(result, Err(Error::NoEnt)),
                        (known, _) => {
                            let body = known.copied().unwrap_or(model.bodies.len());
                            if body == model.bodies.len() {
                                model.bodies.push(Vec::new());
                                model.names.insert(path, body);
                            }
                            prop_assert!(result.is_ok(), "{:?}", result);
                            model.open.push(Opened { fd: result.unwrap(), body });
                        }
                    }
                }
                Op::Close(file) => {
                    if file < model.open.len() {
                        let file = model.open.swap_remove(file);
                        prop_assert_eq!(vfs.close(PID, file.fd), Ok(()));
                    }
                }
                Op::Write(file, offset, value, len) => {
                    let Some(file) = model.open.get(file) else { continue };
                    let data = vec![value; len];
                    let result = vfs.write_bytes(PID, file.fd, offset as i64, &data);
                    if result == Err(Error::Stale) {
                        prop_assert!(model.may_be_stale(file.body));
                        model.unsure.insert(file.body);
                        continue;
                    }
                    prop_assert_eq!(result, Ok(len as u64));
                    let body = &mut model.bodies[file.body];
                    let end = offset as usize + len;
                    body.resize(body.len().max(end), 0);
                    body[offset as usize..end].copy_from_slice(&data);
                }
                Op::Read(file, offset, len) => {
                    let Some(file) = model.open.get(file) else { continue };
                    let result = vfs.read_bytes(PID, file.fd, offset as i64, len);
                    if result == Err(Error::Stale) {
                        prop_assert!(model.may_be_stale(file.body));
                        continue;
                    }
                    let body = &model.bodies[file.body];
                    let start = body.len().min(offset as usize);
                    let end = body.len().min(offset as usize + len);
                    let data = result.unwrap();
                    prop_assert!(model.unsure.contains(&file.body) || data == body[start..end]);
                }
                Op::Unlink(path) => {
                    let expected = model.names.remove(&path).map(|_| ()).ok_or(Error::NoEnt);
                    prop_assert_eq!(vfs.unlink(PID, PATHS[path].as_bytes(), false), expected);
                }
                Op::Rename(from, to) => {
                    let result = vfs.rename(PID, PATHS[from].as_bytes(), PATHS[to].as_bytes());
                    let Some(&body) = model.names.get(&from) else {
                        prop_assert_eq!(result, Err(Error::NoEnt));
                        continue;
                    };
                    if on_mnt(from) != on_mnt(to) {
                        prop_assert_eq!(result, Err(Error::XDev));
                        continue;
                    }
                    prop_assert_eq!(result, Ok(()));
                    if model.names.get(&to) != Some(&body) {
                        model.names.remove(&from);
                        model.names.insert(to, body);
                    }
                }
                Op::Link(from, to) => {
                    let result = vfs.link(PID, PATHS[from].as_bytes(), PATHS[to].as_bytes());
                    match (model.names.get(&from).copied(), model.names.contains_key(&to)) {
                        (None, _) => prop_assert_eq!(result, Err(Error::NoEnt)),
                        (_, true) => prop_assert_eq!(result, Err(Error::Exist)),
                        _ if on_mnt(from) != on_mnt(to) => prop_assert_eq!(result, Err(Error::XDev)),
                        (Some(body), _) => {
                            prop_assert_eq!(result, Ok(()));
                            model.names.insert(to, body);
                            model.linked.insert(body);
                        }
                    }
                }
                Op::Truncate(path, size) => {
                    let result = vfs.truncate(PID, PATHS[path].as_bytes(), size);
                    match model.names.get(&path) {
                        None => prop_assert_eq!(result, Err(Error::NoEnt)),
                        Some(&body) => {
                            prop_assert_eq!(result, Ok(()));
                            model.bodies[body].resize(size as usize, 0);
                        }
                    }
                }
                Op::Die(after, late) => {
                    control.die_after.set(Some(after));
                    control.dies_late.set(late);
                }
            }
        }
        control.die_after.set(None);
        for (&path, &body) in &model.names {
            let fd = vfs.open(PID, PATHS[path].as_bytes(), open::READ, 0).unwrap();
            let data = vfs.read_bytes(PID, fd, 0, 100_000).unwrap();
            prop_assert!(model.unsure.contains(&body) || data == model.bodies[body], "{}", PATHS[path]);
            vfs.close(PID, fd).unwrap();
        }
        // Nothing is left held once everything is closed.
        vfs.remove_process(PID);
        // A release that met a dead server leaves nothing held at the next instance.
        let first = vfs.sync();
        prop_assert!(first == Ok(()) || died && first == Err(Error::Io), "{first:?}");
        prop_assert_eq!(vfs.sync(), Ok(()));
        prop_assert_eq!(control.holds.get(), 0);
    }
}
