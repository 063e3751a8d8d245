//! What a disk of a machine is, as every engine takes it.

use std::path::PathBuf;

/// A disk of the machine; its file is opened and locked by the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    pub source: DiskSource,
    pub bus: DiskBus,
    /// `None`: by the name, see [`DiskSpec::format`].
    pub format: Option<DiskFormat>,
    pub read_only: bool,
    /// A CD-ROM drive (on AHCI) with this as its disc.
    pub cd_rom: bool,
    /// Writes go to a temporary overlay that ends with the machine; the file is only read.
    pub snapshot: bool,
    pub cache: CacheMode,
    pub limits: Limits,
    /// What the guest knows the disk by, at most 20 printable ASCII characters; `None`: a name
    /// made from its number.
    pub serial: Option<String>,
    /// How host files are read and written.
    pub io: IoMethod,
}

impl DiskSpec {
    /// An image file with everything as by default.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::from_source(DiskSource::File(path.into()))
    }

    /// A disc in a CD-ROM drive.
    pub fn disc(path: impl Into<PathBuf>) -> Self {
        let format = Some(DiskFormat::Raw);
        let file = Self::file(path);
        Self { bus: DiskBus::Ahci, cd_rom: true, read_only: true, format, ..file }
    }

    /// A blank disk of so many bytes.
    pub fn blank(bytes: u64) -> Self {
        Self::from_source(DiskSource::New(bytes))
    }

    fn from_source(source: DiskSource) -> Self {
        Self {
            source,
            bus: DiskBus::Virtio,
            format: None,
            read_only: false,
            cd_rom: false,
            snapshot: false,
            cache: CacheMode::default(),
            limits: Limits::default(),
            serial: None,
            io: IoMethod::default(),
        }
    }

    /// The format as given, else by the name: `.qcow2` is qcow2, anything else raw. The content
    /// does not decide, since a guest writes the content of a raw disk.
    pub fn format(&self) -> DiskFormat {
        let qcow2 = match &self.source {
            DiskSource::File(path) => {
                path.extension().is_some_and(|e| e.eq_ignore_ascii_case("qcow2"))
            }
            DiskSource::New(_) => false,
        };
        self.format.unwrap_or(if qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw })
    }

    /// Whether the image file itself is written.
    pub fn writes_file(&self) -> bool {
        !self.read_only && !self.snapshot
    }
}

/// Where a disk's contents come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSource {
    /// An image file or block device.
    File(PathBuf),
    /// A blank disk of so many bytes, gone with the machine.
    New(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskBus {
    Virtio,
    /// A port of the machine's AHCI controller, in the order of the disks.
    Ahci,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    Raw,
    /// With its backing files.
    Qcow2,
}

/// What of a write is where when the guest is told that it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// In the host's page cache; stable after a flush.
    #[default]
    Writeback,
    /// Stable at once.
    Writethrough,
    /// Past the host's page cache (`O_DIRECT`); stable after a flush.
    None,
    /// In the host's page cache; flushes are not carried out. A crash of the host loses data.
    Unsafe,
}

/// How an engine of ours talks to host files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMethod {
    /// io_uring where the host has it, else threads.
    #[default]
    Auto,
    Uring,
    Threads,
}

/// Rate limits of a disk; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes read, written and cleared per second.
    pub bytes: Option<Rate>,
    /// Requests per second, flushes included.
    pub operations: Option<Rate>,
}

impl Limits {
    pub fn any(&self) -> bool {
        self.bytes.is_some() || self.operations.is_some()
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second, at least 1.
    pub per_second: u64,
    /// Tokens that can be saved up, at least 1.
    pub burst: u64,
}

impl Rate {
    /// With what a tenth of a second gives as the burst.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, burst: (per_second / 10).max(1) }
    }
}
