//! The network in the guest, on both engines and every device: addresses, files, servers, measuring. The other
//! end is this process, or the host's own iperf3.

use std::io::Read;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use xinim_tests::host::noise;
use xinim_tests::machine::{engines, exec};
use xinim_tests::net::{PATIENCE, fetch, free_port, iperf_server, serve, serve_at, sha256};

const MODELS: [&str; 4] = ["virtio", "e1000", "e1000-82545em", "e1000e"];
#[test]
fn an_address_a_name_and_a_file_over_every_device() {
    let data = noise(1, 1 << 20);
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
            assert!(text.contains(&sha256(&data)), "{engine} {model}: other bytes\n{text}");
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

/// A server that ends with its last answer, and the machine with it: what is still under way arrives.
#[test]
fn the_last_answer_is_whole() {
    for engine in engines("the last answer") {
        let port = free_port();
        let net = format!("user,publish={port}:80,delay=100ms");
        let commands = "mkdir /tmp/www; seq 1 20000 > /tmp/www/numbers; httpd -n 1 /tmp/www";
        let mut guest = exec(engine, commands, &["--net", &net]).spawn();
        let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
        let start = Instant::now();
        // Until the server is there, the gateway takes connections and ends them.
        let body = loop {
            assert!(start.elapsed() < PATIENCE, "{engine}: no answer");
            match fetch(port, "/numbers") {
                Some(body) => break body,
                None => thread::sleep(Duration::from_millis(50)),
            }
        };
        assert!(body == expected, "{engine}: {} of {} bytes", body.len(), expected.len());
        assert_eq!(guest.wait().unwrap().code(), Some(0), "{engine}");
    }
}

/// The same network by IPv6: an address by the router, pings, and bytes both ways to the host's ::1.
#[test]
fn ipv6_through_the_gateway() {
    let data = noise(3, 3 << 19);
    for engine in engines("ipv6_through_the_gateway") {
        for model in ["virtio", "e1000"] {
            let listener = TcpListener::bind("[::1]:0").expect("a host with ::1");
            let port = listener.local_addr().expect("a port").port();
            let (down, up) = (
                data.clone(),
                thread::spawn(move || {
                    let (mut stream, _) = listener.accept().expect("the guest");
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).map(|_| all)
                }),
            );
            let http = serve_at("[::1]:0", down, Duration::ZERO);
            let net = format!("user,model={model},host-loopback");
            let commands = format!(
                "until ip | grep -q fd58; do sleep 0.1; done
                 ping -6 -c 2 -i 0.1 fd58:494e:494d::2 | grep loss
                 wget -q -O /tmp/file 'http://[fd58:494e:494d::2]:{http}/file' || exit 9
                 sha256sum /tmp/file; nc -N fd58:494e:494d::2 {port} < /tmp/file || exit 8"
            );
            let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
            let text = output.out();
            assert!(text.contains(" 0% packet loss"), "{engine} {model}: {text}");
            assert!(text.contains(&sha256(&data)), "{engine} {model}: other bytes\n{text}");
            let back = up.join().expect("the host").expect("no reset");
            assert!(back == data, "{engine} {model}: {} other bytes came back", back.len());
        }
    }
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

/// Interfaces, frames of others and low ports are root's; the rest of the network is everybody's.
#[test]
fn what_only_root_may_do() {
    let commands = "
        su user -c 'ip addr add 10.9.9.9/24 dev eth0'; echo $?
        su user -c 'ip link set eth0 down'; echo $?
        su user -c 'ip route del default'; echo $?
        su user -c 'tcpdump -i eth0 -c 1 -t 1'; echo $?
        su user -c 'httpd -p 80 -n 1 /tmp'; echo $?
        su user -c 'ping -c 1 10.0.2.2 > /dev/null && ip > /dev/null && netstat > /dev/null'; echo $?
        ping -c 1 10.0.2.2 > /dev/null; ip addr add 10.9.9.9/24 dev eth0; echo $?
        ip | grep -c 10.9.9.9; tcpdump -i eth0 -t 0; echo $?";
    for engine in engines("what_only_root_may_do") {
        let output = exec(engine, commands, &["--net", "user"]).output().expect(0);
        let (out, err) = (output.out(), output.err());
        assert_eq!(out, "1\n1\n1\n1\n1\n0\n0\n1\n0\n", "{engine}: {err}");
        for sentence in [
            "ip: only root may change the configuration",
            "tcpdump: only root may capture frames",
            "httpd: port 80: permission denied",
        ] {
            assert!(err.contains(sentence), "{engine}: no '{sentence}' in\n{err}");
        }
    }
}

/// What POSIX promises of sockets, on both engines, also where servers run beside the program that asks them;
/// no network device is needed.
#[test]
fn posix_behaviours_of_sockets() {
    for engine in engines("posix_behaviours_of_sockets") {
        for cpus in ["1", "4"] {
            let output = exec(engine, "posixtest -s /tmp; echo $?", &["--cpus", cpus]).output();
            let output = output.expect(0).out();
            let what = format!("{engine}, {cpus} CPUs\n{output}");
            assert!(output.ends_with("\n0\n") && !output.contains("FAILED"), "{what}");
            let ok = output.lines().filter(|line| line.starts_with("ok ")).count();
            assert!(ok >= 40, "{ok} checks only: {what}");
        }
    }
}

/// Addresses, leases, routes and name servers outlive the network server, whoever dies with it.
#[test]
fn the_configuration_outlives_the_network_server() {
    for engine in engines("the_configuration_outlives_the_network_server") {
        let commands = "until ping -c 1 -W 1 10.0.2.2 > /dev/null; do true; done
            until [ $(ip addr | grep -c dhcp) = 2 ]; do sleep 0.1; done
            ip dhcp off dev eth1; ip addr add 192.168.7.1/24 dev eth1; ip addr add fd07::1/64 dev eth1
            ip route add 10.9.0.0/16 via 192.168.7.2; ip addr add 10.0.2.77/24 dev eth0
            ip dns set 10.0.2.3 fd00::9
            all() { ip addr | grep -e static -e dhcp -e eth; ip route | grep via; ip dns; }
            all > /tmp/before; grep -c -e static -e dhcp /tmp/before
            service kill net; all > /tmp/after; cmp /tmp/before /tmp/after && echo alone
            service kill virtio-net; service kill net; service kill e1000; sleep 0.5
            all > /tmp/after; cmp /tmp/before /tmp/after && echo together
            service restart net; all > /tmp/after; cmp /tmp/before /tmp/after && echo orderly
            service kill net; ping -c 1 -W 1 10.0.2.2 > /dev/null && echo at once";
        let nets = ["--net", "user,model=virtio", "--net", "user,model=e1000"];
        let output = exec(engine, commands, &nets).output().expect(0);
        assert_eq!(
            output.out(),
            "5\nalone\ntogether\norderly\nat once\n",
            "{engine}: {}",
            output.err()
        );
    }
}
