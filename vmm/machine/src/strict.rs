//! The strict checker as a machine has it: what happens when a driver breaks a rule, and who is told.

use std::sync::Arc;

/// What follows a driver's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrictMode {
    /// It is reported, and the machine goes on.
    Warn,
    /// It is reported, and the machine ends ([`End::Strict`](crate::End::Strict)).
    Stop,
}

/// Told of what people should read while the machine runs: whole lines of text.
#[derive(Clone, Default)]
pub struct Notices(Option<Tell>);

type Tell = Arc<dyn Fn(&str) + Send + Sync>;

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notices")
    }
}

impl Notices {
    /// `tell` may be called from any thread of the machine.
    pub fn to(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub fn tell(&self, text: &str) {
        if let Some(tell) = &self.0 {
            tell(text);
        }
    }
}

/// How often one device's driver broke one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictCount {
    pub device: String,
    /// The rule's id.
    pub rule: String,
    pub count: u64,
}

/// What the checker found in a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrictStats {
    /// Accesses looked at.
    pub accesses: u64,
    pub broken: Vec<StrictCount>,
}
