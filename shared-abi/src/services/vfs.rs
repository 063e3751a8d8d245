//! The virtual file system as programs see it.
//!
//! Identity is the caller's process id (the kernel tells it). Paths, data and structures travel
//! through the caller's *window*, memory shared by `Connect` once per process; "path" below means
//! the first `path_len` bytes there, "at" an offset into it. Two paths stand one behind the other.
//! Everything out of bounds is `Fault`.
//!
//! **Character devices.** VFS never waits for one: `Read` and `Write` answer
//! [`Error::Redirect`](crate::error::Error::Redirect), the caller asks [`vfs::Redirect`] once for the
//! device's endpoint and from then on talks to it directly (interface `chardev`).

crate::interface! {
    /// Operations of VFS.
    pub mod vfs = 0x03 {
        1 idempotent Connect { len: u64; window: handle } -> Connected { }
        /// See [`super::open`] for the flags. The lowest free descriptor.
        2 once Open { path_len: u32, flags: u32, mode: u32 } -> Opened { fd: u32 }
        3 once Close { fd: u32 } -> Closed { }
        /// Reads up to `len` bytes to `at` of the window, from `offset` or (-1) the descriptor's
        /// position, which then moves on. 0 is the end of the file. On a descriptor of a character
        /// device: `Redirect`.
        4 once Read { fd: u32, offset: i64, at: u32, len: u32 } -> Count { count: u64 }
        5 once Write { fd: u32, offset: i64, at: u32, len: u32 } -> Written { count: u64 }
        /// `whence` 0 start, 1 position, 2 end.
        6 once Seek { fd: u32, offset: i64, whence: u32 } -> Position { position: u64 }
        /// A [`super::Stat`] to the start of the window. `follow`: a last symbolic link is followed.
        7 idempotent Stat { path_len: u32, follow: bool } -> StatDone { }
        8 idempotent Fstat { fd: u32 } -> FstatDone { }
        9 once Mkdir { path_len: u32, mode: u32 } -> MkdirDone { }
        /// Removes a directory (`directory`) or anything else.
        10 once Unlink { path_len: u32, directory: bool } -> UnlinkDone { }
        11 once Rename { from_len: u32, to_len: u32 } -> RenameDone { }
        12 once Link { from_len: u32, to_len: u32 } -> LinkDone { }
        13 once Symlink { target_len: u32, path_len: u32 } -> SymlinkDone { }
        14 idempotent Readlink { path_len: u32 } -> ReadlinkDone { len: u32 }
        /// Whole [`super::Dirent`]s from the descriptor's position to `at`; 0 bytes at the end.
        15 once Readdir { fd: u32, at: u32, len: u32 } -> ReaddirDone { len: u32 }
        16 idempotent Truncate { path_len: u32, size: u64 } -> TruncateDone { }
        17 idempotent Ftruncate { fd: u32, size: u64 } -> FtruncateDone { }
        18 idempotent Sync { } -> SyncDone { }
        19 idempotent Fsync { fd: u32 } -> FsyncDone { }
        /// A [`super::StatFs`] to the start of the window.
        20 idempotent Statfs { path_len: u32 } -> StatfsDone { }
        /// Source (device path), target directory, type (may be empty: found out), one behind the
        /// other. Flags: see [`super::mount`].
        21 once Mount { source_len: u32, target_len: u32, type_len: u32, flags: u32 } -> MountDone { }
        /// `Busy` while files are open below, unless `lazy`.
        22 once Umount { path_len: u32, lazy: bool } -> UmountDone { }
        /// Text to the start of the window: `source target type options` a line.
        23 idempotent Mounts { } -> MountsDone { len: u32 }
        24 idempotent Chdir { path_len: u32 } -> ChdirDone { }
        25 idempotent Getcwd { } -> GetcwdDone { len: u32 }
        26 once Dup { fd: u32, at_least: u32 } -> DupDone { fd: u32 }
        27 idempotent Dup2 { from: u32, to: u32 } -> Dup2Done { }
        28 once Pipe { } -> PipeDone { read: u32, write: u32 }
        /// Where to send reads and writes of a character device's descriptor: the `chardev`
        /// interface of `endpoint`, with this cookie. The caller keeps it per descriptor.
        29 idempotent Redirect { fd: u32 } -> Redirected { cookie: u64; endpoint: handle }
        /// The file's bytes as memory, if its file system has them so (programs from the bundle):
        /// `offset` and `len` in `memory`, to be mapped read-only. Else `NotSup`.
        30 idempotent Map { fd: u32 } -> Mapped { offset: u64, len: u64; memory: handle }
        /// Process manager only (admin badge): `child` gets the `count` descriptors of the
        /// [`super::super::pm::FdMap`]s at the start of the caller's window out of `parent`'s
        /// table, and `parent`'s working directory, credentials and umask. A map of
        /// [`super::INHERIT_ALL`] to itself stands for all that are not to be closed on exec.
        31 once Inherit { parent: u32, child: u32, count: u32 } -> Inherited { }
        /// Nanoseconds since 1970, or one of [`super::time`].
        32 idempotent SetTimes { path_len: u32, follow: bool, atime: u64, mtime: u64 }
            -> SetTimesDone { }
        33 idempotent Chmod { path_len: u32, mode: u32 } -> ChmodDone { }
        /// Process manager only: as `Open` read-only of a program `parent` may execute, resolved from
        /// `parent`'s working directory; the descriptor is the caller's own. `no_suid`: set-ID bits
        /// mean nothing there.
        34 once OpenFor { parent: u32, path_len: u32 } -> OpenedFor { fd: u32, no_suid: bool }
        35 idempotent Fchmod { fd: u32, mode: u32 } -> FchmodDone { }
        /// [`super::KEEP_ID`] leaves an id as it is.
        36 idempotent Chown { path_len: u32, follow: bool, uid: u32, gid: u32 } -> ChownDone { }
        37 idempotent Fchown { fd: u32, uid: u32, gid: u32 } -> FchownDone { }
        38 idempotent Fsettimes { fd: u32, atime: u64, mtime: u64 } -> FsettimesDone { }
        /// A FIFO, socket, device (`rdev`: major << 16 | minor; root only) or regular file.
        39 once Mknod { path_len: u32, mode: u32, rdev: u32 } -> MknodDone { }
        /// May the caller do all of `want` (4 read, 2 write, 1 execute or search)? Else `Access`.
        40 idempotent Access { path_len: u32, want: u32 } -> AccessDone { }
        /// Permission bits that new files do not get; answers the old mask.
        41 once Umask { mask: u32 } -> UmaskDone { old: u32 }
        /// Process manager only: as whom `pid` acts on files; `count` supplementary groups (`u32`) at
        /// the start of the window.
        42 idempotent Identify { pid: u32, uid: u32, gid: u32, count: u32 } -> Identified { }
        /// Process manager only: as whom `pid` acts; its `count` supplementary groups to the start of
        /// the window.
        53 idempotent WhoIs { pid: u32 } -> ThisIs { uid: u32, gid: u32, count: u32 }
        43 idempotent Fchdir { fd: u32 } -> FchdirDone { }
        /// See [`super::control`].
        44 idempotent Control { fd: u32, operation: u32, argument: u64 } -> Controlled { value: u64 }
        /// A lock on `len` bytes from `start` of a file (0: to its end, however long it gets). `kind`
        /// and the answer to `TEST` as in [`super::lock`]; a lock that conflicts is `Again`, or waited
        /// for with `WAIT`; `Deadlk` if the waiting would never end.
        45 once Lock { fd: u32, kind: u32, start: u64, len: u64 }
            -> Locked { kind: u32, pid: u32, start: u64, len: u64 }
        /// Whether events wait at the `count` [`super::PollFd`]s at the start of the window; fills in
        /// `ready` there and answers how many are not 0. Descriptors that another server serves get
        /// [`super::poll::ELSEWHERE`]: that server is to be asked. If none is ready, `bit` of
        /// `notify` is raised once when that may have changed (a later poll with the same bit
        /// replaces this one).
        46 once Poll { count: u32, bit: u32; notify: handle } -> Polled { ready: u32 }
        /// Other flags for a mounted file system.
        47 once Remount { path_len: u32, flags: u32 } -> RemountDone { }
        /// A descriptor of a socket or other object that service `server` keeps under `cookie` (a
        /// random number: knowing it is the right to use it). Reads, writes and polls are
        /// `Redirect`ed there as for character devices; when the last copy of the descriptor is
        /// closed VFS tells the server (`socket::Close`). Of the `open` flags NONBLOCK and
        /// CLOSE_ON_EXEC count. `NxIo`: there is no such server.
        48 once Attach { server: crate::interface::Name, cookie: u64, flags: u32 } -> AttachDone { fd: u32 }
        /// Memory with the contents of a regular file, shared by all that map it; `writable`: the
        /// descriptor allows it. What is written through VFS is seen there at once; what is written
        /// to the memory comes to the file with `SyncMap`, and when the last process that mapped it
        /// is gone. `len` bytes; a file that grows needs another `Share`.
        49 once Share { fd: u32, writable: bool } -> Shared { len: u64; memory: handle }
        50 idempotent SyncMap { fd: u32 } -> SyncMapDone { }
        /// The file system below the path discards free blocks; answers how many bytes.
        51 idempotent Trim { path_len: u32, min_len: u64 } -> TrimDone { bytes: u64 }
        /// Text about VFS itself, see [`super::report`], from `offset` to the start of the window;
        /// answers its whole length.
        52 idempotent Report { kind: u32, offset: u32, len: u32 } -> Reported { len: u32, total: u32 }
        /// Has service `server` know as whom the caller acts (`socket::Identify`), so that it can permit
        /// or refuse what the caller asks of it next. `NxIo`: there is no such service.
        54 idempotent Vouch { server: crate::interface::Name } -> Vouched { }
        /// `len` bytes from `offset` of a block device, whole blocks, are not needed any more: what they
        /// read as is undefined until they are written again. With `zeroes` they read as zeros, and
        /// keep their place on the device. `NotTy`: no block device; `NotSup`: a device that does not
        /// know DISCARD; `Inval`: not whole blocks, or not inside.
        55 idempotent Discard { fd: u32, offset: u64, len: u64, zeroes: bool } -> DiscardDone { }
    }
}

/// "Leave it" in `Chown`.
pub const KEEP_ID: u32 = u32::MAX;
/// "All others" in `Inherit`.
pub const INHERIT_ALL: u32 = u32::MAX;

/// Times of `SetTimes` that are none.
pub mod time {
    pub const NOW: u64 = u64::MAX;
    pub const OMIT: u64 = u64::MAX - 1;
}

/// Operations of `Control`.
pub mod control {
    /// 1 if the descriptor is closed on exec.
    pub const GET_CLOSE_ON_EXEC: u32 = 1;
    pub const SET_CLOSE_ON_EXEC: u32 = 2;
    /// `open` flags: access mode, APPEND, NONBLOCK, DSYNC, SYNC.
    pub const GET_FLAGS: u32 = 3;
    /// APPEND and NONBLOCK can change.
    pub const SET_FLAGS: u32 = 4;
    /// Bytes that can be read from a pipe.
    pub const AVAILABLE: u32 = 5;
}

/// Locks: one of the first three, with flags.
pub mod lock {
    pub const UNLOCK: u32 = 0;
    /// Shared.
    pub const READ: u32 = 1;
    /// Exclusive.
    pub const WRITE: u32 = 2;
    /// Wait while it conflicts.
    pub const WAIT: u32 = 4;
    /// Only look: answers the first lock in the way, or UNLOCK.
    pub const TEST: u32 = 8;
    /// The lock belongs to the open file, shared by duplicates (`flock`); without it to the process,
    /// which loses it when it closes any descriptor of the file (`fcntl`).
    pub const OPEN_FILE: u32 = 16;
}

/// Events of `Poll` (Linux numbering).
pub mod poll {
    pub const IN: u16 = 1;
    pub const OUT: u16 = 4;
    pub const ERROR: u16 = 8;
    pub const HANG_UP: u16 = 16;
    /// Not an open descriptor.
    pub const INVALID: u16 = 32;
    /// Another server knows.
    pub const ELSEWHERE: u16 = 1 << 15;
}

/// Descriptors in one `Poll`.
pub const POLL_MAX: u32 = 1024;

/// What a `Poll` asks of one descriptor.
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
pub struct PollFd {
    pub fd: u32,
    /// [`poll`] bits wanted; ERROR, HANG_UP and INVALID come in any case.
    pub events: u16,
    pub ready: u16,
}

/// Kinds of `Report`.
pub mod report {
    /// Names of the reports, as files in /proc.
    pub const NAMES: [(&str, u32); 3] =
        [("mounts", MOUNTS), ("locks", LOCKS), ("filesystems", FILESYSTEMS)];
    /// `source target type options`, as `Mounts`.
    pub const MOUNTS: u32 = 1;
    /// `process|file read|write pid device:inode start end|eof`, waiting ones with `waits` in front.
    pub const LOCKS: u32 = 2;
    /// File-system types, `nodev` in front of those that need no device.
    pub const FILESYSTEMS: u32 = 3;
}

/// Flags of `Open` (Linux numbering).
pub mod open {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const READ_WRITE: u32 = 2;
    pub const ACCESS_MASK: u32 = 3;
    pub const CREATE: u32 = 0o100;
    pub const EXCLUSIVE: u32 = 0o200;
    pub const TRUNCATE: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const NONBLOCK: u32 = 0o4000;
    /// A write returns when its bytes, and what is needed to find them, are durable.
    pub const DSYNC: u32 = 0o10000;
    /// As DSYNC (whose bit it contains), and the file's other attributes are durable too.
    pub const SYNC: u32 = 0o4010000;
    pub const DIRECTORY: u32 = 0o200000;
    pub const NOFOLLOW: u32 = 0o400000;
    pub const CLOSE_ON_EXEC: u32 = 0o2000000;
}

/// Flags of `Mount`.
pub mod mount {
    pub const READ_ONLY: u32 = 1;
    pub const NO_EXEC: u32 = 2;
    pub const NO_SUID: u32 = 4;
    pub const NO_DEV: u32 = 8;
    /// Reading does not change access times.
    pub const NO_ATIME: u32 = 16;
}

/// File types in `Stat::mode` (POSIX) and, shifted right by 12, in `Dirent::kind`.
pub mod mode {
    pub const TYPE_MASK: u32 = 0o170000;
    pub const FIFO: u32 = 0o010000;
    pub const CHARACTER: u32 = 0o020000;
    pub const DIRECTORY: u32 = 0o040000;
    pub const BLOCK: u32 = 0o060000;
    pub const REGULAR: u32 = 0o100000;
    pub const SYMLINK: u32 = 0o120000;
    pub const SOCKET: u32 = 0o140000;
    /// Permission bits that change whose authority a program runs with, and the sticky bit.
    pub const SET_UID: u32 = 0o4000;
    pub const SET_GID: u32 = 0o2000;
    pub const STICKY: u32 = 0o1000;
    pub const PERMISSIONS: u32 = 0o7777;
}

/// Longest path, with its end; longest name.
pub const PATH_MAX: usize = 4096;
pub const NAME_MAX: usize = 255;
/// Symbolic links followed in one resolution before `Loop`.
pub const SYMLINK_MAX: usize = 40;
/// Descriptors of one process.
pub const FD_MAX: u32 = 1024;

/// Attributes of a file. Times are nanoseconds since 1970.
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
pub struct Stat {
    pub device: u64,
    pub ino: u64,
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    pub atime: u64,
    pub mtime: u64,
    pub ctime: u64,
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub block_size: u32,
    /// Major << 16 | minor of a device file.
    pub rdev: u32,
}

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
pub struct StatFs {
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u64,
    /// Type, padded with zeros.
    pub fs_type: [u8; 16],
}

/// A directory entry: this head, then `name_len` bytes; the next head follows at once, unaligned.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
pub struct Dirent {
    pub ino: zerocopy::little_endian::U64,
    /// Opaque position behind this entry.
    pub next: zerocopy::little_endian::U64,
    pub name_len: zerocopy::little_endian::U16,
    /// File type, `mode >> 12`.
    pub kind: u8,
    pub reserved: u8,
}

const _: () = assert!(size_of::<Stat>() == 80);
const _: () = assert!(size_of::<Dirent>() == 20);
