//! The load: files copied with checksums, a TCP stream, processes. And the host's end of the stream.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Bytes of the file that is copied and fetched.
pub const FILE: usize = 512 << 10;
/// A client that neither reads nor goes away.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of results in a round: copies, fetches, churn, second disk.
pub const RESULTS: usize = 2 + 1 + 3 + 1;

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
    let words = std::iter::repeat_with(|| super::plan::draw(&mut state));
    words.take(FILE / 8).flat_map(u64::to_le_bytes).collect()
}

/// Puts the disks in order: once a machine. The last line is the checksum of the file, twice if the
/// stream and the file system agree.
pub fn prepare(port: u16) -> String {
    format!(
        "mkfs.fat /dev/vda > /tmp/x 2>&1 && mount /dev/vda /mnt || echo cannot mount
until ping -c 1 -W 1 10.0.2.2 > /tmp/x 2>&1; do true; done
wget -q -O /mnt/src http://10.0.2.2:{port}/f || echo cannot fetch
dd if=/mnt/src of=/dev/sda bs=4096 2> /tmp/x; sync
cp /mnt/src /tmp/src
sha256sum < /mnt/src
sha256sum < /tmp/src
"
    )
}

/// Starts the load of a round; it goes on beside what the shell reads next. Each part writes lines of its
/// number, the statuses of what it ran, and the checksum of what came of it. With `removal` the
/// second disk is pulled out: its errors belong to the fault and are not results.
pub fn begin(port: u16, removal: bool) -> String {
    let blocks = FILE / 4096;
    let show = if removal { "echo 4 0 removal" } else { "echo 4 $s $(sha256sum < /tmp/sda)" };
    format!(
        "rm -f /tmp/o1 /tmp/o2 /tmp/o3 /tmp/o4
(for i in 1 2; do cp /mnt/src /mnt/d$i; s=$?; sync; s=$s$?; echo 1 $s $(sha256sum < /mnt/d$i); rm /mnt/d$i; done > /tmp/o1 2>&1) &
(for i in 1; do wget -q -O /tmp/w http://10.0.2.2:{port}/f; s=$?; echo 2 $s $(sha256sum < /tmp/w); done > /tmp/o2 2>&1) &
(for i in 1 2 3; do echo 3 0 $(seq 1 5 | tr 1-5 a-e); done > /tmp/o3 2>&1) &
(dd if=/dev/sda of=/tmp/sda bs=4096 count={blocks} 2> /tmp/x4; s=$?; {show} > /tmp/o4 2>&1) &
"
    )
}

/// Waits for the load and shows what came of it, then how the services are. `number` marks the end.
pub fn end(number: u64) -> String {
    format!(
        "wait
cat /tmp/o1 /tmp/o2 /tmp/o3 /tmp/o4
echo SERVICES
service list
echo MEMORY
free
echo END {number}
"
    )
}

/// What a line of results says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    Right,
    /// An error was told.
    Told,
    /// Wrong, without a word.
    Wrong,
}

/// Judges one line of the results; `sum`: the right checksum.
pub fn judge(line: &str, sum: &str) -> Result {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["1" | "2" | "4", status, word, "-"] if all_zeros(status) && is_sum(word) => {
            // Every program said that it had done it.
            if *word == sum { Result::Right } else { Result::Wrong }
        }
        ["3", "0", "a", "b", "c", "d", "e"] | ["4", "0", "removal"] => Result::Right,
        _ => Result::Told,
    }
}

fn all_zeros(status: &str) -> bool {
    status.bytes().all(|b| b == b'0')
}

fn is_sum(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
