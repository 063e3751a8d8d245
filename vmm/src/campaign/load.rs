//! The load: files copied with checksums, a TCP stream, a second disk, processes, all at the same time and
//! without a pause; and the host's end of the stream.
//!
//! ```text
//! workload copy ...  \                    copy 12034 0 SUM       one line a piece of work: when it began
//! workload read ...   >-- one output -->  read 12101 i/o error   (ms since boot), how it ended, the
//! workload spawn     /                    fetch 12110 0 SUM      checksum of what came of it
//! fetchload ...     /
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use xinim_devices::random::draw;

/// Bytes of the file that is copied and fetched.
pub const FILE: usize = 128 << 10;
/// A client that neither reads nor goes away.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the second disk's part says instead of a checksum when that disk may be missing.
const WORDS_RIGHT: &str = "right";

/// Serves the file over HTTP on the loopback address, until the program ends.
#[derive(Debug)]
pub struct Source {
    pub port: u16,
}

impl Source {
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A guest that goes away in the middle is what this is about.
                std::thread::spawn(move || serve(stream).is_ok());
            }
        });
        Ok(Self { port })
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {FILE}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    for part in file().chunks(32 << 10) {
        stream.write_all(part)?;
    }
    Ok(())
}

/// Bytes that do not repeat, always the same.
fn file() -> Vec<u8> {
    let mut state = 1;
    let words = std::iter::repeat_with(|| draw(&mut state));
    words.take(FILE / 8).flat_map(u64::to_le_bytes).collect()
}

/// The parts of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Copy,
    Fetch,
    Read,
    Spawn,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Copy, Self::Fetch, Self::Read, Self::Spawn];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Fetch => "fetch",
            Self::Read => "read",
            Self::Spawn => "spawn",
        }
    }

    /// Whether this part goes through the service or device.
    pub fn uses(self, target: &str) -> bool {
        let label = target.split('.').next().unwrap_or("");
        let own: &[&str] = match self {
            Self::Copy => &["virtio-blk", "fs-fat", "vfs", "pci"],
            Self::Fetch => &["virtio-net", "net", "net0", "vfs", "pci"],
            Self::Read => &["ahci", "devfs", "vfs", "pci"],
            Self::Spawn => &["pm", "vfs", "ramfs"],
        };
        own.contains(&label)
    }
}

/// The program that the machine runs: puts the disks in order, says `PREPARED` behind two checksums of the
/// file (equal if stream and file system agree), starts the load, and then takes commands.
pub fn program(port: u16) -> String {
    format!(
        "mkfs.fat /dev/vda > /tmp/x 2>&1 && mount /dev/vda /mnt || echo cannot mount
until ping -c 1 -W 1 10.0.2.2 > /tmp/x 2>&1; do true; done
wget -q -O /mnt/src http://10.0.2.2:{port}/f || echo cannot fetch
dd if=/mnt/src of=/dev/sda bs=4096 2> /tmp/x; sync
cp /mnt/src /tmp/src
sha256sum < /mnt/src
sha256sum < /tmp/src
echo PREPARED
workload copy /mnt/src /mnt/d < /dev/null &
fetchload 10.0.2.2 {port} /f < /dev/null &
workload read /dev/sda {FILE} < /dev/null &
workload spawn < /dev/null &
exec service batch
"
    )
}

/// What a line of the load says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// An error was told.
    Told,
    /// Wrong, without a word.
    Wrong,
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub part: Part,
    /// Milliseconds since the guest's boot.
    pub began: u64,
    pub verdict: Verdict,
}

/// Reads a line of the load; `sum`: the right checksum. `None`: it is none.
pub fn work(line: &str, sum: &str) -> Option<Work> {
    let (name, rest) = line.split_once(' ')?;
    let part = Part::ALL.into_iter().find(|part| part.name() == name)?;
    let (began, rest) = rest.split_once(' ')?;
    let began = began.parse().ok()?;
    let right = if part == Part::Spawn { WORDS_RIGHT } else { sum };
    let verdict = match rest.split_once(' ') {
        // The program said that it had done it.
        Some(("0", result)) if result == right => Verdict::Right,
        Some(("0", _)) => Verdict::Wrong,
        _ => Verdict::Told,
    };
    Some(Work { part, began, verdict })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
