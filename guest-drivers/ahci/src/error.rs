//! What a driver cannot go on after: the process ends, the kernel stops the function's DMA, and the
//! next instance resets the HBA.

use xinim_abi::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaError {
    /// BAR 5 is too small for the generic host control.
    Registers,
    /// GHC.HR was still set after a second (AHCI 10.4.3).
    ResetTimedOut,
    /// GHC.AE reads 0 after it was set.
    NotAhci,
    /// A port's DMA engine did not stop, not even for a COMRESET: it may write anywhere it was told to.
    PortStuck(u8),
    /// The system refused: memory, BAR.
    System(Error),
}

impl From<Error> for HbaError {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

impl core::fmt::Display for HbaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Registers => write!(f, "BAR 5 is too small for an AHCI controller"),
            Self::ResetTimedOut => write!(f, "controller reset timed out"),
            Self::NotAhci => write!(f, "the controller does not switch to AHCI"),
            Self::PortStuck(port) => write!(f, "port {port} does not stop its DMA"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for HbaError {}
