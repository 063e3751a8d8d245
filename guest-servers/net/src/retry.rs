//! When a driver that could not be attached is tried again: its device may need a moment, or memory was short.

const FIRST_NS: u64 = 200_000_000;
const LAST_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
pub struct Retry {
    due: Option<u64>,
    pause: u64,
}

impl Retry {
    /// It failed; `true` for the first time in a row, which is worth a word.
    pub fn failed(&mut self, now: u64) -> bool {
        let first = self.pause == 0;
        self.pause = if first { FIRST_NS } else { (self.pause * 2).min(LAST_NS) };
        self.due = Some(now + self.pause);
        first
    }

    /// All are attached.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Its time has come; it is told once.
    pub fn is_due(&mut self, now: u64) -> bool {
        self.due.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_later_and_later() {
        let mut retry = Retry::default();
        assert_eq!((retry.due(), retry.is_due(u64::MAX)), (None, false));
        assert!(retry.failed(1000));
        assert_eq!(retry.due(), Some(1000 + FIRST_NS));
        assert!(!retry.is_due(999 + FIRST_NS));
        assert!(retry.is_due(1000 + FIRST_NS));
        assert!(!retry.is_due(u64::MAX), "once");
        assert!(!retry.failed(0));
        assert_eq!(retry.due(), Some(2 * FIRST_NS));
        assert!(!(0..100).any(|_| retry.failed(0)));
        assert_eq!(retry.due(), Some(LAST_NS));
        retry.succeeded();
        assert_eq!(retry.due(), None);
        assert!(retry.failed(0));
    }
}
