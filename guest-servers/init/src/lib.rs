//! What init does, apart from doing it: which mode, and how often a shell may end at once.
#![no_std]
#![forbid(unsafe_code)]

use xinim_abi::exit::GUEST_MAX;
use xinim_abi::platform::CMDLINE_MODE_EXEC;

/// What the system was booted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A shell on the console, again and again.
    Console,
    /// One command from the host, then power-off (`xinim-vmm run --exec`).
    Exec,
}

/// By the kernel's command line.
pub fn mode(cmdline: &str) -> Mode {
    match cmdline.split_ascii_whitespace().any(|word| word == CMDLINE_MODE_EXEC) {
        true => Mode::Exec,
        false => Mode::Console,
    }
}

/// Status told to the host when the command could not be run to its end.
pub const STATUS_FAILED: u32 = GUEST_MAX as u32;

/// Keeps a shell that ends at once from being started for ever at full speed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Respawn {
    quick_ends: u32,
}

/// A shell that lived this long was used, ns.
const USED: u64 = 1_000_000_000;
/// Quick ends without a pause.
const FREE: u32 = 5;
const PAUSE_MS: u64 = 1000;

impl Respawn {
    /// How long to wait, ms, after a shell that lived so long, ns.
    pub fn pause(&mut self, lived: u64) -> u64 {
        if lived >= USED {
            self.quick_ends = 0;
            return 0;
        }
        self.quick_ends = self.quick_ends.saturating_add(1);
        if self.quick_ends > FREE { PAUSE_MS } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode(""), Mode::Console);
        assert_eq!(mode("klog=debugcon mode=exec"), Mode::Exec);
        assert_eq!(mode("mode=executive xmode=exec"), Mode::Console);
    }

    #[test]
    fn a_shell_that_ends_at_once_is_slowed_down() {
        let mut respawn = Respawn::default();
        assert_eq!((0..5).map(|_| respawn.pause(1)).max(), Some(0));
        assert_eq!(respawn.pause(1), 1000);
        assert_eq!(respawn.pause(USED), 0);
        assert_eq!(respawn.pause(1), 0);
    }
}
