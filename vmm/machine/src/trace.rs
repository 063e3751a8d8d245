//! What is to be written down of a running machine.

use std::path::PathBuf;

/// One trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSpec {
    pub path: PathBuf,
    pub format: TraceFormat,
    /// Which events; an expression that has been checked. `None`: all.
    pub filter: Option<String>,
    /// From the start; otherwise when it is switched on.
    pub on: bool,
}

impl TraceSpec {
    /// Everything, as text.
    pub fn text(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), format: TraceFormat::Text, filter: None, on: true }
    }
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceFormat {
    /// A line per event.
    #[default]
    Text,
    /// Compact, for `xinim-vmm trace`.
    Binary,
    /// For ui.perfetto.dev and its trace processor.
    Perfetto,
    /// Ethernet frames, for Wireshark and its like.
    Pcapng,
}

impl TraceFormat {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "bin",
            Self::Perfetto => "perfetto",
            Self::Pcapng => "pcapng",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Text, Self::Binary, Self::Perfetto, Self::Pcapng]
            .into_iter()
            .find(|format| format.name() == name)
    }
}

/// A trace of a running machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStatus {
    pub spec: TraceSpec,
    pub on: bool,
    /// Taken so far, and lost because the file was too slow.
    pub events: u64,
    pub lost: u64,
}
