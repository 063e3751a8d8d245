//! A file-system server as VFS sees it. One instance serves one mount; VFS is its only client.
//!
//! Names, data and structures travel through a window that VFS shares at `Mount`. "name" means the
//! first `name_len` bytes of it, one component, never empty, `.` or `..`, no `/`. Attributes
//! ([`super::vfs::Stat`], `device` unused) are answered at the start of the window.
//!
//! Inode numbers are the server's. A number stays valid until the file is unlinked or renamed, and
//! while VFS holds it (`Hold`/`Release`) also after that. VFS remembers names and numbers it
//! looked up, and holds a number only before it unlinks or renames a file that somebody has open.
//! A server whose names come and go by themselves answers [`mounted::VOLATILE`].

crate::interface! {
    /// Operations of a file system.
    pub mod fs = 0x04 {
        /// Source (device name as in /dev, or empty) is the first `source_len` bytes of the window.
        /// Flags as `vfs::mount`; the server may answer with `READ_ONLY` added. `Inval`: not this file
        /// system.
        1 idempotent Mount { flags: u32, source_len: u32, len: u64; window: handle }
            -> Mounted { root: u64, flags: u32 }
        /// Writes everything and forgets the device.
        2 idempotent Unmount { } -> Unmounted { }
        3 idempotent Sync { } -> Synced { }
        /// Answers attributes too.
        4 idempotent Lookup { dir: u64, name_len: u32 } -> LookedUp { ino: u64 }
        5 idempotent GetAttr { ino: u64 } -> Attr { }
        /// See [`super::set`] for the mask; answers the new attributes.
        6 idempotent SetAttr { ino: u64, mask: u32, size: u64, mode: u32, mtime: u64 } -> AttrSet { }
        /// Up to `len` bytes from `offset` to `at` of the window; 0 at the end.
        7 idempotent Read { ino: u64, offset: u64, at: u32, len: u32 } -> Count { count: u64 }
        /// Extends the file as needed. Less than `len` only when space ran out.
        8 idempotent Write { ino: u64, offset: u64, at: u32, len: u32 } -> Written { count: u64 }
        /// A regular file, directory or symbolic link by `mode`'s type (a link's target follows the
        /// name, `target_len` bytes). Answers attributes too.
        9 once Create { dir: u64, name_len: u32, mode: u32, target_len: u32 } -> Created { ino: u64 }
        10 once Unlink { dir: u64, name_len: u32, directory: bool } -> Unlinked { }
        /// Replaces the target if POSIX allows.
        11 once Rename { from_dir: u64, to_dir: u64, from_len: u32, to_len: u32 } -> Renamed { }
        12 once Link { ino: u64, dir: u64, name_len: u32 } -> Linked { }
        13 idempotent Readlink { ino: u64 } -> Target { len: u32 }
        /// Whole `Dirent`s behind position `cookie` (0: start), `.` and `..` included.
        14 idempotent Readdir { dir: u64, cookie: u64, len: u32 } -> Entries { len: u32 }
        /// Keeps an inode number valid until released as often.
        15 once Hold { ino: u64 } -> Held { }
        16 once Release { ino: u64 } -> Released { }
        /// For character devices: who serves it.
        17 idempotent Redirect { ino: u64 } -> Redirected { cookie: u64; endpoint: handle }
        /// See `vfs::Map`.
        18 idempotent Map { ino: u64 } -> Mapped { offset: u64, len: u64; memory: handle }
        /// A `vfs::StatFs` to the start of the window.
        19 idempotent StatFs { } -> StatFsDone { }
        20 idempotent Fsync { ino: u64 } -> Fsynced { }
    }
}

/// Flags of `Mounted`, beside those of `vfs::mount`.
pub mod mounted {
    /// VFS must not remember look-ups: names come and go without it (processes).
    pub const VOLATILE: u32 = 1 << 16;
}

/// Mask bits of `SetAttr`.
pub mod set {
    pub const SIZE: u32 = 1;
    pub const MODE: u32 = 2;
    pub const MTIME: u32 = 4;
}

/// Bytes of the window VFS shares with each file system.
pub const WINDOW_LEN: usize = 256 * 1024;
