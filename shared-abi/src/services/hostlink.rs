//! What `init` asks the host link's driver (virtio-console) for. The host's standard streams
//! are character devices of the same server: see [`cookie`].

crate::interface! {
    /// Operations beside `chardev`.
    pub mod hostlink = 0x0A {
        /// Waits for the host's command and writes it to `memory`. `TooBig`: longer than it.
        1 idempotent Command { ; memory: handle } -> CommandReply { len: u64 }
        /// Tells the host the exit status, after all output before it; answered when sent.
        2 once Exit { status: u32 } -> Exited { }
    }
}

/// Cookies of the server's character devices.
pub mod cookie {
    pub const STDIN: u64 = 0;
    pub const STDOUT: u64 = 1;
    pub const STDERR: u64 = 2;
}
