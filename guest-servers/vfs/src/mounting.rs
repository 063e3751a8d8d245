//! Mounting and unmounting.
//!
//! The type of a device's file system is found by asking one server after the other; a server
//! answers `Inval` when the device holds something else.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{mode, mount};
use xinim_fs_kit::{FileSystem, MountInfo};

use crate::mounts::MountId;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// Types that need no device; their source is only a label.
const WITHOUT_DEVICE: &[&str] = &["ramfs", "tmpfs", "devfs", "procfs"];
const FLAGS: u32 = mount::READ_ONLY | mount::NO_EXEC | mount::NO_SUID | mount::NO_DEV;
/// File systems mounted at once.
const MOUNTS_MAX: usize = 64;

impl<H: Host> Vfs<H> {
    /// `fs_type` may be empty. `NotBlk`: the source is no block device; `Busy`: it is mounted
    /// already; `Inval`: no server knows what is on it.
    pub fn mount_at(
        &mut self,
        pid: u32,
        source: &[u8],
        target: &[u8],
        fs_type: &[u8],
        flags: u32,
    ) -> Result<()> {
        if flags & !FLAGS != 0 {
            return Err(Error::Inval);
        }
        let fs_type = core::str::from_utf8(fs_type).map_err(|_| Error::NoDev)?;
        let covers = self.directory(pid, target)?;
        if self.mounts().count() >= MOUNTS_MAX {
            return Err(Error::Limit);
        }
        self.pin(covers);
        let result = self.mount_on(pid, covers, source, fs_type, flags);
        self.unpin(covers);
        result
    }

    fn mount_on(
        &mut self,
        pid: u32,
        covers: NodeId,
        source: &[u8],
        fs_type: &str,
        flags: u32,
    ) -> Result<()> {
        let (name, device) = if WITHOUT_DEVICE.contains(&fs_type) {
            let label = String::from_utf8_lossy(source).into_owned();
            (label.clone(), label)
        } else {
            let node = self.resolve_for(pid, source, true)?.node()?;
            if self.tree.node(node).kind != mode::BLOCK {
                return Err(Error::NotBlk);
            }
            if self.mount_of(node).flags & mount::NO_DEV != 0 {
                return Err(Error::Access);
            }
            let device = self.path_within_mount(node)?;
            let path = self.path_of(node)?;
            let path = String::from_utf8(path).map_err(|_| Error::Inval)?;
            if self.mounts().any(|(_, mount)| mount.source == path) {
                return Err(Error::Busy);
            }
            (path, device)
        };
        let (fs, info, fs_type) = self.start_server(&device, fs_type, flags)?;
        if self.tree.node(covers).gone {
            self.host.stop(fs);
            return Err(Error::NoEnt);
        }
        // The request's flags stay even if the server forgot to answer them.
        let info = MountInfo { flags: info.flags | flags, ..info };
        self.add_mount(fs, info, Some(covers), &name, &fs_type);
        Ok(())
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
        let covers = self.resolve(root, target, true)?.node()?;
        if self.tree.node(covers).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        let info = fs.mount(source, flags)?;
        self.add_mount(fs, info, Some(covers), source, fs_type);
        Ok(())
    }

    /// Has `fs_type`, which needs no device, mounted on a directory when a path first leads there:
    /// what no program asks for costs no boot time.
    pub fn mount_later(&mut self, target: &[u8], fs_type: &'static str) -> Result<()> {
        let root = self.root();
        let covers = self.resolve(root, target, true)?.node()?;
        if self.tree.node(covers).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        self.pin(covers);
        self.later.push((covers, fs_type));
        Ok(())
    }

    /// The time has come if `node` is such a directory. When it fails the directory stays empty,
    /// and the next path tries again.
    pub(crate) fn mount_now(&mut self, node: NodeId) {
        let Some(at) = self.later.iter().position(|later| later.0 == node) else { return };
        let fs_type = self.later[at].1;
        if let Ok((fs, info, _)) = self.start_server(fs_type, fs_type, 0) {
            self.later.swap_remove(at);
            self.add_mount(fs, info, Some(node), fs_type, fs_type);
            self.unpin(node);
        }
    }

    /// What waits for its first visitor is mounted now.
    pub fn mount_all(&mut self) {
        for (node, _) in self.later.clone() {
            self.mount_now(node);
        }
    }

    fn start_server(
        &mut self,
        device: &str,
        fs_type: &str,
        flags: u32,
    ) -> Result<(H::Fs, MountInfo, String)> {
        let candidates: Vec<&str> = match fs_type {
            "" => self.host.types().to_vec(),
            named => [named].to_vec(),
        };
        for name in candidates {
            let mut fs = match self.host.start(name) {
                // Not in this system; another type may fit.
                Err(Error::NoDev) if fs_type.is_empty() => continue,
                started => started?,
            };
            match fs.mount(device, flags) {
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
        let node = self.resolve_for(pid, path, true)?.node()?;
        let id = if self.tree.node(node).kind == mode::BLOCK {
            let device = self.path_of(node)?;
            let mut mounts = self.mounts();
            let found = mounts.find(|(_, mount)| mount.source.as_bytes() == device);
            found.ok_or(Error::Inval)?.0
        } else {
            self.tree.node(node).mount
        };
        let mount = self.mount(id);
        if mount.root != node && self.tree.node(node).kind != mode::BLOCK {
            return Err(Error::Inval);
        }
        let Some(covered) = mount.covers else { return Err(Error::Busy) };
        let busy = self.tree.in_use(id);
        if busy && !lazy {
            return Err(Error::Busy);
        }
        if !busy {
            self.close_server(id)?;
        }
        self.tree.node_mut(covered).covered_by = None;
        self.mount_mut(id).covers = None;
        if busy {
            let root = self.mount(id).root;
            // Its users may never go; what is dirty now is on the disk at least.
            let synced = self.on(root, |fs, _| fs.sync());
            self.mount_mut(id).detached = true;
            return synced;
        }
        if let Some(mount) = self.remove_mount(id) {
            self.host.stop(mount.fs);
        }
        Ok(())
    }

    /// Has everything written and the device forgotten.
    fn close_server(&mut self, id: MountId) -> Result<()> {
        let root = self.mount(id).root;
        match self.on(root, |fs, _| fs.unmount()) {
            // It is dead and RS gave it up: there is nothing left to write back.
            Err(Error::Io) if self.recover(id).is_err() => Ok(()),
            result => result,
        }
    }

    /// The last user of a lazily unmounted file system is gone.
    pub(crate) fn end_mount(&mut self, id: MountId) {
        // Nobody is left to be told of an error.
        let _ = self.close_server(id);
        if let Some(mount) = self.remove_mount(id) {
            self.host.stop(mount.fs);
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
}
