//! System calls: numbers and their contract.
//!
//! # Registers
//! ```text
//! in   rax = number | handle << 32        (the handle half only where a call says "ep:")
//!      rdi rsi rdx r10 r8 r9              arguments 0..5
//! out  rax = value or -(error)            see `error`
//!      rdx = second value                 where a call says "-> (a, b)"
//! ```
//! `rcx` and `r11` are clobbered; everything else is preserved except where IPC returns values.
//! Entered through the gate (see `kip`) or a raw `syscall`.
//!
//! # IPC
//! ```text
//!                 rax          rdi    rsi   rdx r10 r8 r9 r12 r13   r14    r15
//! CALL in         nr|ep<<32    -      tag   words 0..5
//!      out        status       -      tag   words 0..5
//! RECEIVE in      nr|ep<<32    flags
//!      out        status       token  tag   words 0..5              badge  sender pid
//! REPLY_WAIT in   nr|ep<<32    token  tag   words 0..5
//!      out        as RECEIVE
//! REPLY in        nr           token  tag   words 0..5
//!      out        status
//! NOTIFY in       nr|ep<<32    bits
//! NOTIFY_WAIT in  nr|ep<<32    bits   target
//!      out        as RECEIVE
//! ```
//! `status` is 0 or a negative error; on error the other registers are unspecified. `REPLY_WAIT`
//! with a stale token (the caller died) just waits; with [`crate::ipc::ReplyToken::NONE`] it
//! replies to nobody. Handles in a message are duplicated into the receiver; the sender keeps
//! its own and needs `TRANSFER` on it. A message with a bad handle fails at the sender
//! (`BadHandle`); where the receiver's table is full the call fails with `Limit`.
//!
//! # Death
//! When a process ends, its endpoints die: callers queued there or awaiting its reply get
//! `ServerDied` at once, later calls and notifications too. Its interrupts are masked, the
//! devices it pinned memory for lose bus mastering and keep that memory in quarantine until
//! [`DEVICE_RESET_DONE`].

/// `() -> 0`. Nothing; measures the way in and out.
pub const NULL: u64 = 0;

// IPC: see the module head.
pub const CALL: u64 = 1;
pub const REPLY_WAIT: u64 = 2;
pub const RECEIVE: u64 = 3;
pub const REPLY: u64 = 4;
pub const NOTIFY: u64 = 5;
/// Raises bits at the endpoint `target`, then RECEIVE on the first: one entry into the kernel where two
/// that take turns would need two each. A target that cannot be notified is ignored: who must know
/// of its death watches it.
pub const NOTIFY_WAIT: u64 = 6;
/// Flag of RECEIVE: return `Again` instead of waiting.
pub const RECEIVE_POLL: u64 = 1;

/// `() -> handle` with all rights, badge 0. The caller's process is the endpoint's server; at most
/// one process receives on it: the one that holds RECEIVE first calls RECEIVE after creation or
/// after RS handed it over (see `ENDPOINT_OWNER`).
pub const ENDPOINT_CREATE: u64 = 8;
/// `(handle, rights, badge) -> handle`. A duplicate with at most the rights of the original. A
/// badge other than the original's needs RECEIVE on the original.
pub const HANDLE_MINT: u64 = 9;
/// `(handle)`. Closing the last handle to an object destroys it.
pub const HANDLE_CLOSE: u64 = 10;
/// `(process, handle, rights) -> number in that process`. Needs MANAGE on the process.
pub const HANDLE_GIVE: u64 = 11;
/// `(handle) -> (kind, rights)`: [`crate::object::Kind`] and [`crate::object::Rights`] bits.
pub const HANDLE_INFO: u64 = 12;
/// `(endpoint, process)`. Makes `process` the endpoint's server: the endpoint dies with it. Needs
/// RECEIVE on the endpoint and MANAGE on the process. RS creates a service's endpoint, hands it
/// over and keeps a handle, so that it can notify the service and hand out the endpoint's name.
pub const ENDPOINT_OWNER: u64 = 13;

/// `(resource, supervisor endpoint, cookie, name ptr, name len) -> (process handle, pid)`. Needs
/// PROCESS on the resource and RECEIVE on the endpoint. At its end the process is an obituary
/// there. Names are cut to 31 bytes.
pub const PROCESS_CREATE: u64 = 16;
/// `(process, limit kind, value)`: see [`limit`]. Only before its first thread starts.
pub const PROCESS_LIMIT: u64 = 17;
/// `(process, code)`: ends it from outside; obituary cause KILLED.
pub const PROCESS_KILL: u64 = 18;
/// `(code)`, does not return: ends the caller's process.
pub const PROCESS_EXIT: u64 = 19;
/// `(process, entry, stack pointer, argument -> rdi, priority, fs base) -> handle`. Starts at
/// once. The priority is at most the process's limit.
pub const THREAD_CREATE: u64 = 20;
/// `()`, does not return.
pub const THREAD_EXIT: u64 = 21;
/// `(fs base)` of the calling thread.
pub const THREAD_SET_TLS: u64 = 22;
/// `(deadline in ns since boot)`. Sleeps; `0` yields.
pub const THREAD_SLEEP: u64 = 23;
/// `(endpoint, deadline in ns since boot)`. Raises `bits::TIMER` there then; `u64::MAX` cancels.
/// One timer per endpoint; setting replaces. Needs RECEIVE.
pub const TIMER_SET: u64 = 24;
/// `(pid, endpoint, cookie)`. An obituary of `pid` will come to the endpoint; needs RECEIVE. `Srch`
/// if there is no such live process.
pub const WATCH: u64 = 25;
/// `(endpoint, *mut Obituary, len) -> 1`, or 0 when none waits. Needs RECEIVE. What a supervisor fetched
/// counts as heard when it asks again: if its endpoint dies before, the obituary goes to whoever adopts.
pub const EVENT_NEXT: u64 = 26;
/// ep: `(bits, *mut info::Pulse, len) -> info::pulse`. A supervisor's question whether the endpoint's
/// server still comes to receive there. A server that waits there is not disturbed; else the bits
/// are raised, and the next question tells whether they were fetched since. Where they were not, the
/// record says what the server does (address 0: no record). Of a server of several threads it always says
/// whether one of them runs without end. Needs RECEIVE.
pub const PROBE: u64 = 27;

/// `(resource, pid, endpoint, cookie) -> handle`, or 0. A process whose supervisor's endpoint has died
/// gets this one; needs PROCESS on the resource and RECEIVE. 0: it has ended since, and its obituary
/// waits at the endpoint (the last 256 such are kept). `Perm`: somebody supervises it; `Srch`: there is
/// no such process, and no obituary.
pub const PROCESS_ADOPT: u64 = 28;
/// `(thread, priority)`. At most its process's limit; needs MANAGE. `Srch`: the thread is dead.
pub const THREAD_PRIORITY: u64 = 29;

/// `(length, MemoryFlags) -> handle`. Zeroed. The length is rounded up to pages (LARGE: to 2 MiB).
/// Charged to the caller's memory limit until destroyed.
pub const MEMORY_CREATE: u64 = 32;
/// `(process | SELF, memory, address, offset, length, Protection)`. The address is the caller's
/// choice, page-aligned, and must be free. Another process needs MANAGE on it.
pub const MEMORY_MAP: u64 = 33;
/// `(process | SELF, address, length)`: whole mappings only, as they were made.
pub const MEMORY_UNMAP: u64 = 34;
/// `(memory) -> (length, MemoryFlags)`.
pub const MEMORY_INFO: u64 = 35;
/// `(resource, physical address, length, DeviceMemoryFlags) -> handle`. Needs HARDWARE; RAM that the
/// kernel manages is refused.
pub const MEMORY_DEVICE: u64 = 36;

/// `(resource, bus << 8 | device << 3 | function, config physical address or 0) -> handle`. A PCI
/// function. Needs HARDWARE. The kernel clears bus mastering through the configuration space there (ECAM
/// page, or ports 0xCF8 when 0) when the process that pinned memory for it dies.
pub const DEVICE_CREATE: u64 = 40;
/// `(device, memory, offset) -> (device address, contiguous bytes from there)`. Pins the memory
/// to the device until `DEVICE_UNPIN`. `Quarantined` while a dead driver's memory waits.
pub const DEVICE_PIN: u64 = 41;
/// `(device, memory)`.
pub const DEVICE_UNPIN: u64 = 42;
/// `(device)`. The driver vouches that the device was reset and does no more DMA of its
/// predecessor: quarantined memory is released (of a confined device at the next `DEVICE_RELEASED`).
pub const DEVICE_RESET_DONE: u64 = 43;

/// `(resource, device)`. An IOMMU stands before the device: memory that was pinned to it is not given
/// to others before `DEVICE_RELEASED`. Needs HARDWARE.
pub const DEVICE_CONFINE: u64 = 37;
/// `(resource, device, ptr, len) -> count`. The runs of memory that the device is to reach now, each an
/// address, bytes, and the pid of the process that pinned it (u64). `Limit`: they do not fit. Needs HARDWARE.
pub const DEVICE_GRANTS: u64 = 38;
/// `(resource, device)`. The device reaches what the last `DEVICE_GRANTS` told and nothing else: what
/// had been unpinned by then is free. Needs HARDWARE.
pub const DEVICE_RELEASED: u64 = 39;

/// `(resource, gsi | IRQ_MSI, IrqFlags) -> (handle, msi address << 32 | msi data)`. Needs HARDWARE.
pub const IRQ_CREATE: u64 = 44;
/// As the gsi of IRQ_CREATE: a message-signalled interrupt.
pub const IRQ_MSI: u64 = 0xFFFF_FFFF;
/// Flags of IRQ_CREATE for a gsi: level-triggered, active-low.
pub const IRQ_LEVEL: u64 = 1;
pub const IRQ_ACTIVE_LOW: u64 = 2;
/// `(irq, endpoint, bit number)`: raises that bit. Needs MANAGE and RECEIVE. The binding ends with
/// the endpoint.
pub const IRQ_BIND: u64 = 45;
/// `(irq)`: a level-triggered interrupt may come again.
pub const IRQ_ACK: u64 = 46;

/// `(resource, first port, count) -> handle`. Needs HARDWARE.
pub const PORTS_CREATE: u64 = 48;
/// `(ports, offset, size 1|2|4) -> value`.
pub const PORTS_READ: u64 = 49;
/// `(ports, offset, size, value)`.
pub const PORTS_WRITE: u64 = 50;
/// `(ports, offset, ptr, len <= 4096) -> len`: byte by byte to one port.
pub const PORTS_WRITE_BYTES: u64 = 51;

/// `(ptr, len <= 1024)`: one line into the kernel log.
pub const LOG_WRITE: u64 = 56;
/// `(resource, position, ptr, len) -> (bytes, next position)`. Needs LOG. Text, as [`LOG_WRITE`] and the
/// kernel wrote it, each line `[seconds.micros] name: text`. A position that was overwritten moves on.
pub const LOG_READ: u64 = 57;
/// `(info kind, index, ptr, len) -> bytes written`: see `info`.
pub const INFO: u64 = 58;
/// `(resource, operation)`: see [`control`]. Needs POWER.
pub const SYSTEM_CONTROL: u64 = 59;
/// `(memory)`. The memory becomes the ring of the caller's own trace events (see `trace`): at least
/// [`crate::trace::PROCESS_RING_LEN`] bytes, contiguous. Kept until the process ends; once only (`Exist`).
pub const TRACE_RING: u64 = 60;

/// Further rights, on a resource handle only.
pub mod resource {
    pub const HARDWARE: u32 = 1 << 8;
    pub const PROCESS: u32 = 1 << 9;
    pub const POWER: u32 = 1 << 10;
    pub const LOG: u32 = 1 << 11;
    pub const ALL: u32 = HARDWARE | PROCESS | POWER | LOG;
}

/// Kinds of PROCESS_LIMIT.
pub mod limit {
    /// Highest priority of its threads, 0 (idle) ..= 31. Default 8.
    pub const PRIORITY: u64 = 1;
    /// Frames it may own through memory objects it created. Default: no limit.
    pub const FRAMES: u64 = 2;
    /// Handles, at most 4096. Default 256.
    pub const HANDLES: u64 = 3;
    /// Threads. Default 16.
    pub const THREADS: u64 = 4;
    /// Frames of the memory it pins for devices, each object counted once a device. Default: no
    /// limit. Beyond it `DEVICE_PIN` fails with `Limit`.
    pub const PINNED: u64 = 5;
}

/// Operations of SYSTEM_CONTROL.
pub mod control {
    /// Exit device, then ACPI S5.
    pub const POWER_OFF: u64 = 1;
    /// Exit device, then reset register, then triple fault.
    pub const REBOOT: u64 = 2;
    /// Panics on purpose (test of the report).
    pub const PANIC: u64 = 3;
}

/// Priorities in use.
pub mod priority {
    pub const USER: u64 = 8;
    pub const SERVER: u64 = 16;
    pub const DRIVER: u64 = 20;
    pub const RS: u64 = 24;
    pub const MAX: u64 = 31;
}
