//! The mount table. A mount is found from the node it covers (`Node::covered_by`), so a path finds
//! its mounts component by component and `/mnt2` has nothing to do with `/mnt`.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{mode, mount};

use xinim_fs_kit::Ino;

use crate::server::Parked;
use crate::tree::NodeId;

pub(crate) type MountId = u32;

/// How another instance of VFS finds the server of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerName {
    pub label: String,
    /// Which instance of it: another one has other numbers.
    pub instance: u32,
    /// What it was mounted with.
    pub source: String,
    pub flags: u32,
}

pub(crate) struct Mount<F> {
    /// Away while its owner asks it something.
    pub fs: Option<F>,
    /// Some operation owns it.
    pub busy: bool,
    /// Requests that wait for the owner's end.
    pub parked: VecDeque<Parked>,
    /// Numbers to be released (with their generation) when the owner ends.
    pub deferred: Vec<(Ino, u32)>,
    pub root: NodeId,
    /// The directory it stands on; `None` for the first one, and once it is lazily unmounted.
    pub covers: Option<NodeId>,
    /// `vfs::mount` and `fs::mounted` flags.
    pub flags: u32,
    /// The server was mounted without changes in mind, or cannot make any.
    pub server_read_only: bool,
    pub source: String,
    pub fs_type: String,
    /// Counts the server's instances; see `Node::generation`.
    pub generation: u32,
    /// Lazily unmounted: ends with its last user.
    pub detached: bool,
    pub server: ServerName,
    /// Adopted from another instance of VFS, from the server that this one had.
    pub same_server: bool,
    /// Something was changed since the last `sync`.
    pub unsaved: bool,
    /// A server died with such changes, and no `sync` has told so yet.
    pub lost: bool,
}

impl<F> Mount<F> {
    pub fn new(fs: F, flags: u32, covers: Option<NodeId>, source: &str, fs_type: &str) -> Self {
        Self {
            fs: Some(fs),
            busy: false,
            parked: VecDeque::new(),
            deferred: Vec::new(),
            root: 0,
            covers,
            flags,
            server_read_only: flags & mount::READ_ONLY != 0,
            source: String::from(source),
            fs_type: String::from(fs_type),
            generation: 0,
            detached: false,
            server: ServerName::default(),
            same_server: false,
            unsaved: false,
            lost: false,
        }
    }

    pub fn read_only(&self) -> bool {
        self.flags & mount::READ_ONLY != 0
    }

    pub fn volatile(&self) -> bool {
        self.flags & mounted::VOLATILE != 0
    }

    /// Whether its server's death can lose anything: what only shows what others have, cannot.
    pub fn keeps_state(&self) -> bool {
        self.flags & (mounted::VOLATILE | mounted::VOLATILE_DISKS) == 0
    }

    /// Names of files of this kind come and go without VFS.
    pub fn volatile_kind(&self, kind: u32) -> bool {
        let disks = matches!(kind, mode::BLOCK | mode::SYMLINK);
        self.volatile() || disks && self.flags & mounted::VOLATILE_DISKS != 0
    }

    /// Options as `mount` prints them.
    pub fn options(&self) -> String {
        let mut text = String::from(if self.read_only() { "ro" } else { "rw" });
        for (flag, name) in [
            (mount::NO_EXEC, ",noexec"),
            (mount::NO_SUID, ",nosuid"),
            (mount::NO_DEV, ",nodev"),
            (mount::NO_ATIME, ",noatime"),
        ] {
            if self.flags & flag != 0 {
                text.push_str(name);
            }
        }
        text
    }
}
