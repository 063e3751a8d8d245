//! Interrupts as a device raises them.

/// A wire to an interrupt controller, level-triggered as seen from the device.
pub trait IrqLine: Send + Sync {
    /// Called on changes only.
    fn set(&self, level: bool);
}

/// A line that leads nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoIrq;

impl IrqLine for NoIrq {
    fn set(&self, _level: bool) {}
}

/// A message-signalled interrupt: a 32-bit write of `data` to `address`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiMessage {
    pub address: u64,
    pub data: u32,
}

/// Programming of one MSI-X vector as it takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiRoute {
    pub message: MsiMessage,
    /// By its own mask, the function mask, or because MSI-X is off.
    pub masked: bool,
}

/// Where the messages of one PCI function go.
///
/// Both methods run with the device locked: they must not call back into it.
pub trait MsiSink: Send + Sync {
    /// The programming of `vector` changed (also on enabling, masking and reset). A machine that
    /// keeps an interrupt route per vector updates it here.
    fn route(&self, vector: u16, route: MsiRoute);

    /// Deliver `vector` now. Called only while it is unmasked; masked interrupts wait in the
    /// pending bit array and are delivered on unmasking, after [`route`](Self::route).
    fn signal(&self, vector: u16, message: MsiMessage);
}

/// Messages that go nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMsi;

impl MsiSink for NoMsi {
    fn route(&self, _vector: u16, _route: MsiRoute) {}
    fn signal(&self, _vector: u16, _message: MsiMessage) {}
}
