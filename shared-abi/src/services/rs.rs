//! The Reincarnation Server: names, life of services, PCI matching, shutdown.
//!
//! RS creates each service's endpoint (start block role `SERVICE`), makes the service its owner
//! and hands out badged copies on look-up: badge = label number << 8 | [`BADGE_ADMIN`] where the
//! requester's manifest says `calls = ["label:admin"]`. RS never calls anybody.
//!
//! [`BADGE_ADMIN`]: crate::ipc::BADGE_ADMIN

use crate::interface::Name;

crate::interface! {
    /// Operations of RS. `Query` and every `Control` but with the shell's rights go to programs
    /// too; `AddFunction` and `Announce` to services only.
    pub mod rs = 0x01 {
        /// The endpoint of the live instance of `name`. While the service is starting or being
        /// restarted the answer is delayed when `wait`, else `Again`. `NoEnt`: no such service;
        /// `Access`: the manifest of the caller does not list it; `ServerDied`: it has failed for
        /// good, or was stopped. Services that start processes (resource `process`) also ask for
        /// what they pass on: `rs` is RS for a program, `label:user` another service without the
        /// caller's own badge.
        1 idempotent Lookup { name: Name, wait: bool } -> Found { pid: u32; endpoint: handle }
        /// The caller is initialised and serves from now on.
        2 idempotent Announce { } -> Announced { }
        /// Writes text into `memory` (from its start, cut to its length); see [`query`].
        3 idempotent Query { kind: u32, name: Name; memory: handle } -> QueryReply { len: u64 }
        /// See [`control`]. The answer comes when it is done (running, or gone).
        4 once Control { operation: u32, name: Name } -> Controlled { pid: u32 }
        /// A new instance of a manifest with `instances = "on-demand"` (file systems), answered
        /// when it has announced itself. For callers whose manifest lists it as `spawns`.
        5 once Spawn { program: Name } -> Spawned { pid: u32, label: Name; endpoint: handle }
        /// From pci only: a function was found. `location` is bus << 8 | device << 3 | function,
        /// `id` device << 16 | vendor, `class` class << 16 | subclass << 8 | interface. RS starts
        /// the matching driver and passes it both handles (roles `DEVICE` and `PCI`). Functions
        /// found again after a restart of pci replace the handles kept.
        6 idempotent AddFunction { location: u32, id: u32, class: u32; device: handle, pci: handle }
            -> FunctionAdded { }
        /// Stops all services in reverse order (each gets `bits::TERMINATE` and at most 2 s), then
        /// powers off or reboots. Answered never on success.
        7 once Shutdown { reboot: bool } -> ShuttingDown { }
        /// From pci only: every function present at boot has been announced.
        8 idempotent FunctionsDone { } -> FunctionsDoneReply { }
        /// One manifest more. `manifest` holds its text, ended by a zero byte or the memory's end;
        /// `program` the program, or (one page or less) nothing: then the manifest's is in the bundle.
        /// For callers that may control services. What is wrong with it is written back into
        /// `manifest`: that many bytes of text, 0 when it was accepted.
        10 once Load { name: Name; manifest: handle, program: handle } -> Loaded { refused: u64 }
        /// Takes a manifest back that was loaded; its service must not run (`Busy`). Why not, as `Load`.
        11 once Unload { name: Name; reason: handle } -> Unloaded { refused: u64 }
        /// Replaces a running service's program (see docs/services.md). Answered when the new one has
        /// run for a second, or when it was given up and the old one starts again.
        12 once Update { name: Name; program: handle } -> Updated { pid: u32, rolled_back: bool }
        /// Memory that outlives the caller: the object that an instance of this service made under
        /// `key`, or (`len` not 0) a new one of `len` bytes, zeroed. `NoEnt`: there is none and `len`
        /// is 0; `Limit`: more than the manifest's `keep`. An object that is there keeps its length.
        /// RS lets go of it when the service is stopped, has failed, or crashes again and again (its
        /// state may be why).
        16 idempotent Keep { key: u64, len: u64 } -> Kept { len: u64; memory: handle }
        /// The memory under `key` is not needed any more.
        17 idempotent Unkeep { key: u64 } -> Unkept { }
        /// From a process that was made to stand by for the next instance of a service: it is ready. Answered
        /// when it is that instance, at once to one that is already.
        18 idempotent Standby { } -> Started { }
        /// The caller's manifest lists `name` in `complains`, and an instance of it broke the protocol
        /// between the two (`code`: the caller's idea of how). It is restarted. `Again`: it was
        /// restarted for a complaint less than a second ago.
        9 once Complain { name: Name, code: u32 } -> Complained { }
    }
}

/// Kinds of `Query`; the text has one record a line, fields separated by one tab.
pub mod query {
    /// `label state pid restarts program location` of each service; location is `-` or bb:dd.f.
    pub const LIST: u32 = 1;
    /// `key: value` lines about one service.
    pub const STATUS: u32 = 2;
    /// Deaths and restarts, oldest first, of one service or (empty name) all:
    /// `time_us label cause detail down_us`.
    pub const HISTORY: u32 = 3;
    /// `class label` of each service of a device class (manifest key `class`) that runs, or is coming back after
    /// a death.
    pub const CLASSES: u32 = 4;
    /// `location id class label` of each PCI function.
    pub const FUNCTIONS: u32 = 5;
    /// What the operator should know, oldest first: `time_us text`.
    pub const ALERTS: u32 = 6;
    /// `from kind to` of each relation between services: kind is `needs`, `wants`, `notify`, `calls`,
    /// `spawns` or `complains`.
    pub const GRAPH: u32 = 7;
    /// `label state pid crashes restarts down_us longest_down_us detection_us cpu_us memory_kib
    /// heartbeat_us refused causes` of each service: `heartbeat_us` is the time since it was last known to
    /// be well, `refused` counts system calls and requests that it had no right to make, `causes` is like
    /// `fault 2, hung 1`; `-` where there is nothing to say.
    pub const STATISTICS: u32 = 8;
    /// The newest core of a service, for callers that may control services: no text but an ELF core
    /// file (see docs/services.md). `NoEnt`: none is kept; `TooBig`: the memory is too small for it.
    pub const CORE: u32 = 9;
    /// How services came back, oldest first, of one service or (empty name) all:
    /// `time_us label process heard_us waited_us launch_us up_us down_us`: from the death to RS's hearing
    /// of it, on to the start of the next instance, the length of that, on to its announcement, and the
    /// sum. `process` is `new`, `ahead` (made ahead) or `spare` (made ahead and standing by).
    pub const RESTARTS: u32 = 10;
    /// Longest core that is kept.
    pub const CORE_MAX: u64 = 4 << 20;
}

/// Operations of `Control`.
pub mod control {
    pub const START: u32 = 1;
    /// Orderly: `bits::TERMINATE`, then killed after 2 s.
    pub const STOP: u32 = 2;
    pub const RESTART: u32 = 3;
    /// Kills the instance as a crash would; the restart policy applies.
    pub const KILL: u32 = 4;
    /// Makes the instance write through a wild pointer (`bits::INJECT_FAULT`).
    pub const INJECT_FAULT: u32 = 5;
    /// Makes it spin (`bits::INJECT_HANG`).
    pub const INJECT_HANG: u32 = 6;
    /// Makes it sleep for ever (`bits::INJECT_BLOCK`).
    pub const INJECT_BLOCK: u32 = 7;
    /// As KILL, and keeps a core.
    pub const DUMP: u32 = 8;
}
