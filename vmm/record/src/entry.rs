//! What a recording consists of.

use serde::{Deserialize, Serialize};
use xinim_devices::device::{self, Access, Op};

/// A device and what it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// As in the trace: `virtio-blk.0`.
    pub name: String,
    pub kind: Kind,
    /// Behind an IOMMU: it offers what belongs to that.
    pub translated: bool,
}

/// Enough to make the same device again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Block {
        id: String,
        queues: u16,
        queue_size: u16,
    },
    Console {
        queue_size: u16,
    },
    Net {
        mac: [u8; 6],
        pairs: u16,
        mtu: u16,
        link: bool,
        queue_size: u16,
    },
    /// `model`: PCI device id.
    E1000 {
        model: u16,
        mac: [u8; 6],
        link: bool,
        intx: bool,
    },
    Ahci {
        ports: u8,
        drives: Vec<DriveSpec>,
        intx: bool,
        manner: AhciManner,
    },
}

/// What an AHCI controller can be made to do otherwise; a machine's does none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AhciManner {
    pub staggered_spin_up: bool,
    pub bios_owned: bool,
    pub qemu_dialect: bool,
}

/// A drive behind a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveSpec {
    pub unit: u16,
    pub cd_rom: bool,
    /// A disc in the CD-ROM drive, or a disk.
    pub medium: bool,
    pub serial: String,
}

/// An access without its origin, which no model looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    pub offset: u64,
    pub size: u8,
    /// `None`: a read.
    pub write: Option<u64>,
}

impl From<&Access> for Touch {
    fn from(access: &Access) -> Self {
        let write = match access.op {
            Op::Read => None,
            Op::Write(value) => Some(value),
        };
        Self { offset: access.offset, size: access.size, write }
    }
}

impl Touch {
    pub fn access(&self) -> Access {
        match self.write {
            None => Access::read(self.offset, self.size),
            Some(value) => Access::write(self.offset, self.size, value),
        }
    }
}

/// What the machine does to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    Config(Touch),
    Bar {
        bar: u8,
        touch: Touch,
    },
    Notify {
        queue: u16,
    },
    /// The back end has something, takes something, the timer fired.
    Input,
    Output,
    Timer,
    Link {
        up: bool,
    },
    /// A disk's completions; its length changed.
    Ready {
        unit: u16,
    },
    Resized {
        unit: u16,
    },
    Attach(DriveSpec),
    Detach {
        unit: u16,
    },
    Insert {
        unit: u16,
    },
    Eject {
        unit: u16,
        force: bool,
    },
    Reset,
    /// A hand at the button of a CD-ROM drive.
    Tray {
        unit: u16,
        open: bool,
    },
}

/// What comes of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// Of a read.
    pub value: u64,
    /// Whether to call again, or whether it worked.
    pub more: bool,
    /// The guest's mistake and the machine's work, in words.
    pub error: Option<String>,
    pub action: Option<String>,
}

impl From<&device::Outcome> for Return {
    fn from(outcome: &device::Outcome) -> Self {
        Self {
            value: outcome.value,
            more: false,
            error: outcome.error.map(|error| format!("{error:?}")),
            action: outcome.action.map(|action| format!("{action:?}")),
        }
    }
}

impl Return {
    pub fn more(more: bool) -> Self {
        Self { more, ..Self::default() }
    }
}

/// A request to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    pub tag: u64,
    /// Read, Write { .. }, ... in words.
    pub operation: String,
    pub offset: u64,
    pub length: u64,
    /// Address and bytes.
    pub segments: Vec<(u64, u32)>,
}

/// What a disk is, as [`xinim_devices::backend::BlockInfo`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    pub length: u64,
    pub logical_block: u32,
    pub physical_block: u32,
    pub read_only: bool,
    pub write_cache: bool,
    pub discard: bool,
}

/// A frame: virtio-net header and Ethernet data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameData {
    pub header: [u8; 12],
    pub data: Vec<u8>,
}

/// What a device asks while it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Read {
        address: u64,
        length: u32,
    },
    Write {
        address: u64,
        data: Vec<u8>,
    },
    Load {
        address: u64,
    },
    Store {
        address: u64,
        value: u16,
    },
    Reaches {
        address: u64,
        length: u64,
        write: bool,
    },
    Route {
        vector: u16,
        address: u64,
        data: u32,
        masked: bool,
    },
    Signal {
        vector: u16,
        address: u64,
        data: u32,
    },
    Line {
        level: bool,
    },
    Monotonic,
    Wall,
    /// Nanoseconds of the device's clock.
    Arm {
        at: Option<u64>,
    },
    DiskInfo {
        unit: u16,
    },
    Submit {
        unit: u16,
        request: DiskRequest,
    },
    Start {
        unit: u16,
    },
    Poll {
        unit: u16,
    },
    InFlight {
        unit: u16,
    },
    Cancel {
        unit: u16,
    },
    Send(FrameData),
    Receive,
    Offloads,
    Accept {
        offloads: u8,
    },
    StreamWrite {
        data: Vec<u8>,
    },
    StreamRead {
        length: u32,
    },
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Ok(bool),
    /// `None`: no memory there.
    Data(Option<Vec<u8>>),
    Word(Option<u16>),
    Number(u64),
    Info(DiskInfo),
    /// Tag and, if it failed, the errno.
    Completion(Option<(u64, Option<i32>)>),
    Frame(Option<FrameData>),
}

/// One thing after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    Call(Call),
    Asked(Ask, Answer),
    Return(Return),
}
