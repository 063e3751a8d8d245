//! What every device model offers: [`Device::access`].

use xinim_abi::hw::register::Register;

/// Who caused an access, as far as the machine knows. Only the trace looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Nanoseconds since the machine started.
    pub time_ns: u64,
    /// `None`: the machine itself (an I/O thread).
    pub vcpu: Option<u32>,
    /// Guest instruction pointer; meaningless without a vCPU.
    pub rip: u64,
    pub process: Option<Process>,
}

impl Origin {
    /// The machine itself, at this time.
    pub const fn host(time_ns: u64) -> Self {
        Self { time_ns, vcpu: None, rip: 0, process: None }
    }
}

/// A guest process as the guest kernel publishes it; the name is guest data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// UTF-8 padded with zeros, in principle.
    pub name: [u8; 28],
}

impl Process {
    /// The name up to its padding; `?` where it is not UTF-8 or not printable.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|&b| b == 0).unwrap_or(self.name.len());
        match std::str::from_utf8(&self.name[..end]) {
            Ok(name) if !name.chars().any(char::is_control) => name,
            _ => "?",
        }
    }
}

/// One read or write, `size` bytes (1, 2, 4 or 8) at `offset` from the start of the device's
/// port range or BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub offset: u64,
    pub size: u8,
    pub op: Op,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read,
    /// Right-aligned; bits above the access size are zero.
    Write(u64),
}

impl Access {
    /// A read by nobody in particular, for tests and internal use.
    pub const fn read(offset: u64, size: u8) -> Self {
        Self { offset, size, op: Op::Read, origin: Origin::host(0) }
    }

    /// A write by nobody in particular.
    pub const fn write(offset: u64, size: u8, value: u64) -> Self {
        Self { offset, size, op: Op::Write(value), origin: Origin::host(0) }
    }

    pub const fn is_write(&self) -> bool {
        matches!(self.op, Op::Write(_))
    }

    /// The same access as seen from a block that begins `base` bytes further on.
    pub const fn rebased(self, base: u64) -> Self {
        Self { offset: self.offset.wrapping_sub(base), ..self }
    }
}

/// The answer to an [`Access`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// For a read: the value, right-aligned.
    pub value: u64,
    /// What was touched, for the trace.
    pub decode: Option<Decode>,
    /// What the guest did wrong, if anything. The access has been answered all the same.
    pub error: Option<GuestError>,
    /// What the machine must do now.
    pub action: Option<Action>,
    /// For the trace: what a written register held before, where that is known.
    pub old: Option<u64>,
}

impl Outcome {
    /// A read's value.
    pub const fn value(value: u64) -> Self {
        Self { value, decode: None, error: None, action: None, old: None }
    }

    /// A write done, nothing to say.
    pub const fn done() -> Self {
        Self::value(0)
    }

    /// A mistake; reads as all ones of `size` bytes.
    pub const fn error(error: GuestError, size: u8) -> Self {
        Self { error: Some(error), ..Self::value(all_ones(size)) }
    }

    /// With this decoding for the trace.
    pub const fn at(mut self, table: &'static [Register], offset: u32) -> Self {
        self.decode = Some(Decode { table, offset, index: None });
        self
    }

    /// With this mistake added.
    pub const fn with_error(mut self, error: GuestError) -> Self {
        self.error = Some(error);
        self
    }

    /// With what was there before a write.
    pub const fn over(mut self, old: u64) -> Self {
        self.old = Some(old);
        self
    }

    /// With this action added.
    pub const fn with_action(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }
}

/// Where in which register table an access fell.
#[derive(Clone, Copy, Debug)]
pub struct Decode {
    pub table: &'static [Register],
    pub offset: u32,
    /// Which of several equal blocks (MSI-X vector, selected queue).
    pub index: Option<u16>,
}

/// What a device asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// ACPI S5.
    PowerOff,
    /// Reset of the whole machine.
    Reset,
    /// The exit device was written.
    Exit(u32),
    /// The guest announced its trace page: a page frame number, unchecked.
    TracePage(u64),
    /// More work than one access may do is left: call
    /// [`Bus::notify`](crate::bus::Bus::notify) with these, on any thread.
    NotifyAgain { function: xinim_abi::hw::pci::Bdf, queue: u16 },
}

/// A mistake of the guest (its driver, usually).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestError {
    /// Nothing answers there.
    Unclaimed,
    /// No register at this offset.
    NoRegister,
    /// A write to a register that takes none.
    ReadOnly,
    /// A read of a register that gives none.
    WriteOnly,
    /// Not 1, 2, 4 or 8 bytes, or not the width this register takes.
    BadSize,
    /// Not aligned to its size where it must be.
    Unaligned,
    /// A value that the register does not take.
    BadValue,
    /// Not allowed in the present state (queue already enabled, features already negotiated).
    BadState,
    /// The queue selected or notified does not exist or is not enabled.
    BadQueue,
    /// Device would have to do DMA but bus mastering is off.
    BusMasterOff,
    /// The device is broken and waits for a reset.
    NeedsReset,
    /// A virtqueue does not obey its rules.
    Ring(crate::virtio::RingError),
}

/// A device behind a range of ports or addresses.
pub trait Device: Send {
    /// Stable name for the trace: `com1`, `rtc`.
    fn name(&self) -> &str;

    /// Carries out one access. `offset + size` lies within the device's range.
    fn access(&mut self, access: Access) -> Outcome;

    /// Back to the state after power-on.
    fn reset(&mut self);
}

/// `size` bytes of ones, right-aligned; what a bus reads where nobody answers.
pub const fn all_ones(size: u8) -> u64 {
    xinim_abi::hw::register::ones(size.saturating_mul(8))
}
