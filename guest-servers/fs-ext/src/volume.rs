//! A mounted volume: mounting, operations, commits, unmounting.
//!
//! ```text
//!   mount: superblock ─ replay the journal ─ superblock again ─ groups ─ mark in use ─ orphans
//!   operation: room in the transaction? ─ begin ─ change ─┬─ keep
//!                                                         └─ undo (it failed: nothing has changed)
//!   commit: checksums ─ journal (or straight home) ─ home ─ freed blocks may be used again
//! ```
//! Many operations make one transaction. It is committed when something must be durable, when it has
//! grown to a quarter of the journal, or when it is older than [`COMMIT_AFTER`] (the server's
//! background or the next operation sees to that).
//!
//! Without a journal (ext2) a commit writes all metadata to its place; a crash between leaves what
//! fsck repairs.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Arguments;

use xinim_abi::error::{Error, Result};

use crate::alloc_blocks::Window;
use crate::journal::{Journal, jsb};
use crate::kept::Account;
use crate::layout::{feature::incompat, feature::ro_compat, sb};
use crate::meta::{Change, Meta, Seal};
use crate::recovery;
use crate::superblock::{Geometry, Refusal};
use xinim_block_client::Storage;

/// Nanoseconds after which a transaction does not take further operations.
const COMMIT_AFTER: u64 = 5_000_000_000;
/// Changed blocks that one operation may need. Longer work is cut into several operations.
pub const CREDITS: usize = 24;
/// Changed blocks of a transaction where there is no journal to bound it.
const UNJOURNALED_MAX: usize = 1024;

/// What an operation's undoing restores, beside metadata blocks.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub free_blocks: u64,
    pub free_inodes: u64,
    /// Inodes without a name, newest first: the chain that begins in the superblock.
    pub orphans: Vec<u32>,
}

/// Clock, in nanoseconds since 1970, and where sentences go.
#[derive(Clone, Copy)]
pub struct Surroundings {
    pub now: fn() -> u64,
    pub log: fn(Arguments<'_>),
}

/// A mounted file system; see the module.
pub struct Volume<'d> {
    pub meta: Meta<'d>,
    pub geo: Geometry,
    pub journal: Option<Journal>,
    pub state: State,
    pub zones: Vec<(u64, u64)>,
    /// Groups whose checksums are out of date.
    pub touched: BTreeSet<u32>,
    /// Blocks freed by the operation under way, and by the transaction: group, bit, length.
    pub freed: Vec<(u32, u32, u32)>,
    pub pending: BTreeMap<u32, Vec<(u32, u32)>>,
    /// Metadata blocks freed, likewise.
    pub revoked: Vec<u64>,
    revokes: BTreeSet<u64>,
    pub windows: Vec<Window>,
    /// Inodes that VFS holds, and how often.
    pub holds: BTreeMap<u32, u32>,
    pub generation: u32,
    pub around: Surroundings,
    pub read_only: bool,
    /// The journal could not be written: nothing is changed any more.
    aborted: bool,
    /// Something on the disk was wrong: fsck is to look.
    damaged: bool,
    /// The superblock says so.
    reported: bool,
    /// Transactions that its mount found in the journal.
    pub replayed: u32,
    /// What is not committed, for the next instance of the server.
    account: Option<Account>,
    started: u64,
}

/// Why there is no volume.
pub fn refuse(around: Surroundings, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Foreign => Error::Inval,
        Refusal::Damaged(what) => {
            (around.log)(format_args!("not mounted: {what}"));
            Error::Io
        }
        Refusal::Unsupported(what) => {
            (around.log)(format_args!("not mounted: {what}"));
            Error::NotSup
        }
    }
}

fn read_superblock(device: &mut dyn Storage) -> core::result::Result<Vec<u8>, Refusal> {
    let mut raw = vec![0; sb::LEN];
    if device.len() < sb::OFFSET + sb::LEN as u64 {
        return Err(Refusal::Foreign);
    }
    let failed = |_| Refusal::Damaged(String::from("the superblock cannot be read"));
    device.read(sb::OFFSET, &mut raw).map_err(failed)?;
    Ok(raw)
}

impl<'d> Volume<'d> {
    /// Mounts what lies on `device`. The journal is replayed even for reading, as on Linux. With an
    /// account the volume goes on where an earlier instance of the server ended, and holds the files that
    /// this one held without a name.
    pub fn mount(
        device: Box<dyn Storage + 'd>,
        read_only: bool,
        around: Surroundings,
        account: Option<Account>,
        held: &[u64],
    ) -> core::result::Result<Self, Refusal> {
        let mut device = device;
        let raw = read_superblock(&mut *device)?;
        // One that was half written when the power failed is whole in the journal.
        let geo = Geometry::parse_torn(&raw, device.len())?;
        let torn = Geometry::parse(&raw, device.len()).err();
        let mut read_only = read_only || device.read_only();
        if let Some(why) = geo.only_readable() {
            if !read_only {
                (around.log)(format_args!("mounted read-only: {why}"));
            }
            read_only = true;
        }
        let mut volume = Self::over(device, geo, around);
        volume.check_groups().map_err(Refusal::Damaged)?;
        let journaled = volume.geo.journal_inode != 0;
        let dirty = volume.geo.has_incompat(incompat::RECOVER);
        if dirty && !journaled {
            return Err(Refusal::Unsupported("its journal is on another device".into()));
        }
        match torn {
            Some(refusal) if !journaled => return Err(refusal),
            Some(_) => volume = volume.recover(true)?,
            None if journaled && (dirty || !read_only) => volume = volume.recover(dirty)?,
            None => {}
        }
        let state = sb::STATE.get(volume.superblock()?);
        if state & sb::STATE_ERRORS != 0 || (state & sb::STATE_CLEAN == 0 && !journaled) {
            (around.log)(format_args!("not cleanly unmounted or damaged: fsck is advised"));
        }
        volume.read_only = read_only;
        if let Some(mut account) = account.filter(|_| !read_only) {
            volume.take_up(&mut account)?;
            volume.account = Some(account);
        }
        // Before `enter`, which ends what has no name and is not held.
        if volume.restored() {
            volume.hold_again(held);
        }
        volume.count().map_err(|_| Refusal::Damaged("a group cannot be read".into()))?;
        if read_only {
            volume.journal = None;
        } else {
            volume.enter().map_err(|_| Refusal::Damaged("it cannot be written".into()))?;
        }
        Ok(volume)
    }

    /// As mounted for reading, but nothing is replayed: what is there is looked at as it is.
    pub fn examine(
        device: Box<dyn Storage + 'd>,
        around: Surroundings,
    ) -> core::result::Result<Self, Refusal> {
        let mut device = device;
        let raw = read_superblock(&mut *device)?;
        let geo = Geometry::parse(&raw, device.len())?;
        let mut volume = Self::over(device, geo, around);
        volume.check_groups().map_err(Refusal::Damaged)?;
        Ok(volume)
    }

    /// After a repair: everything written past the journal, the volume marked clean.
    pub fn settle(&mut self) -> Result<()> {
        self.seal_groups()?;
        self.store_counters()?;
        self.edit_superblock(|raw| {
            let state = sb::STATE.get(raw) & !sb::STATE_ERRORS;
            sb::STATE.set(raw, state | sb::STATE_CLEAN);
        })?;
        self.meta.write_home()?;
        self.meta.device.flush()
    }

    pub fn over(device: Box<dyn Storage + 'd>, geo: Geometry, around: Surroundings) -> Self {
        Self {
            meta: Meta::new(device, geo.block_size),
            geo,
            journal: None,
            state: State::default(),
            zones: Vec::new(),
            touched: BTreeSet::new(),
            freed: Vec::new(),
            pending: BTreeMap::new(),
            revoked: Vec::new(),
            revokes: BTreeSet::new(),
            windows: Vec::new(),
            holds: BTreeMap::new(),
            generation: (around.now)() as u32,
            around,
            read_only: true,
            aborted: false,
            damaged: false,
            reported: false,
            replayed: 0,
            account: None,
            started: 0,
        }
    }

    /// Nothing is lost of what an earlier instance of the server had answered.
    pub fn restored(&self) -> bool {
        self.meta.device.recovered() && self.account.as_ref().is_some_and(Account::restored)
    }

    /// Holds what the instance before held, if all of it is there.
    fn hold_again(&mut self, held: &[u64]) {
        for &number in held {
            let there = u32::try_from(number).is_ok_and(|number| {
                let valid = (self.geo.first_ino..=self.geo.inodes).contains(&number);
                valid && self.raw_inode(number).is_ok_and(|inode| inode.kind() != 0)
            });
            if !there {
                self.holds.clear();
                return;
            }
            *self.holds.entry(number as u32).or_default() += 1;
        }
    }

    /// Goes on with the transaction that an earlier instance of the server had not committed.
    fn take_up(&mut self, account: &mut Account) -> core::result::Result<(), Refusal> {
        match account.take_up(&self.geo, &mut self.meta) {
            Ok(left) => {
                if left.operations > 0 {
                    let count = left.operations;
                    (self.around.log)(format_args!("{count} operations of the last instance kept"));
                }
                self.touched.extend(left.touched);
                self.revokes.extend(left.revoked);
            }
            Err(Error::BadMessage) => {
                (self.around.log)(format_args!(
                    "what was kept of the last instance makes no sense"
                ));
            }
            Err(_) => {
                return Err(Refusal::Damaged("a block that was changed cannot be read".into()));
            }
        }
        let len = self.meta.device.len();
        self.geo = Geometry::parse_torn(self.superblock()?, len)?;
        Ok(())
    }

    /// Notes what the operation that is over did; it is in memory as the next commit is to have it.
    fn note(&mut self, changes: Vec<Change>) {
        let Some(account) = &mut self.account else { return };
        if changes.is_empty() && self.revoked.is_empty() {
            return;
        }
        let noted = account.note(&self.geo, changes, self.touched.iter(), &self.revoked);
        if let Err(error) = noted {
            (self.around.log)(format_args!("what is not committed is not kept: {error}"));
        }
    }

    /// Opens the journal, replays it if the superblock says so, and looks at everything again.
    fn recover(mut self, dirty: bool) -> core::result::Result<Self, Refusal> {
        let mut journal = self.open_journal().map_err(Refusal::Damaged)?;
        let mut replayed = 0;
        if dirty {
            if self.meta.device.read_only() {
                let what = "its journal must be replayed, and the device is read-only";
                return Err(Refusal::Unsupported(what.into()));
            }
            let blocks = self.geo.blocks;
            let done = recovery::replay(&mut journal, &mut *self.meta.device, blocks)
                .map_err(Refusal::Damaged)?;
            replayed = done.transactions;
            if done.transactions > 0 {
                let (transactions, blocks) = (done.transactions, done.blocks);
                (self.around.log)(format_args!(
                    "journal replayed: {transactions} transactions, {blocks} blocks"
                ));
            }
        }
        // What was read before the replay may be old.
        let (around, mut device) = (self.around, self.meta.device);
        let raw = read_superblock(&mut *device)?;
        let geo = Geometry::parse(&raw, device.len())?;
        let mut volume = Self::over(device, geo, around);
        volume.check_groups().map_err(Refusal::Damaged)?;
        volume.journal = Some(journal);
        volume.replayed = replayed;
        Ok(volume)
    }

    fn open_journal(&mut self) -> core::result::Result<Journal, String> {
        let failed = |_| String::from("the journal's inode is damaged");
        let inode = self.raw_inode(self.geo.journal_inode).map_err(failed)?;
        let blocks = inode.size(&self.geo) / self.geo.block_size as u64;
        let blocks = blocks.min(u32::MAX.into());
        let mut runs = Vec::new();
        let mut at = 0;
        while at < blocks {
            let run = self.map(&inode, at, blocks - at).map_err(failed)?;
            let Some(start) = run.physical else { return Err("the journal has a hole".into()) };
            if runs.len() >= 1 << 16 {
                return Err("the journal lies in too many pieces".into());
            }
            runs.push((at, start, run.len));
            at += run.len;
        }
        let Some(&(_, first, _)) = runs.first() else { return Err("the journal is empty".into()) };
        let mut raw = vec![0; jsb::LEN];
        let offset = first * self.geo.block_size as u64;
        let failed = |_| String::from("the journal cannot be read");
        self.meta.device.read(offset, &mut raw).map_err(failed)?;
        let journal = Journal::new(runs, self.geo.block_size, raw);
        recovery::check(&journal)?;
        Ok(journal)
    }

    /// The counters, from the groups: the superblock's may be old.
    pub fn count(&mut self) -> Result<()> {
        let mut free = (0, 0);
        for group in 0..self.geo.groups {
            let desc = self.desc(group)?;
            free.0 += u64::from(desc.free_blocks);
            free.1 += u64::from(desc.free_inodes);
        }
        (self.state.free_blocks, self.state.free_inodes) = free;
        Ok(())
    }

    /// Makes it writable: marked as in use, orphans of the last time gone.
    fn enter(&mut self) -> Result<()> {
        if let Some(journal) = &mut self.journal {
            let bit64 = self.geo.has_incompat(incompat::BIT64);
            journal.start(&mut *self.meta.device, self.geo.all_checksums(), bit64)?;
        }
        let (now, journaled) = (self.seconds(), self.journal.is_some());
        self.edit_superblock(|raw| {
            if journaled {
                set_recover(raw, true);
            } else {
                let state = sb::STATE.get(raw) & !sb::STATE_CLEAN;
                sb::STATE.set(raw, state);
            }
            sb::MTIME.set(raw, now);
            let count = sb::MNT_COUNT.get(raw).wrapping_add(1);
            sb::MNT_COUNT.set(raw, count);
        })?;
        self.commit()?;
        if let Err(error) = self.remove_orphans() {
            (self.around.log)(format_args!("orphaned inodes cannot be removed: {error}"));
            self.damaged = true;
        }
        Ok(())
    }

    pub fn seconds(&self) -> u32 {
        ((self.around.now)() / 1_000_000_000) as u32
    }

    /// `seal` where metadata has checksums.
    pub fn seal(&self, seal: Seal) -> Seal {
        if self.geo.all_checksums() { seal } else { Seal::None }
    }

    fn superblock(&mut self) -> core::result::Result<&[u8], Refusal> {
        let (block, at) = self.geo.superblock();
        let raw = self.meta.read(block, Seal::None);
        let failed = |_| Refusal::Damaged("the superblock cannot be read".into());
        raw.map(|raw| &raw[at..at + sb::LEN]).map_err(failed)
    }

    /// Changes the superblock, as part of the transaction.
    pub fn edit_superblock(&mut self, edit: impl FnOnce(&mut [u8])) -> Result<()> {
        let (block, at) = self.geo.superblock();
        let seal = self.seal(Seal::Superblock(at as u16));
        edit(&mut self.meta.modify(block, seal)?[at..at + sb::LEN]);
        Ok(())
    }

    fn transaction_max(&self) -> usize {
        self.journal.as_ref().map_or(UNJOURNALED_MAX, Journal::transaction_max)
    }

    /// May this operation go on changing blocks, or should the rest be another one?
    pub fn has_room(&self) -> bool {
        self.meta.dirty() + self.revokes.len() / 64 + CREDITS < self.transaction_max() * 2
    }

    /// Does `action` as a whole or not at all. `RoFs` on a volume that is not to be changed.
    pub fn operation<R>(&mut self, mut action: impl FnMut(&mut Self) -> Result<R>) -> Result<R> {
        if self.read_only {
            return Err(Error::RoFs);
        }
        if self.aborted {
            return Err(Error::Io);
        }
        let dirty = self.meta.dirty();
        let old = dirty > 0 && (self.around.now)().saturating_sub(self.started) > COMMIT_AFTER;
        let full = self.account.as_ref().is_some_and(|account| !account.has_room());
        if old || (full && dirty > 0) || dirty + CREDITS > self.transaction_max() {
            self.commit_as(false)?;
        }
        match self.attempt(&mut action) {
            // Blocks that this transaction freed are free once it is committed.
            Err(Error::NoSpc) if !self.pending.is_empty() => {
                self.commit_as(false)?;
                self.attempt(&mut action)
            }
            result => result,
        }
    }

    fn attempt<R>(&mut self, action: &mut impl FnMut(&mut Self) -> Result<R>) -> Result<R> {
        if self.meta.dirty() == 0 {
            self.started = (self.around.now)();
        }
        let before = self.state.clone();
        self.meta.begin();
        let result = action(self);
        match &result {
            Ok(_) => {
                let changes = self.meta.keep(self.account.is_some());
                self.note(changes);
                for (group, start, len) in self.freed.drain(..) {
                    self.pending.entry(group).or_default().push((start, len));
                }
                self.revokes.extend(self.revoked.drain(..));
            }
            Err(error) => {
                self.meta.undo();
                self.state = before;
                self.freed.clear();
                self.revoked.clear();
                if *error == Error::Io && !self.damaged {
                    self.damaged = true;
                    (self.around.log)(format_args!("damaged or unreadable: fsck is advised"));
                }
            }
        }
        result
    }

    /// Makes everything durable.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_as(true)
    }

    /// What has waited long is committed at a tick; nobody waits for it. Whether there is more.
    pub fn background(&mut self, tick: bool) -> bool {
        if self.read_only || self.aborted {
            return false;
        }
        let waited = (self.around.now)().saturating_sub(self.started);
        if tick && self.meta.dirty() > 0 && waited > COMMIT_AFTER {
            // A failure is remembered, and reported to whoever asks for durability.
            let _ = self.commit_as(false);
        }
        let behind = self.meta.device.background(tick);
        behind || (self.meta.dirty() > 0 && !self.aborted)
    }

    fn commit_as(&mut self, durable: bool) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        if self.aborted {
            return Err(Error::Io);
        }
        if self.meta.dirty() == 0 {
            return if durable { self.meta.device.flush() } else { Ok(()) };
        }
        let result = self.commit_now(durable);
        if let Err(error) = result {
            self.aborted = true;
            (self.around.log)(format_args!("cannot be written ({error}): no further changes"));
        }
        result
    }

    fn commit_now(&mut self, durable: bool) -> Result<()> {
        self.seal_groups()?;
        if self.journal.is_none() {
            self.store_counters()?;
        }
        if self.damaged && !self.reported {
            self.edit_superblock(|raw| {
                let errors = sb::STATE.get(raw) | sb::STATE_ERRORS;
                sb::STATE.set(raw, errors);
            })?;
            self.reported = true;
        }
        if let Some(journal) = &mut self.journal {
            let revoked: Vec<u64> = self.revokes.iter().copied().collect();
            let (device, blocks) = self.meta.device_and_sealed();
            journal.commit(device, &blocks, &revoked, (self.around.now)(), durable)?;
            self.meta.write_home()?;
        } else {
            self.meta.write_home()?;
            if durable {
                self.meta.device.flush()?;
            }
        }
        self.pending.clear();
        self.revokes.clear();
        if let Some(account) = &mut self.account {
            account.clear()?;
        }
        Ok(())
    }

    /// The superblock's totals. With a journal they are written at the end only, as on Linux: the
    /// groups' are what counts.
    fn store_counters(&mut self) -> Result<()> {
        let (free, inodes) = (self.state.free_blocks, self.state.free_inodes);
        let now = self.seconds();
        self.edit_superblock(|raw| {
            sb::FREE_BLOCKS_LO.set(raw, free as u32);
            sb::FREE_BLOCKS_HI.set(raw, (free >> 32) as u32);
            sb::FREE_INODES.set(raw, inodes as u32);
            sb::WTIME.set(raw, now);
        })
    }

    /// Everything durable, the volume marked clean. The superblock that says so goes through the
    /// journal too, when nothing else is under way: half written, it can be restored.
    pub fn unmount(&mut self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.holds.clear();
        self.remove_orphans()?;
        self.commit()?;
        self.meta.device.flush()?;
        self.store_counters()?;
        let (journaled, damaged) = (self.journal.is_some(), self.damaged);
        self.edit_superblock(|raw| {
            if journaled {
                set_recover(raw, false);
            }
            let state = sb::STATE.get(raw);
            let clean = if damaged { state | sb::STATE_ERRORS } else { state | sb::STATE_CLEAN };
            sb::STATE.set(raw, clean);
        })?;
        self.commit()?;
        self.meta.device.flush()?;
        match &mut self.journal {
            Some(journal) => journal.stop(&mut *self.meta.device),
            None => Ok(()),
        }
    }

    /// A file of 2 GiB needs to be announced.
    pub fn allow_large_files(&mut self) -> Result<()> {
        if !self.geo.has_ro_compat(ro_compat::LARGE_FILE) {
            self.edit_superblock(|raw| {
                let features = sb::FEATURE_RO_COMPAT.get(raw) | ro_compat::LARGE_FILE;
                sb::FEATURE_RO_COMPAT.set(raw, features);
            })?;
            self.geo.ro_compat |= ro_compat::LARGE_FILE;
        }
        Ok(())
    }

    /// What kind it is: by the features, as blkid says it.
    pub fn kind(&self) -> String {
        let ext4 = incompat::EXTENTS | incompat::BIT64 | incompat::FLEX_BG;
        if self.geo.has_incompat(ext4) || self.geo.has_ro_compat(ro_compat::HUGE_FILE) {
            "ext4".into()
        } else if self.geo.journal_inode != 0 {
            "ext3".into()
        } else {
            format!("ext{}", 2)
        }
    }
}

fn set_recover(raw: &mut [u8], on: bool) {
    let features = sb::FEATURE_INCOMPAT.get(raw) & !incompat::RECOVER;
    sb::FEATURE_INCOMPAT.set(raw, features | if on { incompat::RECOVER } else { 0 });
}
