//! The mount table. A mount is found from the node it covers (`Node::covered_by`), so a path finds
//! its mounts component by component and `/mnt2` has nothing to do with `/mnt`.

use alloc::string::String;

use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::mount;

use crate::tree::NodeId;

pub(crate) type MountId = u32;

#[derive(Debug)]
pub(crate) struct Mount<F> {
    pub fs: F,
    pub root: NodeId,
    /// The directory it stands on; `None` for the first one, and once it is lazily unmounted.
    pub covers: Option<NodeId>,
    /// `vfs::mount` and `fs::mounted` flags.
    pub flags: u32,
    pub source: String,
    pub fs_type: String,
    /// Counts the server's instances; see `Node::generation`.
    pub generation: u32,
    /// Lazily unmounted: ends with its last user.
    pub detached: bool,
}

impl<F> Mount<F> {
    pub fn read_only(&self) -> bool {
        self.flags & mount::READ_ONLY != 0
    }

    pub fn volatile(&self) -> bool {
        self.flags & mounted::VOLATILE != 0
    }

    /// Options as `mount` prints them.
    pub fn options(&self) -> String {
        let mut text = String::from(if self.read_only() { "ro" } else { "rw" });
        for (flag, name) in
            [(mount::NO_EXEC, ",noexec"), (mount::NO_SUID, ",nosuid"), (mount::NO_DEV, ",nodev")]
        {
            if self.flags & flag != 0 {
                text.push_str(name);
            }
        }
        text
    }
}
