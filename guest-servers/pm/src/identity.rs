//! As whom programs run: real, effective and saved user and group ids, supplementary groups
//! (POSIX.1-2017, 3.189 and `setresuid` as other systems have it). Services are root.

use alloc::rc::Rc;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::KEEP_ID;

/// Supplementary groups of a program.
pub const GROUPS_MAX: usize = 32;

/// Real, effective, saved id of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Triple {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
}

impl Triple {
    pub fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// [`KEEP_ID`] leaves an id. Without privilege each new one must be one of the old (`Perm`).
    fn change(&self, new: Triple, privileged: bool) -> Result<Self> {
        let pick = |old, new| match new {
            KEEP_ID => Ok(old),
            id if privileged || self.has(id) => Ok(id),
            _ => Err(Error::Perm),
        };
        Ok(Self {
            real: pick(self.real, new.real)?,
            effective: pick(self.effective, new.effective)?,
            saved: pick(self.saved, new.saved)?,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uids: Triple,
    pub gids: Triple,
    pub groups: Rc<[u32]>,
}

impl Identity {
    pub fn is_root(&self) -> bool {
        self.uids.effective == 0
    }

    pub fn set_uids(&mut self, new: Triple) -> Result<()> {
        self.uids = self.uids.change(new, self.is_root())?;
        Ok(())
    }

    pub fn set_gids(&mut self, new: Triple) -> Result<()> {
        self.gids = self.gids.change(new, self.is_root())?;
        Ok(())
    }

    pub fn set_groups(&mut self, groups: &[u32]) -> Result<()> {
        if !self.is_root() {
            return Err(Error::Perm);
        }
        if groups.len() > GROUPS_MAX {
            return Err(Error::Inval);
        }
        self.groups = groups.into();
        Ok(())
    }

    /// May it send signals to `target`?
    pub fn may_kill(&self, target: &Identity) -> bool {
        let theirs = [target.uids.real, target.uids.saved];
        self.is_root() || theirs.contains(&self.uids.real) || theirs.contains(&self.uids.effective)
    }

    /// Running a program file with set-ID bits: its owner's authority.
    #[must_use]
    pub fn for_program(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.uids.effective = uid.unwrap_or(self.uids.effective);
        self.gids.effective = gid.unwrap_or(self.gids.effective);
        self.uids.saved = self.uids.effective;
        self.gids.saved = self.gids.effective;
        self
    }
}
