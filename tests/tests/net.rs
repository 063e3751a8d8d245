//! The network in the guest, on both engines and every device: addresses, files, servers, measuring, and
//! drivers that die under load. The other end is this process, or the host's own iperf3.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use xinim_tests::machine::{engines, exec};

const MODELS: [&str; 4] = ["virtio", "e1000", "e1000-82545em", "e1000e"];
const PATIENCE: Duration = Duration::from_secs(120);

fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn sum(data: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(data);
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Serves `data` over HTTP for the rest of the test; `pause` after every 64 KiB.
fn serve(data: Vec<u8>, pause: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, data) = (stream.unwrap(), data.clone());
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
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
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_address_a_name_and_a_file_over_every_device() {
    let data = bytes(1 << 20);
    let port = serve(data.clone(), Duration::ZERO);
    for engine in engines("files over the network") {
        for model in MODELS {
            let net = format!("user,model={model},host-loopback");
            let commands = format!(
                "ping -c 2 -i 0.1 10.0.2.2 && ip && ip route && nslookup localhost && \
                 wget -q -O - http://10.0.2.2:{port}/file | sha256sum"
            );
            let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
            let text = output.out();
            for wanted in
                ["0% packet loss", "inet 10.0.2.", "default via 10.0.2.2 dev eth0", "127.0.0.1"]
            {
                assert!(text.contains(wanted), "{engine} {model}: no '{wanted}' in\n{text}");
            }
            assert!(text.contains(&sum(&data)), "{engine} {model}: other bytes\n{text}");
        }
    }
}

#[test]
fn the_guest_serves_a_hundred_connections() {
    for engine in engines("a server in the guest") {
        let port = free_port();
        let net = format!("user,publish={port}:80");
        let commands = "mkdir /tmp/www; seq 1 5000 > /tmp/www/numbers; httpd -n 100 /tmp/www";
        let mut guest = exec(engine, commands, &["--net", &net]).spawn();
        let expected: String = (1..=5000).map(|n| format!("{n}\n")).collect();
        let start = Instant::now();
        // The port is open before the server in the guest is.
        let mut served = 0;
        while served < 100 {
            assert!(start.elapsed() < PATIENCE, "{engine}: {served} answers");
            match fetch(port, "/numbers") {
                Some(body) => {
                    assert!(body == expected, "{engine}: another body of {} bytes", body.len());
                    served += 1;
                }
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
        assert_eq!(guest.wait().unwrap().code(), Some(0), "{engine}");
    }
}

/// The body of an answer with status 200.
fn fetch(port: u16, path: &str) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_string())
}

#[test]
fn a_transfer_outlives_its_driver() {
    // About five seconds, as long as the killing.
    let data = bytes(8 << 20);
    let port = serve(data.clone(), Duration::from_millis(40));
    for engine in engines("a driver killed during a transfer") {
        for (model, driver) in [("virtio", "virtio-net"), ("e1000", "e1000"), ("e1000e", "e1000")] {
            let net = format!("user,model={model},host-loopback");
            let commands = format!(
                "wget -q -O /tmp/file http://10.0.2.2:{port}/file & \
                 for i in 1 2 3 4; do sleep 1; service kill {driver}; done; wait; \
                 sha256sum /tmp/file; service list | grep {driver}"
            );
            let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
            let text = output.out();
            assert!(text.contains(&sum(&data)), "{engine} {model}: other bytes\n{text}");
            let restarts = text.lines().last().and_then(|line| line.split_whitespace().nth(3));
            assert_eq!(restarts, Some("4"), "{engine} {model}\n{text}");
        }
    }
}

struct Iperf(Child);

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The host's iperf3 as a server.
fn iperf_server() -> (Iperf, u16) {
    let port = free_port();
    let mut command = Command::new("iperf3");
    command.args(["-s", "-p", &port.to_string(), "--forceflush"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    (Iperf(child.expect("iperf3 is installed by scripts/install-test-tools.sh")), port)
}

#[test]
fn iperf3_in_both_directions() {
    for engine in engines("iperf3") {
        let (_server, port) = iperf_server();
        let commands = format!(
            "sleep 1; for how in '' -R '-u -b 5M'; do iperf3 -c 10.0.2.2 -p {port} -t 1 $how || exit 9; done"
        );
        let output = exec(engine, &commands, &["--net", "user,host-loopback"]).output().expect(0);
        let rates: Vec<f64> = output
            .out()
            .lines()
            .filter(|line| line.contains("receiver"))
            .filter_map(|line| line.split("KBytes").nth(1)?.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(rates.len(), 3, "{engine}\n{}", output.out());
        assert!(rates.iter().all(|rate| *rate > 1.0), "{engine}: {rates:?}");
    }
}

#[test]
fn the_hosts_iperf3_measures_the_guest() {
    for engine in engines("iperf3 as a server") {
        let port = free_port();
        let net = format!("user,publish={port}:5201");
        let mut guest = exec(engine, "iperf3 -s -1", &["--net", &net]).spawn();
        let start = Instant::now();
        loop {
            let mut client = Command::new("iperf3");
            client.args([
                "-c",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-t",
                "1",
                "--connect-timeout",
                "2000",
            ]);
            let output =
                client.output().expect("iperf3 is installed by scripts/install-test-tools.sh");
            if output.status.success() {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains("receiver"), "{text}");
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&output.stderr));
            thread::sleep(Duration::from_millis(100));
        }
        // A client that was too early may have used the one test up; it is over either way.
        let _ = guest.kill();
        let _ = guest.wait();
    }
}
