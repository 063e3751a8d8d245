//! The other end of the guest's network: servers of this process, the host's iperf3.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// What `sha256sum` says of `data`.
pub fn sha256(data: &[u8]) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Serves `data` over HTTP for the rest of the test; `pause` after every 64 KiB.
pub fn serve(data: Vec<u8>, pause: Duration) -> u16 {
    serve_at("127.0.0.1:0", data, pause)
}

/// The same at an address of the host's.
pub fn serve_at(address: &str, data: Vec<u8>, pause: Duration) -> u16 {
    let listener = TcpListener::bind(address).expect("a socket of the host");
    let port = listener.local_addr().expect("a socket of the host").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, data) = (stream.expect("a socket of the host"), data.clone());
            thread::spawn(move || {
                let mut lines =
                    BufReader::new(stream.try_clone().expect("a socket of the host")).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", data.len());
                // A guest that is gone is the test's to notice.
                let _ = stream.write_all(head.as_bytes());
                for part in data.chunks(64 * 1024) {
                    if stream.write_all(part).is_err() {
                        return;
                    }
                    thread::sleep(pause);
                }
            });
        }
    });
    port
}

/// A port nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .expect("a socket of the host")
        .local_addr()
        .expect("a socket of the host")
        .port()
}

/// The body of an answer with status 200.
pub fn fetch(port: u16, path: &str) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_string())
}

/// Ends with this.
#[derive(Debug)]
pub struct Iperf(Child);

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The host's iperf3 as a server.
pub fn iperf_server() -> (Iperf, u16) {
    let port = free_port();
    let mut command = Command::new("iperf3");
    command.args(["-s", "-p", &port.to_string(), "--forceflush"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    (Iperf(child.expect("iperf3 is installed by scripts/install-test-tools.sh")), port)
}
