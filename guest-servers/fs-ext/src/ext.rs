//! The `FileSystem` on top of a volume.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{Stat, StatFs, mode, mount};
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes, Source};
use xinim_keep::Area;

use crate::dir::{mode_of, slots};
use crate::file::WRITE_MAX;
use crate::inode::{Inode, Time};
use crate::kept::Account;
use crate::layout::{dirent, feature::compat, inode};
use crate::meta::Seal;
use crate::volume::{Surroundings, Volume, refuse};
use xinim_block_client::Storage;

/// Opens the block device or partition that a mount names ("vda1").
pub type OpenDevice = Box<dyn FnMut(&str) -> Result<Box<dyn Storage>>>;

/// Memory that outlives the server.
pub type OpenAccount = Box<dyn FnMut() -> Result<Box<dyn Area>>>;

/// One ext2, ext3 or ext4 file system, mounted or not.
pub struct Ext {
    open: OpenDevice,
    account: Option<OpenAccount>,
    around: Surroundings,
    volume: Option<Volume<'static>>,
}

/// Cookies of directories below this are `.` and `..`; others are 3 more than the place of the
/// entry just read (by hash), or the byte behind it.
const FIRST_COOKIE: u64 = 3;

impl Ext {
    pub fn new(open: OpenDevice, around: Surroundings) -> Self {
        Self { open, account: None, around, volume: None }
    }

    /// What is answered and not committed is kept in `account`: the server's death does not lose it.
    #[must_use]
    pub fn kept(self, account: OpenAccount) -> Self {
        Self { account: Some(account), ..self }
    }

    fn open_account(&mut self) -> Option<Account> {
        let opened = self.account.as_mut()?().and_then(Account::open);
        let log = self.around.log;
        opened
            .inspect_err(|error| log(format_args!("what is not committed is not kept: {error}")))
            .ok()
    }

    fn volume(&mut self) -> Result<&mut Volume<'static>> {
        self.volume.as_mut().ok_or(Error::NoDev)
    }
}

impl Volume<'_> {
    fn change_attributes(&mut self, number: Ino, set: &SetAttributes) -> Result<Stat> {
        if let Some(size) = set.size {
            self.resize(number, size)?;
        }
        let others = SetAttributes { size: None, ..*set };
        if others == SetAttributes::default() {
            return Ok(self.inode(number)?.stat(&self.geo));
        }
        self.operation(|volume| {
            let mut file = volume.inode(number)?;
            if !set.only_atime() {
                if file.has(inode::FLAG_IMMUTABLE) {
                    return Err(Error::Perm);
                }
                file.set_time(Time::Change, (volume.around.now)());
            }
            if let Some(permissions) = set.mode {
                let all = file.kind() | permissions & mode::PERMISSIONS;
                inode::MODE.set(&mut file.raw, all as u16);
            }
            if let Some(uid) = set.uid {
                file.set_uid(uid);
            }
            if let Some(gid) = set.gid {
                file.set_gid(gid);
            }
            if let Some(time) = set.atime {
                file.set_time(Time::Access, time);
            }
            if let Some(time) = set.mtime {
                file.set_time(Time::Modify, time);
            }
            volume.write_inode(&mut file)?;
            Ok(file.stat(&volume.geo))
        })
    }

    /// Hash order keeps every entry in its place when blocks are split; where blocks never are, the
    /// byte does.
    fn reads_by_hash(&self, dir: &Inode) -> bool {
        let one = self.dir_blocks(dir) == 1;
        self.geo.has_compat(compat::DIR_INDEX)
            && (self.is_indexed(dir) || (one && self.can_index()))
    }

    fn list(&mut self, dir: &Inode, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let number = dir.number.into();
        if cookie < 1 && !out.push(number, 1, mode::DIRECTORY, b".") {
            return Ok(());
        }
        if cookie < 2 {
            let parent = self.find(dir, b"..")?.inode.into();
            if !out.push(parent, 2, mode::DIRECTORY, b"..") {
                return Ok(());
            }
        }
        let from = cookie.max(2) - 2;
        if dir.has(inode::FLAG_INLINE_DATA) {
            let entries = self.inline_entries(dir)?;
            let places = (1..).zip(entries).skip(usize::try_from(from).unwrap_or(usize::MAX));
            for (place, (inode, kind, name)) in places {
                if !self.push(out, inode, place + 2, kind, &name)? {
                    break;
                }
            }
            return Ok(());
        }
        if self.reads_by_hash(dir) {
            match self.list_by_hash(dir, from, out) {
                Err(Error::NotSup) => {}
                result => return result,
            }
        }
        self.list_in_place(dir, from, out)
    }

    fn push(
        &mut self,
        out: &mut DirBuffer,
        inode: u32,
        next: u64,
        kind: u8,
        name: &[u8],
    ) -> Result<bool> {
        let kind = match mode_of(kind) {
            // Without the feature the inode must be asked.
            0 => self.raw_inode(inode)?.kind(),
            kind => kind,
        };
        Ok(out.push(inode.into(), next, kind, name))
    }

    fn list_by_hash(&mut self, dir: &Inode, from: u64, out: &mut DirBuffer) -> Result<()> {
        let mut from = from;
        loop {
            let entries = self.ordered(dir, from)?;
            let Some(last) = entries.last() else { return Ok(()) };
            let next = last.0 + 1;
            for (place, inode, kind, name) in &entries {
                if !self.push(out, *inode, place + FIRST_COOKIE, *kind, name)? {
                    return Ok(());
                }
            }
            from = next;
        }
    }

    fn list_in_place(&mut self, dir: &Inode, from: u64, out: &mut DirBuffer) -> Result<()> {
        let size = self.geo.block_size as u64;
        let inodes = self.geo.inodes;
        for logical in from / size..self.dir_blocks(dir) {
            let Some(block) = self.dir_block(dir, logical)? else { continue };
            let raw = self.meta.read(block, Seal::None)?.to_vec();
            for slot in slots(&raw, inodes) {
                let slot = slot?;
                let at = logical * size + slot.at as u64;
                if slot.inode == 0 || at < from || matches!(slot.name, b"." | b"..") {
                    continue;
                }
                // Behind this entry's head: whatever comes next begins there or later.
                let next = at + dirent::HEAD as u64 + 2;
                if !self.push(out, slot.inode, next, slot.kind, slot.name)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl FileSystem for Ext {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        self.mount_again(source, flags, &[])
    }

    fn mount_again(&mut self, source: &str, flags: u32, held: &[Ino]) -> Result<MountInfo> {
        if self.volume.is_some() {
            return Err(Error::Busy);
        }
        let device = (self.open)(source)?;
        let around = self.around;
        let read_only = flags & mount::READ_ONLY != 0 || device.read_only();
        let account = if read_only { None } else { self.open_account() };
        let volume = Volume::mount(device, read_only, around, account, held)
            .map_err(|refusal| refuse(around, refusal))?;
        let mut granted = if volume.read_only { flags | mount::READ_ONLY } else { flags };
        if volume.restored() {
            granted |= mounted::RESTORED;
        }
        if !volume.holds.is_empty() {
            granted |= mounted::HELD;
        }
        self.volume = Some(volume);
        Ok(MountInfo { root: inode::ROOT.into(), flags: granted })
    }

    fn unmount(&mut self) -> Result<()> {
        // Where that fails (a driver that is stopped) it can be tried again.
        self.volume()?.unmount()?;
        self.volume = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.volume()?.commit()
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let volume = self.volume()?;
        let dir = volume.directory(dir)?;
        let file = volume.find_file(&dir, name)?;
        Ok(file.stat(&volume.geo))
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        let volume = self.volume()?;
        Ok(volume.inode(ino)?.stat(&volume.geo))
    }

    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        self.volume()?.change_attributes(ino, set)
    }

    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        let volume = self.volume()?;
        let file = volume.inode(ino)?;
        match file.kind() {
            mode::REGULAR => volume.read_file(&file, offset, out),
            mode::DIRECTORY => Err(Error::IsDir),
            _ => Err(Error::Inval),
        }
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.volume()?.write_file(ino, offset, data)
    }

    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        self.volume()?.make(dir, name, new)
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        self.volume()?.remove(dir, name, directory)
    }

    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        self.volume()?.move_name(from, to)
    }

    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        self.volume()?.add_link(ino, dir, name)
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        self.volume()?.target(ino)
    }

    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let volume = self.volume()?;
        let dir = volume.directory(dir)?;
        volume.list(&dir, cookie, out)
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        let volume = self.volume()?;
        let number = volume.inode(ino)?.number;
        let count = volume.holds.entry(number).or_insert(0);
        *count = count.checked_add(1).ok_or(Error::Overflow)?;
        Ok(())
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        let volume = self.volume()?;
        let number = u32::try_from(ino).map_err(|_| Error::Stale)?;
        let count = volume.holds.get_mut(&number).ok_or(Error::Inval)?;
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        volume.holds.remove(&number);
        if volume.state.orphans.contains(&number) && !volume.read_only {
            volume.finish_cut(number)?;
        }
        Ok(())
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let volume = self.volume()?;
        let overhead: u64 = volume.zones.iter().map(|zone| zone.1).sum();
        let mut fs_type = [0; 16];
        let kind = volume.kind();
        fs_type[..kind.len()].copy_from_slice(kind.as_bytes());
        Ok(StatFs {
            block_size: volume.geo.block_size as u64,
            blocks: volume.geo.blocks.saturating_sub(overhead),
            blocks_free: volume.state.free_blocks,
            files: volume.geo.inodes.into(),
            files_free: volume.state.free_inodes,
            name_max: 255,
            fs_type,
        })
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        let volume = self.volume()?;
        volume.inode(ino)?;
        volume.commit()
    }

    /// In one piece, so that one operation finds room for all of it.
    fn write_from(
        &mut self,
        ino: Ino,
        offset: u64,
        len: usize,
        from: &mut dyn Source,
    ) -> Result<usize> {
        let mut data = vec![0; len.min(WRITE_MAX)];
        from.get(0, &mut data)?;
        self.write(ino, offset, &data)
    }

    fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        self.volume()?.trim(offset, len, min_len)
    }

    fn background(&mut self, tick: bool) -> bool {
        self.volume.as_mut().is_some_and(|volume| volume.background(tick))
    }

    /// The volume is marked clean and opened anew. `Busy` while files without a name are held.
    fn remount(&mut self, flags: u32) -> Result<u32> {
        let volume = self.volume()?;
        let read_only = flags & mount::READ_ONLY != 0;
        if read_only != volume.read_only {
            if !volume.state.orphans.is_empty() {
                return Err(Error::Busy);
            }
            let holds = core::mem::take(&mut volume.holds);
            let result = volume.unmount();
            volume.holds = holds;
            result?;
            let Some(old) = self.volume.take() else { return Err(Error::NoDev) };
            let around = self.around;
            let holds = old.holds;
            let account = if read_only { None } else { self.open_account() };
            let mut volume = Volume::mount(old.meta.device, read_only, around, account, &[])
                .map_err(|refusal| refuse(around, refusal))?;
            volume.holds = holds;
            self.volume = Some(volume);
        }
        let forced = self.volume()?.read_only;
        Ok(if forced { flags | mount::READ_ONLY } else { flags })
    }
}
