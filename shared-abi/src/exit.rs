//! Exit statuses of `xinim-vmm`, as a shell or a CI job sees them.

/// Largest status a guest can choose; a greater one is reported as this.
pub const GUEST_MAX: u8 = 123;
/// `--timeout` elapsed.
pub const TIMEOUT: u8 = 124;
/// The VMM failed: usage, configuration or file.
pub const VMM_FAILED: u8 = 125;
/// No usable engine (no KVM and no QEMU, or the one asked for is missing).
pub const NO_ENGINE: u8 = 126;
/// Interrupted by a signal.
pub const INTERRUPTED: u8 = 130;
/// Guest kernel panic, triple fault or KVM internal error.
pub const GUEST_DIED: u8 = 134;
/// `--strict=stop`: a driver broke a rule.
pub const STRICT: u8 = 135;
