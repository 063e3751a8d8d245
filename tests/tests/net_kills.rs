//! Network drivers and the network server are killed each second while TCP carries all it can: connections live,
//! bytes are equal, and what it costs is printed (`--nocapture`). `XINIM_LONG=n` for n times as long, and files
//! of 100 MiB; docs/networking.md has figures.

use std::time::Duration;

use xinim_tests::host::noise;
use xinim_tests::machine::{engines, exec};
use xinim_tests::net::{iperf_server, serve, sha256};

/// Seconds of one measurement.
const SECONDS: u32 = 3;

/// Model, and who is killed.
const VICTIMS: [(&str, &str); 4] =
    [("virtio", "virtio-net"), ("e1000", "e1000"), ("e1000e", "e1000"), ("virtio", "net")];

/// Seconds between deaths. QEMU's 82540EM takes no frame in for a second after RCTL was written, which a
/// driver that starts must do: killed each second, it would never hear anything.
fn period(engine: &str, model: &str) -> u32 {
    if engine == "qemu" && model == "e1000" { 3 } else { 1 }
}

fn long() -> Option<u32> {
    std::env::var("XINIM_LONG").ok().and_then(|text| text.parse().ok())
}

/// Bits a second that arrived, of iperf3's JSON.
fn rates(text: &str) -> Vec<f64> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let reports = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    reports.filter_map(|json| json["end"]["sum_received"]["bits_per_second"].as_f64()).collect()
}

/// Microseconds between death and the next instance, from `service history`.
fn down_times(text: &str, label: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.split_whitespace().nth(1) == Some(label));
    let mut times: Vec<u64> =
        lines.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
    times.sort_unstable();
    times
}

/// Kills the service each `period` seconds until /tmp/done is there.
fn killer(label: &str, period: u32) -> String {
    format!(
        "rm -f /tmp/done
         (while [ ! -f /tmp/done ]; do sleep {period}; service kill {label}; done) &"
    )
}

#[test]
fn a_transfer_outlives_who_carries_it() {
    let size = if long().is_some() { 100 << 20 } else { 8 << 20 };
    let data = noise(2, size);
    for engine in engines("kills during a transfer") {
        for (model, victim) in VICTIMS {
            let period = period(engine, model);
            // The short one is held back to last for some deaths.
            let pause = if long().is_some() { 0 } else { 30 * u64::from(period) };
            let port = serve(data.clone(), Duration::from_millis(pause));
            let net = format!("user,model={model},host-loopback");
            let commands = format!(
                "{}
                 wget -q -O - http://10.0.2.2:{port}/file | sha256sum; touch /tmp/done; wait
                 service history",
                killer(victim, period)
            );
            let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
            let text = output.out();
            assert!(
                text.contains(&sha256(&data)),
                "{engine} {model} {victim}: other bytes\n{text}{}",
                output.err()
            );
            let times = down_times(&text, victim);
            assert!(
                times.len() >= 2,
                "{engine} {model} {victim}: died {} times\n{text}",
                times.len()
            );
        }
    }
}

#[test]
fn iperf3_goes_on_while_who_carries_it_dies_each_second() {
    for engine in engines("kills during iperf3") {
        for (model, victim) in VICTIMS {
            let period = period(engine, model);
            let seconds = SECONDS * period * long().unwrap_or(1);
            let (_server, port) = iperf_server();
            let iperf = format!("iperf3 -c 10.0.2.2 -p {port} -t {seconds} -J");
            // Without and with deaths, in turn, so that both see the same host.
            let one = |how: &str| {
                format!(
                    "{iperf} {how} || exit 9; sleep 0.5; {}
                     {iperf} {how} || exit 8; touch /tmp/done; wait; sleep 0.5\n",
                    killer(victim, period)
                )
            };
            let commands = format!("sleep 1; {}{}service history", one(""), one("-R"));
            let net = format!("user,model={model},host-loopback");
            let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
            let text = output.out();
            let rates = rates(&text);
            let [send, send_killed, receive, receive_killed] = rates[..] else {
                panic!("{engine} {model} {victim}: {rates:?}\n{text}");
            };
            let times = down_times(&text, victim);
            println!(
                "{engine} {model} {victim}: sending {:.0} %, receiving {:.0} % of {:.0} and {:.0} Mbit/s; \
                 {} deaths, down for {} us (median), {} us (most)",
                send_killed / send * 100.0,
                receive_killed / receive * 100.0,
                send / 1e6,
                receive / 1e6,
                times.len(),
                times[times.len() / 2],
                times[times.len() - 1],
            );
            assert!(
                times.len() >= 4,
                "{engine} {model} {victim}: died {} times\n{text}",
                times.len()
            );
            // No time-outs of TCP, which are a second at least: some of each second is left on a host
            // that is busy, too.
            for (what, killed, alone) in
                [("sending", send_killed, send), ("receiving", receive_killed, receive)]
            {
                assert!(
                    killed > alone / 10.0,
                    "{engine} {model} {victim}, {what}: {killed} of {alone} bit/s"
                );
            }
        }
    }
}

/// Nobody is told of deaths of the network server, also who was about to introduce itself to an instance that
/// died.
#[test]
fn a_program_outlives_any_number_of_network_servers() {
    let data = noise(3, 20_000);
    let sum = sha256(&data);
    let port = serve(data, Duration::ZERO);
    for engine in engines("network servers killed in quick succession") {
        let commands = format!(
            "until ping -c 1 -W 1 10.0.2.2 > /dev/null; do true; done
             for i in 1 2 3 4 5 6; do
                 fetchload 10.0.2.2 {port} /f > /tmp/f$i < /dev/null & ids=\"$ids $!\"
             done
             sleep 0.5; n=0
             while [ $n -lt 12 ]; do
                 n=$((n + 1)); echo kill net; echo wait 10; echo kill net; echo wait 17
             done | service batch
             sleep 5; kill $ids; wait
             echo told $(cat /tmp/f? | grep -v ' 0 {sum}' | grep -c ' ')
             for i in 1 2 3 4 5 6; do grep ' ' /tmp/f$i | tail -1; done
             service history net | wc -l"
        );
        let net = "user,model=virtio,host-loopback";
        let output = exec(engine, &commands, &["--net", net]).output().expect(0);
        let text = output.out();
        assert!(text.ends_with("\n25\n"), "{engine}: 24 deaths and a title\n{text}");
        assert!(text.starts_with("told 0\n"), "{engine}: some were told of an error\n{text}");
        let whole = text.lines().filter(|line| line.ends_with(&format!(" 0 {sum}")));
        assert_eq!(whole.count(), 6, "{engine}: everybody is served\n{text}");
    }
}
