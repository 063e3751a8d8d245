//! Taking in the bundle: members become inodes whose data stays where it lies.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino};

use crate::cpio::{Archive, Entry, Malformed};
use crate::file::{Content, PAGE};
use crate::inode::{Directory, Node};
use crate::ramfs::{Bundle, PERMISSIONS, ROOT, RamFs};

impl<'a> RamFs<'a> {
    /// Takes the bundle in. What was read before a malformed member stays; the error tells.
    pub(crate) fn fill(&mut self, bundle: Bundle<'a>) -> core::result::Result<(), Malformed> {
        self.memory = Some(bundle.memory);
        let mut links: Vec<((u64, u32), Ino)> = Vec::new();
        for entry in Archive::new(bundle.bytes) {
            // A member with an impossible path or kind is left out; the rest is still good.
            let _ = self.add(&entry?, &mut links);
        }
        Ok(())
    }

    fn add(&mut self, entry: &Entry<'a>, links: &mut Vec<((u64, u32), Ino)>) -> Result<()> {
        let mut components =
            entry.name.split(|&byte| byte == b'/').filter(|c| !matches!(*c, b"" | b"."));
        let Some(mut name) = components.next() else { return Ok(()) };
        let mut dir = ROOT;
        for next in components {
            dir = match self.table.directory(dir)?.get(name) {
                Some(ino) => ino,
                None => self.insert(dir, name, Node::Directory(Directory::new(dir)), 0o755)?,
            };
            name = next;
        }
        let permissions = entry.mode & PERMISSIONS;
        let old = self.table.directory(dir)?.get(name);
        let linked = (entry.links > 1 && entry.mode & mode::TYPE_MASK == mode::REGULAR)
            .then(|| links.iter().find(|link| link.0 == (entry.device, entry.ino)))
            .flatten()
            .map(|link| link.1);
        let ino = match entry.mode & mode::TYPE_MASK {
            mode::DIRECTORY => match old {
                Some(ino) => ino,
                None => {
                    self.insert(dir, name, Node::Directory(Directory::new(dir)), permissions)?
                }
            },
            mode::REGULAR => match linked {
                Some(ino) => {
                    self.add_name(dir, name, ino)?;
                    // In newc the last of the names carries the data.
                    if !entry.data.is_empty() {
                        *self.table.file_mut(ino)? = Content::in_bundle(entry.data, entry.offset);
                    }
                    ino
                }
                None => {
                    if old.is_some() {
                        self.unlink(dir, name, false)?;
                    }
                    let content = Content::in_bundle(entry.data, entry.offset);
                    let ino = self.insert(dir, name, Node::File(content), permissions)?;
                    if entry.links > 1 {
                        links.push(((entry.device, entry.ino), ino));
                    }
                    ino
                }
            },
            mode::SYMLINK if !entry.data.is_empty() && old.is_none() => {
                self.insert(dir, name, Node::Symlink(entry.data.to_vec()), permissions)?
            }
            _ => return Err(Error::NotSup),
        };
        self.bundle_bytes += (entry.data.len() as u64).next_multiple_of(PAGE as u64);
        let inode = self.table.get_mut(ino)?;
        inode.mode = permissions;
        inode.mtime = u64::from(entry.mtime) * 1_000_000_000;
        Ok(())
    }
}
