//! Making and moving names.
//!
//! ```text
//! move       an empty file under the new name ─ it becomes the file ─ barrier ─ the old name goes
//! replace    the target becomes the file ─ barrier ─ the old name goes, then what the target was
//! ```
//! "Becomes" is one write within a sector: attributes, times, first cluster and size. So at every
//! instant a file has at least one of its names on the medium; lamfat's own rename removes the old
//! name first.
//!
//! A name that lamfat cannot make (it begins beyond ASCII, or has characters beyond 16 bits) is
//! made with other characters in their place, which are then changed where they stand.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;
use xinim_fs_kit::Ino;

use crate::directory::ORPHAN_PREFIX;
use crate::fat::Mounted;
use crate::nodes::ROOT;
use crate::raw::{Entry, Layout};
use crate::volume::error;

impl Mounted {
    /// The entry of a name as it stands on the medium, and its directory's first cluster.
    fn raw_entry(&mut self, dir: Ino, name: &str) -> Result<(Layout, u32, Entry)> {
        let layout = Layout::read(&mut self.storage)?;
        let path = self.nodes.path(dir)?;
        let place = layout.directory(&mut self.storage, &path)?;
        let entry = layout.find(&mut self.storage, place, name)?;
        Ok((layout, place, entry))
    }

    /// A new empty file or directory. The name must be free.
    pub(crate) fn make(&mut self, dir: Ino, name: &str, directory: bool) -> Result<()> {
        let stand_in = self.stand_in(dir, name)?;
        let made = stand_in.as_deref().unwrap_or(name);
        let path = self.nodes.path(dir)?;
        let parent = self.volume.as_ref().ok_or(Error::Io)?.directory(&path)?;
        if directory {
            parent.create_dir(made).map_err(error)?;
        } else {
            parent.create_file(made).map_err(error)?;
        }
        drop(parent);
        match stand_in {
            Some(stand_in) => {
                let (.., entry) = self.raw_entry(dir, &stand_in)?;
                entry.put_long_name(&mut self.storage, name)
            }
            None => Ok(()),
        }
    }

    /// A free name of as many UTF-16 units that lamfat can make, where it cannot make `name`.
    fn stand_in(&mut self, dir: Ino, name: &str) -> Result<Option<String>> {
        let wide = |character: char| character.len_utf16() > 1;
        if name.starts_with(|first: char| first.is_ascii()) && !name.contains(wide) {
            return Ok(None);
        }
        // Not for short names, so that lamfat makes up one that nobody will ask for.
        for letter in "+=;,[]".chars() {
            let mut text = String::new();
            for (n, character) in name.chars().enumerate() {
                if n == 0 || wide(character) {
                    (0..character.len_utf16()).for_each(|_| text.push(letter));
                } else {
                    text.push(character);
                }
            }
            match self.find_in(dir, &text) {
                Err(Error::NoEnt) => return Ok(Some(text)),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Err(Error::NoSpc)
    }

    /// Another name for a file or directory; nothing has that name. Open files were closed.
    pub(crate) fn move_name(&mut self, from: (Ino, &str), to: (Ino, &str)) -> Result<()> {
        self.make(to.0, to.1, false)?;
        let (layout, _, source) = self.raw_entry(from.0, from.1)?;
        let (_, place, target) = self.raw_entry(to.0, to.1)?;
        target.become_as(&mut self.storage, &source.short)?;
        self.storage.barrier()?;
        source.erase(&mut self.storage)?;
        if source.is_directory() && from.0 != to.0 {
            self.redirect_parent(&layout, source.cluster(), place)?;
        }
        Ok(())
    }

    /// `..` of a directory that stands below `parent` now; 0 means the root, also on FAT32.
    fn redirect_parent(&mut self, layout: &Layout, dir: u32, parent: u32) -> Result<()> {
        let parent = if parent == layout.root() { 0 } else { parent };
        let mut entries: Vec<Entry> = Vec::new();
        layout.each(&mut self.storage, dir, |entry| {
            entries.push(entry.clone());
            if entries.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match entries.get_mut(1) {
            Some(dots) if dots.is_dots() => dots.set_cluster(&mut self.storage, parent),
            _ => Err(Error::Io),
        }
    }

    /// The file `from` takes the place of the file `to`, whose number is `replaced`. Open files were
    /// closed.
    pub(crate) fn replace(
        &mut self,
        from: (Ino, &str),
        to: (Ino, &str),
        replaced: Ino,
    ) -> Result<()> {
        let hidden = hidden_name(replaced);
        // First, because it can fail.
        self.make(ROOT, &hidden, false)?;
        let (.., source) = self.raw_entry(from.0, from.1)?;
        let (.., target) = self.raw_entry(to.0, to.1)?;
        target.become_as(&mut self.storage, &source.short)?;
        self.storage.barrier()?;
        source.erase(&mut self.storage)?;
        let (.., holder) = self.raw_entry(ROOT, &hidden)?;
        holder.become_as(&mut self.storage, &target.short)?;
        if self.nodes.get(replaced)?.holds > 0 {
            self.nodes.moved(replaced, ROOT, &hidden);
            self.nodes.get_mut(replaced)?.orphan = true;
        } else {
            self.volume()?.fs().root_dir().remove(&hidden).map_err(error)?;
            self.nodes.forget(replaced);
        }
        Ok(())
    }

    /// A held file loses its name and lives on under a hidden one.
    pub(crate) fn hide(&mut self, dir: Ino, name: &str, ino: Ino) -> Result<()> {
        let hidden = hidden_name(ino);
        self.move_name((dir, name), (ROOT, &hidden))?;
        self.nodes.moved(ino, ROOT, &hidden);
        self.nodes.get_mut(ino)?.orphan = true;
        Ok(())
    }
}

pub(crate) fn hidden_name(ino: Ino) -> String {
    format!("{ORPHAN_PREFIX}{ino}")
}
