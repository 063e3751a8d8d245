//! What a running machine has done since somebody began to look, for `top` and programs.

/// Sums; rates are differences of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineStatistics {
    /// Since the machine's start.
    pub time_ns: u64,
    pub devices: Vec<DeviceStatistics>,
    pub exits: Vec<ExitStatistics>,
    /// By number.
    pub cpus: Vec<CpuStatistics>,
    pub processes: Vec<ProcessStatistics>,
    /// Services and what became of them last, as the guest tells.
    pub services: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    pub name: String,
    pub reads: u64,
    pub writes: u64,
    pub interrupts: u64,
    /// Bytes the device read from and wrote to memory.
    pub dma_read: u64,
    pub dma_written: u64,
    pub frames_sent: u64,
    pub frames_received: u64,
    pub errors: u64,
    pub queues: Vec<QueueStatistics>,
}

/// A virtqueue, or a SATA port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStatistics {
    pub name: String,
    pub notified: u64,
    pub begun: u64,
    pub done: u64,
    /// Sum of the times from the begin to the end of those that are done.
    pub time_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitStatistics {
    pub reason: String,
    pub count: u64,
    /// The VMM's time for them.
    pub time_ns: u64,
}

/// A virtual CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStatistics {
    pub cpu: u32,
    pub exits: u64,
    /// The VMM's time for them.
    pub exit_ns: u64,
    /// Time with a process on it, and how often that changed, as the guest tells.
    pub ran_ns: u64,
    pub switches: u64,
    /// Who ran last; empty: nobody.
    pub process: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStatistics {
    pub pid: u32,
    pub name: String,
    pub ran_ns: u64,
    pub switches: u64,
}
