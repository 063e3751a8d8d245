//! Mounting and unmounting.
//!
//! The type of a device's file system is found by asking one server after the other, the likeliest
//! first; a server answers `Inval` when the device holds something else.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{mode, mount};
use xinim_block_client::probe::probe;
use xinim_fs_kit::{FileSystem, MountInfo};

use crate::access::Credentials;
use crate::files::Object;
use crate::mounts::{Mount, MountId};
use crate::state::Later;
use crate::tree::NodeId;
use crate::vfs::{ATTEMPTS, Host, Vfs};

/// Types that need no device; their source is only a label.
const WITHOUT_DEVICE: &[&str] = &["ramfs", "tmpfs", "devfs", "procfs"];
const FLAGS: u32 =
    mount::READ_ONLY | mount::NO_EXEC | mount::NO_SUID | mount::NO_DEV | mount::NO_ATIME;
/// File systems mounted at once.
const MOUNTS_MAX: usize = 64;

impl<H: Host> Vfs<H> {
    /// `fs_type` may be empty. `Perm`: only root mounts; `NotBlk`: the source is no block device;
    /// `Busy`: it is mounted already; `Inval`: no server knows what is on it.
    pub fn mount_at(
        &mut self,
        pid: u32,
        source: &[u8],
        target: &[u8],
        fs_type: &[u8],
        flags: u32,
    ) -> Result<()> {
        self.root_only(pid)?;
        if flags & !FLAGS != 0 {
            return Err(Error::Inval);
        }
        let fs_type = core::str::from_utf8(fs_type).map_err(|_| Error::NoDev)?;
        let covers = self.directory(pid, target)?;
        if self.mounts().count() + self.mounting.len() >= MOUNTS_MAX {
            return Err(Error::Limit);
        }
        let (name, device) = self.source(pid, source, fs_type)?;
        let likely = if fs_type.is_empty() { self.likely_type(pid, source) } else { None };
        if name != device {
            // A device is mounted once.
            let taken = self.mounts().any(|(_, mount)| mount.source == name);
            if taken || self.mounting.contains(&name) {
                return Err(Error::Busy);
            }
        }
        self.give_up_mounts();
        self.pin(covers);
        self.mounting.push(name.clone());
        self.commit();
        let started = self.start_server(&device, fs_type, likely, flags);
        if let Some(at) = self.mounting.iter().position(|mounting| *mounting == name) {
            self.mounting.swap_remove(at);
        }
        let result = started.and_then(|(fs, info, fs_type)| {
            let node = self.tree.node(covers);
            let (gone, taken) = (node.gone, node.covered_by.is_some());
            if gone || taken {
                self.unlocked(|host| host.stop(fs));
                return Err(if gone { Error::NoEnt } else { Error::Busy });
            }
            // The request's flags stay even if the server forgot to answer them.
            let info = MountInfo { flags: info.flags | flags, ..info };
            self.put_mount(fs, info, covers, &name, &fs_type);
            Ok(())
        });
        self.unpin(covers);
        result
    }

    pub(crate) fn root_only(&self, pid: u32) -> Result<()> {
        if self.process(pid)?.who.is_root() { Ok(()) } else { Err(Error::Perm) }
    }

    /// A source as people see it, and as its server is told.
    fn source(&mut self, pid: u32, source: &[u8], fs_type: &str) -> Result<(String, String)> {
        if WITHOUT_DEVICE.contains(&fs_type) {
            let label = String::from_utf8_lossy(source).into_owned();
            return Ok((label.clone(), label));
        }
        let node = self.resolve_for(pid, source, true)?.node()?;
        if self.tree.node(node).kind != mode::BLOCK {
            return Err(Error::NotBlk);
        }
        if self.mount_of(node).flags & mount::NO_DEV != 0 {
            return Err(Error::Access);
        }
        let path = String::from_utf8(self.path_of(node)?).map_err(|_| Error::Inval)?;
        Ok((path, self.path_within_mount(node)?))
    }

    /// What a block device seems to hold. Only a hint as to whom to ask first: starting a server, with
    /// its cache, to hear that it knows nothing of it is expensive.
    fn likely_type(&mut self, pid: u32, source: &[u8]) -> Option<&'static str> {
        let node = self.resolve_for(pid, source, true).ok()?.node?;
        let len = self.stat_of(node).ok()?.size;
        let found =
            probe(len, |offset, out| match self.on(node, |fs, ino| fs.read(ino, offset, out)) {
                Ok(count) if count == out.len() => Ok(()),
                Ok(_) => Err(Error::Io),
                Err(error) => Err(error),
            });
        match found.ok()??.kind {
            "vfat" => Some("fat"),
            "minix" => Some("minix"),
            "iso9660" => Some("iso"),
            "ext2" | "ext3" | "ext4" => Some("ext"),
            _ => None,
        }
    }

    /// Other flags for what is mounted at a directory.
    pub fn remount(&mut self, pid: u32, path: &[u8], flags: u32) -> Result<()> {
        self.root_only(pid)?;
        if flags & !FLAGS != 0 {
            return Err(Error::Inval);
        }
        let root = self.directory(pid, path)?;
        let id = self.tree.node(root).mount;
        if self.mount(id).root != root {
            return Err(Error::Inval);
        }
        self.own(id)?;
        let (old, asked) = (self.mount(id).flags, flags & mount::READ_ONLY);
        if old & mount::READ_ONLY != asked {
            if asked != 0 && self.has_writers(id) {
                return Err(Error::Busy);
            }
            let granted = match self.on(root, |fs, _| fs.remount(flags)) {
                // It cannot, but nothing prevents VFS from refusing changes.
                Err(Error::NotSup) if asked != 0 => {
                    self.sync_mount(id)?;
                    asked
                }
                // Only VFS refused them.
                Err(Error::NotSup) if !self.mount(id).server_read_only => asked,
                result => result?,
            };
            if granted & mount::READ_ONLY != asked {
                return Err(Error::RoFs);
            }
        }
        let mount = self.mount_mut(id);
        mount.flags = mount.flags & !FLAGS | flags;
        Ok(())
    }

    /// Has somebody a file of the mount open for writing?
    fn has_writers(&self, id: MountId) -> bool {
        self.files.iter().any(|(_, file)| match file.object {
            Object::Node(node) => {
                let node = self.tree.node(node);
                node.mount == id && node.kind == mode::REGULAR && file.writable()
            }
            _ => false,
        })
    }

    /// Mounts a file system that is there already, as at boot.
    pub fn mount_ready(
        &mut self,
        mut fs: H::Fs,
        source: &str,
        target: &[u8],
        fs_type: &str,
        flags: u32,
    ) -> Result<()> {
        let root = self.root();
        let covers = self.resolve(&Credentials::default(), root, target, true)?.node()?;
        if self.tree.node(covers).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        let info = fs.mount(source, flags)?;
        self.put_mount(fs, info, covers, source, fs_type);
        Ok(())
    }

    fn put_mount(
        &mut self,
        mut fs: H::Fs,
        info: MountInfo,
        covers: NodeId,
        source: &str,
        fs_type: &str,
    ) -> MountId {
        let server = self.host.describe(&mut fs);
        self.add_mount(fs, server, info, Some(covers), source, fs_type)
    }

    /// Has `fs_type`, which needs no device, mounted on a directory when a path first leads there:
    /// what no program asks for costs no boot time.
    pub fn mount_later(&mut self, target: &[u8], fs_type: &'static str) -> Result<()> {
        let root = self.root();
        let covers = self.resolve(&Credentials::default(), root, target, true)?.node()?;
        if self.tree.node(covers).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        self.pin(covers);
        self.later.push(Later { covers, fs_type, starting: false });
        Ok(())
    }

    /// The time has come if `node`, which is kept, is such a directory. When it fails the directory
    /// stays empty, and the next path tries again.
    pub(crate) fn mount_now(&mut self, node: NodeId) {
        let place = |vfs: &Self| vfs.later.iter().position(|later| later.covers == node);
        for turn in 0.. {
            let Some(at) = place(self) else { return };
            let later = &mut self.later[at];
            if !core::mem::replace(&mut later.starting, true) {
                break;
            }
            // Somebody is at it: soon it is there.
            self.unlocked(|host| host.pause(turn));
        }
        let Some(at) = place(self) else { return };
        let fs_type = self.later[at].fs_type;
        let started = self.start_server(fs_type, fs_type, None, 0);
        let Some(at) = place(self) else { return };
        match started {
            Ok((fs, info, _)) => {
                self.later.swap_remove(at);
                self.put_mount(fs, info, node, fs_type, fs_type);
                self.unpin(node);
            }
            Err(_) => self.later[at].starting = false,
        }
    }

    /// How many file systems of a type are mounted.
    pub fn mounted(&self, fs_type: &str) -> usize {
        self.mounts().filter(|(_, mount)| mount.fs_type == fs_type).count()
    }

    /// What waits for its first visitor is mounted now.
    pub fn mount_all(&mut self) {
        let waiting: Vec<NodeId> = self.later.iter().map(|later| later.covers).collect();
        for node in waiting {
            self.mount_now(node);
        }
    }

    fn start_server(
        &mut self,
        device: &str,
        fs_type: &str,
        likely: Option<&str>,
        flags: u32,
    ) -> Result<(H::Fs, MountInfo, String)> {
        let mut candidates: Vec<&str> = match fs_type {
            "" => self.host.types().to_vec(),
            named => [named].to_vec(),
        };
        candidates.sort_by_key(|name| Some(*name) != likely);
        for name in candidates {
            let started = self.unlocked(|host| {
                host.about_to_wait();
                let mut fs = host.start(name)?;
                let mounted = fs.mount(device, flags);
                Ok((fs, mounted))
            });
            let (fs, mounted) = match started {
                // Not in this system; another type may fit.
                Err(Error::NoDev) if fs_type.is_empty() => continue,
                started => started?,
            };
            match mounted {
                Ok(info) => return Ok((fs, info, String::from(name))),
                Err(error) => {
                    self.host.stop(fs);
                    match error {
                        Error::Inval => {}
                        Error::ServerDied => return Err(Error::Io),
                        error => return Err(error),
                    }
                }
            }
        }
        Err(Error::Inval)
    }

    fn directory(&mut self, pid: u32, path: &[u8]) -> Result<NodeId> {
        let node = self.resolve_for(pid, path, true)?.node()?;
        match self.tree.node(node).kind {
            mode::DIRECTORY => Ok(node),
            _ => Err(Error::NotDir),
        }
    }

    /// The path below the root of the node's mount: what a device is called in /dev.
    fn path_within_mount(&self, mut id: NodeId) -> Result<String> {
        let mut parts = Vec::new();
        loop {
            let node = self.tree.node(id);
            if node.parent == id {
                break;
            }
            parts.push(core::str::from_utf8(&node.name).map_err(|_| Error::Inval)?);
            id = node.parent;
        }
        parts.reverse();
        Ok(parts.join("/"))
    }

    /// Unmounts what is mounted at a directory, or from a device. `Busy`: files are open in it,
    /// it is a working directory or something is mounted below; with `lazy` it leaves the
    /// tree at once and ends with its last user.
    pub fn umount(&mut self, pid: u32, path: &[u8], lazy: bool) -> Result<()> {
        self.root_only(pid)?;
        let node = self.resolve_for(pid, path, true)?.node()?;
        let is_device = self.tree.node(node).kind == mode::BLOCK;
        let id = if is_device {
            let device = self.path_of(node)?;
            let mut mounts = self.mounts();
            let found = mounts.find(|(_, mount)| mount.source.as_bytes() == device);
            found.ok_or(Error::Inval)?.0
        } else {
            self.tree.node(node).mount
        };
        if self.mount(id).root != node && !is_device {
            return Err(Error::Inval);
        }
        let Some(covered) = self.mount(id).covers else { return Err(Error::Busy) };
        if is_device {
            self.give_up_mounts();
        }
        self.own(id)?;
        self.commit();
        self.drop_kept();
        let busy = self.tree.in_use(id);
        if busy && !lazy {
            return Err(Error::Busy);
        }
        // No path leads there from now on.
        self.pin(covered);
        self.tree.node_mut(covered).covered_by = None;
        self.mount_mut(id).covers = None;
        let result = if busy {
            self.mount_mut(id).detached = true;
            self.detached += 1;
            // Its users may never go; what is dirty now is on the disk at least.
            self.sync_mount(id)
        } else {
            let closed = match self.close_server(id) {
                // What is dirty can go nowhere, and the caller does not want to wait for better.
                Err(_) if lazy => Ok(()),
                closed => closed,
            };
            self.drop_kept();
            match closed {
                Ok(()) => self.end_server(id),
                Err(_) => {
                    self.tree.node_mut(covered).covered_by = Some(id);
                    self.mount_mut(id).covers = Some(covered);
                }
            }
            closed
        };
        self.unpin(covered);
        result
    }

    /// Has everything written and the device forgotten. The operation owns the mount.
    fn close_server(&mut self, id: MountId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match self.with_fs(id, |fs| fs.unmount()) {
                Err(Error::ServerDied) => {
                    if self.recover(id).is_err() {
                        // RS gave it up: there is nobody left who could write anything.
                        return Ok(());
                    }
                }
                // The device was torn away: there is nothing left to write to.
                Err(Error::NxIo) => return Ok(()),
                result => return result,
            }
        }
        Err(Error::Io)
    }

    /// The mount is no more.
    fn end_server(&mut self, id: MountId) {
        self.forget_mount(id);
        if let Some(Mount { fs: Some(fs), .. }) = self.remove_mount(id) {
            self.unlocked(|host| host.stop(fs));
        }
    }

    /// Ends the lazily unmounted file systems whose last user is gone.
    pub(crate) fn end_detached(&mut self) {
        loop {
            let mut mounts = self.mounts();
            let idle = |(id, mount): &(MountId, &Mount<H::Fs>)| {
                mount.detached && !mount.busy && !self.tree.in_use(*id)
            };
            let Some((id, _)) = mounts.find(idle) else { return };
            drop(mounts);
            if self.own(id).is_err() {
                return;
            }
            // Nobody is left to be told of an error.
            let _ = self.close_server(id);
            self.drop_kept();
            self.detached -= 1;
            self.end_server(id);
        }
    }

    /// `source target type options`, a line each; spaces in names as `\040`.
    pub fn mounts_text(&self) -> String {
        let mut text = String::new();
        for (_, mount) in self.mounts() {
            let target = self.path_of(mount.root).unwrap_or_default();
            if target.is_empty() {
                continue;
            }
            let source = if mount.source.is_empty() { "none" } else { &mount.source };
            for field in [source, &String::from_utf8_lossy(&target), &mount.fs_type] {
                for c in field.chars() {
                    match c {
                        ' ' => text.push_str("\\040"),
                        '\t' => text.push_str("\\011"),
                        '\n' => text.push_str("\\012"),
                        '\\' => text.push_str("\\134"),
                        c => text.push(c),
                    }
                }
                text.push(' ');
            }
            text.push_str(&mount.options());
            text.push('\n');
        }
        text
    }

    /// Types of file systems there are, `nodev` before those that need no device.
    pub(crate) fn types_text(&self) -> String {
        let without = WITHOUT_DEVICE.iter().map(|name| ("nodev", *name));
        let with = self.host.types().iter().map(|name| ("", *name));
        without.chain(with).map(|(nodev, name)| alloc::format!("{nodev}\t{name}\n")).collect()
    }
}
