//! Error numbers of system calls and services.
//!
//! A system call returns `0` or a positive value on success and `-(error as i64)` on failure.
//! Values below 256 are POSIX errno numbers (Linux x86_64 numbering); the others are XINIM's own.

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Error { $($(#[$doc])* $name = $value,)* }

        impl Error {
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($value => Some(Error::$name),)* _ => None }
            }

            /// A short phrase for people, as `strerror` gives.
            pub fn text(self) -> &'static str {
                match self { $(Error::$name => $text,)* }
            }
        }
    };
}

errors! {
    Perm = 1, "operation not permitted";
    NoEnt = 2, "no such file or directory";
    Srch = 3, "no such process";
    Intr = 4, "interrupted";
    Io = 5, "input/output error";
    NxIo = 6, "no such device or address";
    TooBig = 7, "argument list too long";
    NoExec = 8, "not an executable file";
    BadF = 9, "bad file descriptor";
    Child = 10, "no child process";
    Again = 11, "resource temporarily unavailable";
    NoMem = 12, "out of memory";
    Access = 13, "permission denied";
    Fault = 14, "bad address";
    NotBlk = 15, "block device required";
    Busy = 16, "device or resource busy";
    Exist = 17, "file exists";
    XDev = 18, "cross-device link";
    NoDev = 19, "no such device";
    NotDir = 20, "not a directory";
    IsDir = 21, "is a directory";
    Inval = 22, "invalid argument";
    NFile = 23, "too many open files in system";
    MFile = 24, "too many open files";
    NotTy = 25, "not a terminal";
    FBig = 27, "file too large";
    NoSpc = 28, "no space left on device";
    SPipe = 29, "illegal seek";
    RoFs = 30, "read-only file system";
    MLink = 31, "too many links";
    Pipe = 32, "broken pipe";
    Range = 34, "result out of range";
    Deadlk = 35, "resource deadlock would occur";
    NameTooLong = 36, "file name too long";
    NoLck = 37, "no locks available";
    NoSys = 38, "function not implemented";
    NotEmpty = 39, "directory not empty";
    Loop = 40, "too many levels of symbolic links";
    Proto = 71, "protocol error";
    Overflow = 75, "value too large";
    NotSock = 88, "not a socket";
    DestAddrReq = 89, "destination address required";
    MsgSize = 90, "message too long";
    ProtoType = 91, "protocol of the wrong type for this socket";
    NoProtoOpt = 92, "option not available";
    ProtoNoSup = 93, "protocol not supported";
    NotSup = 95, "operation not supported";
    AfNoSup = 97, "address family not supported";
    AddrInUse = 98, "address already in use";
    AddrNotAvail = 99, "address not available";
    NetDown = 100, "network is down";
    NetUnreach = 101, "network is unreachable";
    ConnAborted = 103, "connection aborted";
    ConnReset = 104, "connection reset by peer";
    NoBufs = 105, "no buffer space";
    IsConn = 106, "socket is connected";
    NotConn = 107, "socket is not connected";
    TimedOut = 110, "timed out";
    ConnRefused = 111, "connection refused";
    HostUnreach = 113, "no route to host";
    Already = 114, "operation already in progress";
    InProgress = 115, "operation now in progress";
    Stale = 116, "stale file handle";
    Canceled = 125, "operation cancelled";
    /// The handle is not valid, of another kind, or lacks the right.
    BadHandle = 256, "bad handle or missing right";
    /// The endpoint's server is gone (its process died or closed the endpoint): at send, while
    /// queued, or before the reply.
    ServerDied = 257, "service died";
    /// A table of the kernel or of the process is full.
    Limit = 258, "limit reached";
    /// An unknown or malformed message.
    BadMessage = 259, "bad message";
    /// The peer answered what its interface does not allow.
    BadReply = 260, "bad reply";
    /// The DMA frames of a dead driver are not released before its device was reset.
    Quarantined = 261, "memory is quarantined";
    /// The descriptor is a character device: talk to it directly (see `services::vfs`).
    Redirect = 262, "served elsewhere";
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

pub type Result<T> = core::result::Result<T, Error>;

/// The register value that stands for `result`.
pub fn encode(result: Result<u64>) -> u64 {
    match result {
        Ok(value) => value,
        Err(error) => (-i64::from(error as u16)) as u64,
    }
}

/// The result that `register` stands for. An unknown number is [`Error::BadReply`].
pub fn decode(register: u64) -> Result<u64> {
    let value = register as i64;
    if value >= 0 {
        return Ok(register);
    }
    let code = u16::try_from(-value).ok().and_then(Error::from_code);
    Err(code.unwrap_or(Error::BadReply))
}
