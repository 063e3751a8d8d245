//! A server that dies and goes on: what its next instance finds.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::conformance::deaths;
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, NewFile, SetAttributes, entries};
use xinim_keep::Area;

use crate::ramfs::ROOT;
use crate::ramfs_tests::{sample, settings};
use crate::{Account, BUNDLE_SOURCE, Bundle, CHUNK, Chunks, RamFs};

/// What RS keeps. Its writer dies after so many bytes: what it writes then is nowhere.
#[derive(Clone, Debug)]
struct Kept {
    journal: Arc<Mutex<Vec<u8>>>,
    chunks: Arc<Mutex<BTreeMap<u32, Vec<u8>>>>,
    left: Arc<AtomicUsize>,
}

impl Kept {
    fn new() -> Self {
        Self {
            journal: Arc::new(Mutex::new(vec![0; 512 << 10])),
            chunks: Arc::default(),
            left: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    fn copy(&self) -> Self {
        Self {
            journal: Arc::new(Mutex::new(self.journal.lock().unwrap().clone())),
            chunks: Arc::new(Mutex::new(self.chunks.lock().unwrap().clone())),
            left: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    /// How many of `len` bytes are still written.
    fn lives(&self, len: usize) -> usize {
        let left = self.left.load(Ordering::Relaxed);
        let count = len.min(left);
        if left != usize::MAX {
            self.left.store(left - count, Ordering::Relaxed);
        }
        count
    }

    /// The next instance.
    fn start(&self) -> (RamFs<'static>, Result<()>) {
        self.left.store(usize::MAX, Ordering::Relaxed);
        let bundle = Bundle { bytes: sample().leak(), memory: 7 };
        let account = Account::open(Box::new(self.clone())).expect("a journal").0;
        let (mut fs, restored) =
            RamFs::kept(Some(bundle), settings(64 << 20), account, Box::new(self.clone()));
        fs.mount(BUNDLE_SOURCE, 0).expect("mounted");
        (fs, restored)
    }

    /// As `start`, not mounted and without a bundle.
    fn server(&self) -> RamFs<'static> {
        let account = Account::open(Box::new(self.clone())).expect("a journal").0;
        RamFs::kept(None, settings(64 << 20), account, Box::new(self.clone())).0
    }
}

impl Area for Kept {
    fn len(&self) -> usize {
        self.journal.lock().unwrap().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.journal.lock().unwrap()[at..at + out.len()]);
        Ok(())
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let count = self.lives(bytes.len());
        self.journal.lock().unwrap()[at..at + count].copy_from_slice(&bytes[..count]);
        Ok(())
    }
}

impl Chunks for Kept {
    fn open(&mut self, number: u32) -> Result<()> {
        self.chunks.lock().unwrap().entry(number).or_insert_with(|| vec![0; CHUNK]);
        Ok(())
    }
    fn close(&mut self, number: u32) {
        if self.lives(1) == 1 {
            self.chunks.lock().unwrap().remove(&number);
        }
    }
    fn most(&self) -> u32 {
        20
    }
    fn read(&self, number: u32, at: usize, out: &mut [u8]) -> Result<()> {
        let chunks = self.chunks.lock().unwrap();
        let chunk = chunks.get(&number).ok_or(Error::Fault)?;
        out.copy_from_slice(&chunk[at..at + out.len()]);
        Ok(())
    }
    fn write(&mut self, number: u32, at: usize, bytes: &[u8]) -> Result<()> {
        let count = self.lives(bytes.len());
        let mut chunks = self.chunks.lock().unwrap();
        let chunk = chunks.get_mut(&number).ok_or(Error::Fault)?;
        chunk[at..at + count].copy_from_slice(&bytes[..count]);
        Ok(())
    }
}

/// Everything there is, by path: attributes, and what it holds.
type Tree = BTreeMap<String, (String, Vec<u8>)>;

fn tree(fs: &mut RamFs<'_>) -> Tree {
    let mut tree = Tree::new();
    let mut queue = vec![(ROOT, String::new())];
    while let Some((ino, path)) = queue.pop() {
        let stat = fs.attributes(ino).expect("attributes");
        let content = match stat.mode & mode::TYPE_MASK {
            mode::REGULAR => {
                let mut data = vec![0; stat.size as usize];
                assert_eq!(fs.read(ino, 0, &mut data), Ok(data.len()));
                data
            }
            mode::SYMLINK => fs.read_link(ino).expect("a link"),
            mode::DIRECTORY => {
                let mut buffer = DirBuffer::new(1 << 16);
                fs.read_dir(ino, 0, &mut buffer).expect("entries");
                let all = entries(buffer.bytes());
                let all: Vec<_> = all.map(|e| (e.name.to_vec(), e.ino, e.next)).collect();
                for (name, child, _) in all.iter().filter(|e| e.0 != b"." && e.0 != b"..") {
                    queue.push((*child, format!("{path}/{}", String::from_utf8_lossy(name))));
                }
                format!("{all:?}").into_bytes()
            }
            _ => Vec::new(),
        };
        tree.insert(path, (format!("{stat:?}"), content));
    }
    tree
}

/// One thing that a program may have done.
#[derive(Clone, Debug)]
enum Step {
    Make(u8, u8, u8),
    Write(u8, u16, u16),
    Cut(u8, u16),
    Remove(u8, u8),
    Move(u8, u8, u8, u8),
    Link(u8, u8, u8),
    Mode(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<(u8, u8, u8)>().prop_map(|(a, b, c)| Step::Make(a, b, c)),
        any::<(u8, u16, u16)>().prop_map(|(a, b, c)| Step::Write(a, b, c)),
        any::<(u8, u16)>().prop_map(|(a, b)| Step::Cut(a, b)),
        any::<(u8, u8)>().prop_map(|(a, b)| Step::Remove(a, b)),
        any::<(u8, u8, u8, u8)>().prop_map(|(a, b, c, d)| Step::Move(a, b, c, d)),
        any::<(u8, u8, u8)>().prop_map(|(a, b, c)| Step::Link(a, b, c)),
        any::<(u8, u8)>().prop_map(|(a, b)| Step::Mode(a, b)),
    ]
}

/// Some inode of the tree; names of the root's and of directories' are few, so that they meet.
fn pick(fs: &mut RamFs<'_>, which: u8, wanted: u32) -> Ino {
    let mut found = vec![ROOT];
    let mut at = 0;
    while at < found.len() {
        let mut buffer = DirBuffer::new(1 << 16);
        if fs.read_dir(found[at], 0, &mut buffer).is_ok() {
            let all = entries(buffer.bytes());
            found.extend(all.filter(|e| e.name != b"." && e.name != b"..").map(|e| e.ino));
        }
        at += 1;
    }
    found.retain(|ino| fs.attributes(*ino).is_ok_and(|stat| stat.mode & mode::TYPE_MASK == wanted));
    match found.len() {
        0 => ROOT,
        len => found[which as usize % len],
    }
}

fn name(which: u8) -> Vec<u8> {
    format!("n{}", which % 5).into_bytes()
}

/// Does it; what the file system refuses is refused.
fn perform(fs: &mut RamFs<'_>, step: &Step) {
    match *step {
        Step::Make(dir, to, kind) => {
            let dir = pick(fs, dir, mode::DIRECTORY);
            let kinds = [mode::REGULAR, mode::DIRECTORY, mode::SYMLINK, mode::FIFO];
            let kind = kinds[kind as usize % kinds.len()];
            let _ = fs.create(dir, &name(to), &NewFile::link(kind | 0o644, b"target"));
        }
        Step::Write(file, at, len) => {
            let ino = pick(fs, file, mode::REGULAR);
            let data: Vec<u8> = (0..len % 9000).map(|n| (n ^ at) as u8).collect();
            let _ = fs.write(ino, u64::from(at % 20_000), &data);
        }
        Step::Cut(file, size) => {
            let ino = pick(fs, file, mode::REGULAR);
            let set = SetAttributes { size: Some(u64::from(size)), ..Default::default() };
            let _ = fs.set_attributes(ino, &set);
        }
        Step::Remove(dir, from) => {
            let dir = pick(fs, dir, mode::DIRECTORY);
            let directory = from % 2 == 0;
            let _ = fs.unlink(dir, &name(from / 2), directory);
        }
        Step::Move(from_dir, from, to_dir, to) => {
            let dirs = (pick(fs, from_dir, mode::DIRECTORY), pick(fs, to_dir, mode::DIRECTORY));
            let _ = fs.rename((dirs.0, &name(from)), (dirs.1, &name(to)));
        }
        Step::Link(file, dir, to) => {
            let (ino, dir) = (pick(fs, file, mode::REGULAR), pick(fs, dir, mode::DIRECTORY));
            let _ = fs.link(ino, dir, &name(to));
        }
        Step::Mode(file, bits) => {
            let ino = pick(fs, file, mode::REGULAR);
            let set = SetAttributes {
                mode: Some(bits.into()),
                uid: Some(bits.into()),
                ..Default::default()
            };
            let _ = fs.set_attributes(ino, &set);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever was done, the next instance has it: numbers, positions in directories, free space.
    #[test]
    fn nothing_is_lost(steps in prop::collection::vec((step(), 0u8..4), 1..60)) {
        let kept = Kept::new();
        let (mut fs, _) = kept.start();
        for (step, restart) in steps {
            perform(&mut fs, &step);
            if restart == 0 {
                let (before, free) = (tree(&mut fs), fs.statfs().unwrap());
                let (next, restored) = kept.start();
                fs = next;
                prop_assert_eq!(restored, Ok(()));
                prop_assert_eq!(fs.mount(BUNDLE_SOURCE, 0).unwrap().flags, mounted::RESTORED);
                prop_assert_eq!(tree(&mut fs), before);
                prop_assert_eq!(fs.statfs().unwrap(), free);
            }
        }
    }

    /// Dead at any byte that it writes: the operation was done or was not. Bytes that it wrote over others
    /// may be there in part, as its request will be repeated.
    #[test]
    fn an_operation_is_done_or_not(
        steps in prop::collection::vec(step(), 1..25), last in step(), left in 0usize..6000,
    ) {
        let kept = Kept::new();
        let (mut fs, _) = kept.start();
        steps.iter().for_each(|step| perform(&mut fs, step));
        let before = tree(&mut fs);
        drop(fs);
        let twin = kept.copy();
        let (mut fs, _) = twin.start();
        perform(&mut fs, &last);
        let after = tree(&mut fs);
        let (mut fs, _) = kept.start();
        kept.left.store(left, Ordering::Relaxed);
        perform(&mut fs, &last);
        let (mut fs, restored) = kept.start();
        prop_assert_eq!(restored, Ok(()));
        let mut now = tree(&mut fs);
        if matches!(last, Step::Write(..) | Step::Cut(..)) {
            perform(&mut fs, &last);
            now = tree(&mut fs);
        }
        prop_assert!(now == before || now == after);
    }
}

#[test]
fn damage_is_refused_or_harmless() {
    let kept = Kept::new();
    let (mut fs, _) = kept.start();
    for n in 0..6 {
        perform(&mut fs, &Step::Make(0, n, n));
        perform(&mut fs, &Step::Write(n, 0, 5000));
    }
    let whole = tree(&mut fs);
    drop(fs);
    let mut refused = 0;
    let journal = kept.journal.lock().unwrap().clone();
    for at in (0..journal.len()).filter(|at| journal[*at] != 0) {
        let damaged = kept.copy();
        damaged.journal.lock().unwrap()[at] ^= 0x20;
        let (mut fs, _) = damaged.start();
        let now = tree(&mut fs);
        refused += usize::from(now != whole);
        // New then, with what the bundle brought.
        assert!(now == whole || !now.contains_key("/n0"), "byte {at}: a part of it");
        assert!(now.contains_key("/bin/tool"), "byte {at}");
        assert!(fs.create(ROOT, b"new", &NewFile::new(mode::REGULAR)).is_ok());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn records_that_do_not_fit_together_are_refused() {
    use xinim_keep::Journal;
    use xinim_keep::codec::Writer;
    let (inode, entry, page) = (2u64 << 56, 3u64 << 56, 4u64 << 56);
    let name = |dir: u64, ino: u64, name: &[u8]| Writer::new().u64(dir).u64(ino).bytes(name).done();
    let owner = |ino: u64, at: u64| Writer::new().u64(ino).u64(at).done();
    let cases: [(u64, Option<Vec<u8>>); 11] = [
        (inode | ROOT, None),
        (inode | 500, Some(vec![])),
        (entry | 900, Some(name(ROOT, 777, b"nobody"))),
        (entry | 900, Some(name(777, ROOT, b"nowhere"))),
        (entry | 900, Some(name(ROOT, ROOT, b"ring"))),
        (entry | 900, Some(name(ROOT, 2, b"second-name-of-a-directory"))),
        (entry | 900, Some(name(ROOT, 3, b"a/b"))),
        (page | 1, Some(owner(777, 0))),
        (page | 1, Some(owner(ROOT, 0))),
        (page | 1, Some(owner(3, 1 << 40))),
        (page | 0xFFFF_FFFF, Some(owner(3, 0))),
    ];
    for (key, record) in cases {
        let kept = Kept::new();
        let (mut fs, _) = kept.start();
        perform(&mut fs, &Step::Make(0, 0, 0));
        drop(fs);
        let mut journal = Journal::open(kept.clone()).expect("a journal").0;
        match &record {
            Some(record) => journal.put(key, record),
            None => journal.remove(key),
        }
        journal.commit().expect("room");
        let (mut fs, restored) = kept.start();
        assert!(restored.is_err(), "{key:#x} {record:?}");
        assert!(tree(&mut fs).contains_key("/bin/tool"));
        assert!(!tree(&mut fs).contains_key("/n0"));
    }
}

/// Who fills the account with names is refused in time: it is never lost.
#[test]
fn the_account_is_never_outgrown() {
    let kept = Kept::new();
    let (mut fs, _) = kept.start();
    let make = |fs: &mut RamFs<'_>, n: u32| {
        fs.create(ROOT, format!("{n:0100}").as_bytes(), &NewFile::new(mode::REGULAR | 0o644))
    };
    let full = (0..10_000).find(|n| make(&mut fs, *n) == Err(Error::NoSpc)).expect("bounded");
    assert!(full > 300, "{full}");
    let before = tree(&mut fs);
    let (mut fs, restored) = kept.start();
    assert_eq!(restored, Ok(()));
    assert!(tree(&mut fs) == before);
    assert_eq!(make(&mut fs, full).err(), Some(Error::NoSpc));
    for n in 0..full {
        fs.unlink(ROOT, format!("{n:0100}").as_bytes(), false).expect("removed");
    }
    assert!(make(&mut fs, 1).is_ok());
}

/// Chunks go when nothing is in them, but for one; files open without a name go with the instance.
#[test]
fn memory_is_given_back() {
    let kept = Kept::new();
    let (mut fs, _) = kept.start();
    let ino = fs.create(ROOT, b"big", &NewFile::new(mode::REGULAR | 0o644)).unwrap().ino;
    for at in 0..10 {
        assert_eq!(fs.write(ino, at * (1 << 20), &vec![1; 1 << 20]), Ok(1 << 20));
    }
    assert_eq!(kept.chunks.lock().unwrap().len(), 5);
    fs.hold(ino).unwrap();
    fs.unlink(ROOT, b"big", false).unwrap();
    assert_eq!(kept.chunks.lock().unwrap().len(), 5);
    let (mut fs, restored) = kept.start();
    assert_eq!(restored, Ok(()));
    assert_eq!(fs.attributes(ino), Err(Error::Stale));
    assert_eq!(kept.chunks.lock().unwrap().len(), 1);
}

#[test]
fn nameless_files_outlive_the_server() {
    let kept = Kept::new();
    // The first is not restored from anything.
    kept.server().mount("", 0).expect("mounted");
    deaths::nameless_files_outlive_the_server("", || kept.server());
}
