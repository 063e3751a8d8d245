//! The host's ends: its iperf3 as a server, and a client of the guest's HTTP server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at a time.
const CLIENTS: usize = 4;
/// A server that does not answer one request in this time does not count.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n";

/// A port of 127.0.0.1 that nobody listens on at this moment.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Ends with this.
#[derive(Debug)]
pub struct Iperf {
    child: Child,
    pub port: u16,
}

impl Iperf {
    pub fn serve() -> Result<Self, String> {
        let port = free_port().map_err(|e| format!("no port: {e}"))?;
        let mut command = Command::new("iperf3");
        command.args(["-s", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("iperf3 does not start: {e}"))?;
        Ok(Self { child, port })
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pages that came whole.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub pages: u64,
    pub took: Duration,
}

/// Asks for pages for a time.
pub fn requests(server: SocketAddr, time: Duration) -> Answered {
    // The first one shows that it is there.
    let begin = Instant::now();
    while !page(server) && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let begin = Instant::now();
    let end = begin + time;
    let ask = || {
        let mut pages = 0;
        while Instant::now() < end {
            pages += u64::from(page(server));
        }
        pages
    };
    let pages = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap_or(0)).sum()
    });
    Answered { pages, took: begin.elapsed() }
}

/// One page by a connection of its own; false: it did not come whole.
fn page(server: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(REQUEST)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
        Ok(answer.starts_with(b"HTTP/1.1 200 ")
            && head.is_some_and(|head| answer.len() == head + 4 + 1024))
    };
    ask().unwrap_or_else(|_| {
        // A server that refuses is not asked a million times.
        thread::sleep(Duration::from_millis(1));
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_when_they_are_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 512]);
                // Every second page is cut short.
                let body = vec![b'x'; 1024 - number % 2];
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let _ = stream.write_all(&body);
            }
        });
        assert!(page(server));
        assert!(!page(server));
        assert!(requests(server, Duration::from_millis(50)).pages > 0);
    }
}
