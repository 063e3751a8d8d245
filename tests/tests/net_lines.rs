//! The guest's network over lines that are no straight way to a good host: two guests on a hub, lines that
//! lose, reorder and delay.

use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use xinim_tests::host::noise;
use xinim_tests::machine::{engines, exec};
use xinim_tests::net::{serve, sha256};

/// Two machines on one wire, an engine and a card each: names, files, streams, measuring.
#[test]
fn two_guests_on_a_hub() {
    let kvm = engines("two_guests_on_a_hub").contains(&"kvm");
    let all = [("kvm", "virtio", "kvm", "e1000"), ("qemu", "e1000e", "kvm", "virtio")];
    let pairs = if kvm { &all[..] } else { &[("qemu", "virtio", "qemu", "e1000")] };
    for (number, &(first, first_model, second, second_model)) in pairs.iter().enumerate() {
        let hub = format!("hub=test-{}-{number}", std::process::id());
        let server = thread::spawn({
            let net = format!("{hub},model={first_model},mac=52:54:00:00:00:01");
            move || {
                let commands = "ip dhcp off dev eth0; ip addr add 192.168.7.1/24 dev eth0
                    mkdir /tmp/www; seq 200000 > /tmp/www/file
                    nc -l 9000 > /tmp/upload & iperf3 -s -1 > /tmp/measured &
                    httpd -n 1 /tmp/www; wait
                    sha256sum /tmp/www/file /tmp/upload; cat /tmp/measured";
                exec(first, commands, &["--net", &net]).output()
            }
        });
        let net = format!("{hub},model={second_model},mac=52:54:00:00:00:02");
        let commands = "ip dhcp off dev eth0; ip addr add 192.168.7.2/24 dev eth0
            until ping -c 1 -W 1 192.168.7.1 > /dev/null; do sleep 0.2; done
            ping -c 20 -i 0.01 192.168.7.1 | grep loss
            until wget -q -O /tmp/file http://192.168.7.1/file; do sleep 0.2; done
            until nc -N 192.168.7.1 9000 < /tmp/file; do sleep 0.2; done
            until iperf3 -c 192.168.7.1 -t 1; do sleep 0.2; done
            sha256sum /tmp/file";
        let client = exec(second, commands, &["--net", &net]).output();
        let server = server.join().expect("the first machine").expect(0);
        let client = client.expect(0);
        let text = format!("{}\n--- and ---\n{}", server.out(), client.out());
        assert!(client.out().contains(" 0% packet loss"), "{text}");
        let file: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        assert_eq!(text.matches(&sha256(file.as_bytes())).count(), 3, "{text}");
        assert_eq!(text.matches("receiver").count(), 2, "{text}");
    }
}

/// A line that loses, reorders and delays costs time, not bytes; both ways, on each engine.
#[test]
fn a_bad_line_breaks_no_connection() {
    // The guest's sender recovers from a second loss in a window by time-out, of a second at least.
    let data = noise(5, 1 << 17);
    let port = serve(data.clone(), Duration::ZERO);
    for engine in engines("a_bad_line_breaks_no_connection") {
        let model = if engine == "kvm" { "e1000" } else { "virtio" };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let back = listener.local_addr().expect("a port").port();
        let upload = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the guest");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).map(|_| all)
        });
        let net = format!("user,model={model},host-loopback,loss=2%,reorder=5%,delay=10ms,seed=7");
        let commands = format!(
            "wget -q -O /tmp/file http://10.0.2.2:{port}/file || exit 9
             nc -N 10.0.2.2 {back} < /tmp/file || exit 8
             sha256sum /tmp/file"
        );
        let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
        let text = output.out();
        assert!(text.contains(&sha256(&data)), "{engine} {model}: other bytes\n{text}");
        let upload = upload.join().expect("the host").expect("no reset");
        assert!(upload == data, "{engine} {model}: {} other bytes came back", upload.len());
    }
}

/// Echo over UDP through a line that doubles and loses: datagrams come whole or not at all.
#[test]
fn datagrams_over_a_bad_line() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("a port").port();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
    let net = "user,host-loopback,loss=10%,duplicate=20%,reorder=20%,delay=2ms,seed=3";
    let commands = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            echo datagram-$i; sleep 0.05
         done | nc -u -w 1 10.0.2.2 {port}"
    );
    let output = exec("auto", &commands, &["--net", net]).output().expect(0);
    let text = output.out();
    let whole =
        |line: &str| line.strip_prefix("datagram-").is_some_and(|n| n.parse::<u8>().is_ok());
    assert!(text.lines().all(whole) && text.lines().count() >= 8, "{text}");
}
