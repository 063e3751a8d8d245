//! The devices that are always there.

use xinim_abi::services::hostlink::cookie;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::Ino;

pub(crate) const ROOT: Ino = 1;
pub(crate) const HOST: Ino = 2;
/// /dev/disk and the directories of links in it.
const DISK: Ino = 3;
pub(crate) const BY_ID: Ino = 4;
pub(crate) const BY_UUID: Ino = 5;
pub(crate) const BY_LABEL: Ino = 6;
pub(crate) const BY_PARTUUID: Ino = 7;
/// Directory, name, parent.
const DIRECTORIES: [(Ino, &str, Ino); 6] = [
    (HOST, "host", ROOT),
    (DISK, "disk", ROOT),
    (BY_ID, "by-id", DISK),
    (BY_UUID, "by-uuid", DISK),
    (BY_LABEL, "by-label", DISK),
    (BY_PARTUUID, "by-partuuid", DISK),
];
/// Inode numbers of [`DEVICES`] start here.
const FIRST: Ino = 16;

/// What happens to a device's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Reads end at once, writes vanish.
    Null,
    /// Reads are zeros, writes vanish.
    Zero,
    /// Reads are zeros, writes find no space.
    Full,
    /// Reads are random, writes stir.
    Random,
    /// Another server's, with this cookie.
    Elsewhere { label: &'static str, cookie: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub dir: Ino,
    pub name: &'static str,
    pub behaviour: Behaviour,
    /// Major << 16 | minor, Linux's numbers where it has the device.
    pub rdev: u32,
    pub permissions: u32,
}

const fn device(name: &'static str, minor: u32, behaviour: Behaviour) -> Device {
    Device { dir: ROOT, name, behaviour, rdev: 1 << 16 | minor, permissions: 0o666 }
}

const fn elsewhere(
    dir: Ino,
    name: &'static str,
    rdev: u32,
    label: &'static str,
    cookie: u64,
) -> Device {
    let behaviour = Behaviour::Elsewhere { label, cookie };
    Device { dir, name, behaviour, rdev, permissions: 0o620 }
}

/// Linux has no numbers for the host's streams; 240 is in its range for local use.
const HOST_MAJOR: u32 = 240 << 16;

pub(crate) const DEVICES: [Device; 11] = [
    device("null", 3, Behaviour::Null),
    device("zero", 5, Behaviour::Zero),
    device("full", 7, Behaviour::Full),
    device("random", 8, Behaviour::Random),
    device("urandom", 9, Behaviour::Random),
    elsewhere(ROOT, "tty", 5 << 16, "tty", 0),
    elsewhere(ROOT, "console", 5 << 16 | 1, "tty", 0),
    elsewhere(ROOT, "log", 1 << 16 | 11, "log", 0),
    elsewhere(HOST, "stdin", HOST_MAJOR, "virtio-console", cookie::STDIN),
    elsewhere(HOST, "stdout", HOST_MAJOR | 1, "virtio-console", cookie::STDOUT),
    elsewhere(HOST, "stderr", HOST_MAJOR | 2, "virtio-console", cookie::STDERR),
];

pub(crate) fn by_ino(ino: Ino) -> Option<&'static Device> {
    DEVICES.get(usize::try_from(ino.checked_sub(FIRST)?).ok()?)
}

pub(crate) fn is_directory(ino: Ino) -> bool {
    ino == ROOT || DIRECTORIES.iter().any(|(own, ..)| *own == ino)
}

/// The root is its own.
pub(crate) fn parent(dir: Ino) -> Ino {
    DIRECTORIES.iter().find(|(own, ..)| *own == dir).map_or(ROOT, |(_, _, parent)| *parent)
}

pub(crate) fn by_name(dir: Ino, name: &[u8]) -> Option<Ino> {
    let mut directories = DIRECTORIES.iter();
    let known = directories.find(|(_, own, parent)| *parent == dir && own.as_bytes() == name);
    if let Some((ino, ..)) = known {
        return Some(*ino);
    }
    let at = DEVICES.iter().position(|d| d.dir == dir && d.name.as_bytes() == name)?;
    Some(FIRST + at as u64)
}

/// Names in a directory with inode number and mode.
pub(crate) fn in_directory(dir: Ino) -> impl Iterator<Item = (&'static str, Ino, u32)> {
    let directories = DIRECTORIES.iter().filter(move |(_, _, parent)| *parent == dir);
    let directories = directories.map(|(ino, name, _)| (*name, *ino, mode::DIRECTORY));
    let devices = DEVICES.iter().zip(FIRST..).filter(move |(device, _)| device.dir == dir);
    devices.map(|(device, ino)| (device.name, ino, mode::CHARACTER)).chain(directories)
}
