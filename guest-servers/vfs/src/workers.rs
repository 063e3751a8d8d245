//! Workers' priority.

use xinim_abi::error::{Error, Result};
use xinim_abi::syscall::priority;

/// Starts a worker at the priority of servers; where that is refused, at that of programs: RS has this instance
/// run behind them, since an earlier one was late. `Perm`: not even that.
pub fn as_high_as_allowed(mut start: impl FnMut(u64) -> Result<()>) -> Result<()> {
    match start(priority::SERVER) {
        Err(Error::Perm) => start(priority::USER),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Started at, by a kernel that lets this process have `limit`.
    fn started(limit: u64) -> Result<u64> {
        let mut at = 0;
        as_high_as_allowed(|priority| {
            at = priority;
            if priority > limit { Err(Error::Perm) } else { Ok(()) }
        })?;
        Ok(at)
    }

    #[test]
    fn an_instance_behind_the_programs_has_workers_too() {
        assert_eq!(started(priority::SERVER), Ok(priority::SERVER));
        assert_eq!(started(priority::USER), Ok(priority::USER));
        assert_eq!(started(0), Err(Error::Perm));
        let mut asked = 0;
        let full = as_high_as_allowed(|_| {
            asked += 1;
            Err(Error::NoMem)
        });
        assert_eq!((full, asked), (Err(Error::NoMem), 1));
    }
}
