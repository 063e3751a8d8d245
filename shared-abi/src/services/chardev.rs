//! Character devices: what programs call directly after VFS told them where (`vfs::Redirect`).

crate::interface! {
    /// Operations of a character device. The cookie names the device within its server.
    pub mod chardev = 0x05 {
        /// Shares the caller's window; once per process and server. The server forgets it when the
        /// process dies.
        1 idempotent Attach { len: u64; window: handle } -> Attached { }
        /// Up to `len` bytes to `at` of the window; waits for at least one; 0 is the end.
        /// `position` is the descriptor's, for devices that have one (the log), else ignored.
        2 once Read { cookie: u64, position: u64, at: u32, len: u32 } -> Count { count: u64 }
        /// Takes at least one byte; waits while there is no room.
        3 once Write { cookie: u64, position: u64, at: u32, len: u32 } -> Written { count: u64 }
        /// See [`super::control`].
        4 idempotent Control { cookie: u64, operation: u32, argument: u64 } -> Controlled { value: u64 }
        /// `bit` of `endpoint` is raised when Ctrl-C comes (terminals). For the process manager.
        5 idempotent Subscribe { cookie: u64, bit: u32; endpoint: handle } -> Subscribed { }
        /// Which of `events` (and errors) are there, as `vfs::poll` numbers them. If none is, `bit` of
        /// `notify` is raised once when that may have changed; a later poll of the same process with
        /// the same bit replaces this one. A server without it answers `NoSys` or `BadMessage`: then
        /// programs take the device for always ready.
        6 once Poll { cookie: u64, events: u32, bit: u32; notify: handle } -> Polled { ready: u32 }
    }
}

/// Operations of `Control`.
pub mod control {
    /// 1 if this is a terminal.
    pub const IS_TERMINAL: u32 = 1;
    /// Argument 1: raw (no echo, no line editing, no Ctrl-C); 0: lines. Answers the old mode.
    pub const SET_RAW: u32 = 2;
}
