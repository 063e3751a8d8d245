//! The server dies at any byte that it writes: the next instance goes on as if it had not, with all that
//! was answered, committed or not.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::fs::mounted;
use xinim_block_client::Storage;
use xinim_fs_kit::conformance::deaths;
use xinim_fs_kit::{FileSystem, Ino, NewFile};
use xinim_fs_testing::{Image, Random, campaign};
use xinim_keep::Area;

use super::crash::operation;
use super::{AROUND, FILE, Tree, check, made, ready, tree};
use crate::Ext;

/// Bytes that are still written before the server dies; what it writes then is nowhere.
#[derive(Clone)]
struct Life(Rc<Cell<u64>>);

impl Life {
    fn spend(&self, len: usize) -> usize {
        let left = self.0.get();
        let count = left.min(len as u64);
        self.0.set(if left == u64::MAX { left } else { left - count });
        count as usize
    }
}

/// What outlives the server: the device, as its cache's own account makes it (crate `xinim-block-client`),
/// and the account of the transaction.
#[derive(Clone)]
struct World {
    image: Image,
    account: Rc<RefCell<Vec<u8>>>,
    life: Life,
}

impl World {
    fn new(image: Vec<u8>, account: Vec<u8>) -> Self {
        let life = Life(Rc::new(Cell::new(u64::MAX)));
        Self { image: Image::new(image), account: Rc::new(RefCell::new(account)), life }
    }

    fn copy(&self) -> Self {
        Self::new(self.image.bytes(), self.account.borrow().clone())
    }

    fn is_dead(&self) -> bool {
        self.life.0.get() == 0
    }

    /// The next instance; whether it says that nothing is lost.
    fn start(&self) -> (Ext, Ino, bool) {
        self.life.0.set(u64::MAX);
        let mut ext = self.server();
        let info = ext.mount("vda", 0).expect("mounted");
        (ext, info.root, info.flags & mounted::RESTORED != 0)
    }

    fn server(&self) -> Ext {
        let (device, account) = (self.clone(), self.clone());
        let open = Box::new(move |_: &str| Ok(Box::new(device.clone()) as Box<dyn Storage>));
        let account = Box::new(move || Ok(Box::new(account.clone()) as Box<dyn Area>));
        Ext::new(open, AROUND).kept(account)
    }
}

impl Area for World {
    fn len(&self) -> usize {
        self.account.borrow().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.account.borrow();
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let count = self.life.spend(bytes.len());
        self.account.borrow_mut()[at..at + count].copy_from_slice(&bytes[..count]);
        Ok(())
    }
}

impl Storage for World {
    fn len(&self) -> u64 {
        self.image.len()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.image.read(offset, out)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let count = self.life.spend(data.len());
        self.image.write(offset, &data[..count])
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn recovered(&self) -> bool {
        true
    }
}

const VARIANTS: [(&str, &[&str]); 5] = [
    ("ext4", &["-t", "ext4", "-b", "4096", "-J", "size=4"]),
    ("ext4, 1k", &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", "orphan_file"]),
    ("ext3", &["-t", "ext3", "-b", "1024", "-J", "size=1"]),
    ("ext2", &["-t", "ext2", "-b", "1024"]),
    (
        "ext4, group checksums",
        &["-t", "ext4", "-b", "2048", "-J", "size=2", "-O", "^64bit,^metadata_csum,uninit_bg"],
    ),
];

/// Operations until the server dies; the world as it was before the last, the tree then, and that operation's
/// random numbers.
fn live(world: &World, random: &mut Random, steps: usize) -> Option<(World, Tree, usize, Random)> {
    let (mut ext, root, _) = world.start();
    let budget = random.below(600_000);
    world.life.0.set(1 + random.below(1 + budget));
    for number in 0..steps {
        let (before, tree_before) = (world.copy(), tree(&mut ext, root));
        let again = random.clone();
        operation(&mut ext, root, number, random);
        if !world.is_dead() && random.below(12) == 0 {
            ext.sync().expect("synced");
        }
        if world.is_dead() {
            return Some((before, tree_before, number, again));
        }
    }
    None
}

#[test]
fn nothing_that_was_answered_is_lost() {
    if !ready("nothing_that_was_answered_is_lost") {
        return;
    }
    let mut deaths = 0;
    for seed in campaign(10) {
        let (name, args) = VARIANTS[seed as usize % VARIANTS.len()];
        let world = World::new(made(10, args), vec![0; 2 << 20]);
        let mut random = Random::new(seed);
        for life in 0..12 {
            let what = format!("{name}, seed {seed}, life {life}");
            let Some((before, tree_before, number, mut again)) = live(&world, &mut random, 60)
            else {
                continue;
            };
            deaths += 1;
            let (mut ext, root, restored) = world.start();
            assert!(restored, "{what}");
            let found = tree(&mut ext, root);
            if found != tree_before {
                // Then the last operation is done, wholly.
                let (mut twin, root, restored) = before.start();
                assert!(restored && tree(&mut twin, root) == tree_before, "{what}: before");
                operation(&mut twin, root, number, &mut again);
                assert!(found == tree(&mut twin, root), "{what}: neither before nor after");
            }
            if life % 3 == 0 {
                let copy = world.copy();
                let (mut ext, ..) = copy.start();
                ext.unmount().expect("unmounted");
                check(&copy.image.bytes(), &what);
            }
            // The next life goes on from what a second death right now leaves.
        }
    }
    assert!(deaths > 50, "{deaths}");
}

#[test]
fn another_volumes_account_is_not_taken_up() {
    if !ready("another_volumes_account_is_not_taken_up") {
        return;
    }
    let args = VARIANTS[0].1;
    let first = World::new(made(10, args), vec![0; 1 << 20]);
    let (mut ext, root, _) = first.start();
    ext.create(root, b"name", &NewFile::new(FILE)).expect("created");
    drop(ext);
    let other = World::new(made(10, args), first.account.borrow().clone());
    let (mut ext, root, restored) = other.start();
    assert!(!restored && ext.lookup(root, b"name").is_err());
    ext.unmount().expect("unmounted");
    check(&other.image.bytes(), "another volume");
}

#[test]
fn a_damaged_account_is_not_taken_up() {
    if !ready("a_damaged_account_is_not_taken_up") {
        return;
    }
    let mut seen = 0;
    for seed in campaign(60) {
        let mut random = Random::new(seed);
        let world = World::new(made(10, VARIANTS[2].1), vec![0; 1 << 20]);
        let (mut ext, root, _) = world.start();
        for number in 0..10 {
            operation(&mut ext, root, number, &mut random);
        }
        let whole = tree(&mut ext, root);
        drop(ext);
        {
            let mut account = world.account.borrow_mut();
            let used: Vec<usize> = (0..account.len()).filter(|&at| account[at] != 0).collect();
            account[used[random.below(used.len() as u64) as usize]] ^= 1 << random.below(8);
        }
        let (mut ext, root, restored) = world.start();
        assert!(!restored || tree(&mut ext, root) == whole, "seed {seed}");
        seen += u32::from(!restored);
        ext.unmount().expect("unmounted");
        check(&world.image.bytes(), "a damaged account");
    }
    assert!(seen > 0);
}

#[test]
fn nameless_files_outlive_the_server() {
    if !ready("nameless_files_outlive_the_server") {
        return;
    }
    for (name, args) in VARIANTS {
        let world = World::new(made(10, args), vec![0; 1 << 20]);
        deaths::nameless_files_outlive_the_server("vda", || world.server());
        check(&world.image.bytes(), name);
    }
}
