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

/// Notification bit by which VFS tells an instance that it is not needed any more: it writes what is to be written,
/// and ends.
pub const END: u64 = 1 << 47;

crate::interface! {
    /// Operations of a file system.
    pub mod fs = 0x04 {
        /// Source (device name as in /dev, or empty) is the first `source_len` bytes of the window.
        /// Flags as `vfs::mount`; the server may answer with `READ_ONLY` added. `Inval`: not this file
        /// system. Behind the source are `held` inode numbers (`u64`, once for each hold) of files without a
        /// name that were held at the instance before; see [`mounted::HELD`](super::mounted::HELD).
        1 idempotent Mount { flags: u32, source_len: u32, len: u64, held: u32; window: handle }
            -> Mounted { root: u64, flags: u32 }
        /// Writes everything and forgets the device.
        2 idempotent Unmount { } -> Unmounted { }
        3 idempotent Sync { } -> Synced { }
        /// Answers attributes too.
        4 idempotent Lookup { dir: u64, name_len: u32 } -> LookedUp { ino: u64 }
        5 idempotent GetAttr { ino: u64 } -> Attr { }
        /// Sets what [`super::set`]'s `mask` names to what the [`super::Attributes`] at the start of
        /// the window says; answers the new attributes. A change of the size alone sets mtime and
        /// ctime to now, of the access time alone nothing else (a read did it), any other change ctime.
        /// A file system that cannot keep owners, permissions or a time leaves them as they are and
        /// answers without error. What a longer size adds reads as zeros.
        6 idempotent SetAttr { ino: u64, mask: u32 } -> AttrSet { }
        /// Up to `len` bytes from `offset` to `at` of the window; 0 at the end.
        7 idempotent Read { ino: u64, offset: u64, at: u32, len: u32 } -> Count { count: u64 }
        /// Extends the file as needed. Less than `len` only when space ran out.
        8 idempotent Write { ino: u64, offset: u64, at: u32, len: u32 } -> Written { count: u64 }
        /// Any kind of file by `mode`'s type: regular, directory, symbolic link (its target follows the
        /// name, `target_len` bytes), FIFO, socket, character or block device (`rdev`: major << 16 |
        /// minor, else 0). `owner` is uid | gid << 32. Answers attributes too. `NotSup`: the format
        /// has no such files.
        9 once Create { dir: u64, name_len: u32, mode: u32, target_len: u32, owner: u64, rdev: u32 }
            -> Created { ino: u64 }
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
        /// Tells the device which free blocks in `len` bytes from `offset` of it hold nothing any more
        /// (fstrim), in runs of at least `min_len`; answers how many bytes. `NotSup`: it does not.
        21 idempotent Trim { offset: u64, len: u64, min_len: u64 } -> Trimmed { bytes: u64 }
        /// Other `vfs::mount` flags from now on; to `READ_ONLY` everything is written first and the
        /// device marked clean. Answers the flags in force. `NotSup`: unmount and mount again.
        /// VFS tells about itself what procfs shows: text of a `vfs::report`, `len` bytes at the start of
        /// the window. For servers that answered [`mounted::REPORTS`](super::mounted::REPORTS), before
        /// the file of that name in the root is read from its start.
        23 idempotent Tell { kind: u32, len: u32 } -> Told { }
        22 idempotent Remount { flags: u32 } -> Remounted { flags: u32 }
        /// A new instance of VFS goes on with this mount: another window, and the `count` inode numbers
        /// (`u64`, once for each hold) at its start are all that VFS holds. Nothing else changes; the
        /// answer is that of `Mount`. `NoDev`: nothing is mounted.
        24 idempotent Attach { count: u32, len: u64; window: handle } -> Attached { root: u64, flags: u32 }
        /// Of a block device: see `vfs::Discard`.
        25 idempotent Discard { ino: u64, offset: u64, len: u64, zeroes: bool } -> Discarded { }
    }
}

/// Flags of `Mounted`, beside those of `vfs::mount`.
pub mod mounted {
    /// VFS must not remember look-ups: names come and go without it (processes).
    pub const VOLATILE: u32 = 1 << 16;
    /// It wants to be told what VFS reports about itself.
    pub const REPORTS: u32 = 1 << 17;
    /// The same as [`VOLATILE`] for block devices and symbolic links alone (`/dev`): what is
    /// looked up all the time, as /dev/null, may be remembered.
    pub const VOLATILE_DISKS: u32 = 1 << 18;
    /// Everything is there that the instance before has answered: nobody needs to hear of its death.
    pub const RESTORED: u32 = 1 << 19;
    /// What was held is there, under the same numbers, and is held as often.
    pub const HELD: u32 = 1 << 20;
}

/// Mask bits of `SetAttr`.
pub mod set {
    pub const SIZE: u32 = 1;
    pub const MODE: u32 = 2;
    pub const MTIME: u32 = 4;
    pub const ATIME: u32 = 8;
    pub const UID: u32 = 16;
    pub const GID: u32 = 32;
    pub const ALL: u32 = SIZE | MODE | MTIME | ATIME | UID | GID;
}

/// New attributes in the window of a `SetAttr`. Times are nanoseconds since 1970.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct Attributes {
    pub size: u64,
    pub atime: u64,
    pub mtime: u64,
    /// Permission bits; the type cannot change.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Attributes>() == 40);

/// Bytes of the window VFS shares with each file system.
pub const WINDOW_LEN: usize = 256 * 1024;
