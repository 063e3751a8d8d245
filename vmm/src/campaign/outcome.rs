//! What became of a fault.

use serde::{Deserialize, Serialize};

/// From nothing to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It never struck: the process did not run, the rule's turn did not come.
    NotActivated,
    /// It struck, and nothing showed: no service died, all results right.
    NoEffect,
    /// A service died of it (or hung and was ended) and came back; all results right.
    Recovered,
    /// It struck a device, and the driver made up for it: all results right.
    Tolerated,
    /// Somebody was told of an error, and what was reported done was right.
    ReportedLoss,
    /// A service did not come back.
    FailedService,
    /// The load did not end in time.
    Hang,
    /// A result is wrong and nobody was told.
    SilentLoss,
    KernelCrash,
    VmmCrash,
}

impl Outcome {
    pub const ALL: [Self; 10] = [
        Self::NotActivated,
        Self::NoEffect,
        Self::Recovered,
        Self::Tolerated,
        Self::ReportedLoss,
        Self::FailedService,
        Self::Hang,
        Self::SilentLoss,
        Self::KernelCrash,
        Self::VmmCrash,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NotActivated => "not-activated",
            Self::NoEffect => "no-effect",
            Self::Recovered => "recovered",
            Self::Tolerated => "tolerated",
            Self::ReportedLoss => "reported-loss",
            Self::FailedService => "failed-service",
            Self::Hang => "hang",
            Self::SilentLoss => "silent-loss",
            Self::KernelCrash => "kernel-crash",
            Self::VmmCrash => "vmm-crash",
        }
    }

    /// Whether the fault showed at all.
    pub const fn shows(self) -> bool {
        !matches!(self, Self::NotActivated | Self::NoEffect)
    }

    /// Showed, and nothing was lost.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Recovered | Self::Tolerated)
    }

    /// What must never happen.
    pub const fn is_forbidden(self) -> bool {
        matches!(self, Self::SilentLoss | Self::KernelCrash | Self::VmmCrash)
    }
}
