//! How network cards interrupt, and which of their queues carry what.

use std::collections::BTreeMap;

use tempfile::tempdir;
use xinim_tests::host::arg;
use xinim_tests::machine::{engines, exec};
use xinim_tests::net::iperf_server;

/// A card whose messages are not used interrupts by its pin, through the I/O APIC input that its
/// configuration space names. QEMU's e1000 has nothing else.
#[test]
fn cards_interrupt_by_their_pins() {
    // On KVM only: see the limits in docs/networking.md.
    if !engines("cards_interrupt_by_their_pins").contains(&"kvm") {
        return;
    }
    for model in ["e1000", "e1000e"] {
        let net = format!("user,model={model}");
        let dir = tempdir().expect("directory");
        let trace = dir.path().join("trace");
        let wanted = format!("{},filter=device=e1000.* and (msi or line)", arg(&trace));
        let options = ["--net", net.as_str(), "--cmdline", "pci=nomsi", "--trace", &wanted];
        let commands = "ping -c 20 -i 0.01 10.0.2.2 | grep loss";
        let output = exec("kvm", commands, &options).output().expect(0);
        assert!(output.out().contains(" 0% packet loss"), "{model}: {}", output.out());
        let text = std::fs::read_to_string(&trace).expect("a trace");
        let raised = text.lines().filter(|line| line.contains(" irq ")).count();
        assert!(raised >= 20, "{model}: the pin was raised {raised} times\n{text}");
        assert!(!text.contains(" msi "), "{model}: messages were used\n{text}");
    }
}

/// Connections are spread over the queue pairs of virtio-net, and what is received comes on the pair
/// that its connection is sent on.
#[test]
fn several_queue_pairs_carry_traffic() {
    if !engines("several_queue_pairs_carry_traffic").contains(&"kvm") {
        return;
    }
    let (_server, port) = iperf_server();
    let dir = tempdir().expect("directory");
    let trace = dir.path().join("trace");
    let wanted = format!("{},filter=device=virtio-net.* and push", arg(&trace));
    let commands = format!(
        "sleep 1; iperf3 -c 10.0.2.2 -p {port} -t 1 -P 8 && iperf3 -c 10.0.2.2 -p {port} -t 1 -P 8 -R"
    );
    let options = ["--net", "user,model=virtio,host-loopback", "--trace", &wanted];
    exec("kvm", &commands, &options).output().expect(0);
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let mut pushed: BTreeMap<u32, u32> = BTreeMap::new();
    for line in text.lines() {
        let queue = line.split_whitespace().find_map(|word| word.strip_prefix("queue="));
        if let Some(queue) = queue.and_then(|queue| queue.parse().ok()) {
            *pushed.entry(queue).or_default() += 1;
        }
    }
    let busy =
        |first: u32| (0..8).filter(|pair| pushed.get(&(2 * pair + first)) > Some(&20)).count();
    assert!(busy(0) >= 2, "received on {pushed:?}");
    assert!(busy(1) >= 2, "sent on {pushed:?}");
}

/// What a card could not take in (RXO) is a cause that interrupts once, not for ever.
#[test]
fn interrupts_end_after_a_flood() {
    for engine in engines("interrupts_end_after_a_flood") {
        for model in ["e1000", "e1000e", "virtio"] {
            let (_server, port) = iperf_server();
            let net = format!("user,model={model},host-loopback");
            let commands = format!(
                "sleep 1; iperf3 -c 10.0.2.2 -p {port} -u -R -b 300M -t 1 > /dev/null; sleep 1
                 cat /proc/interrupts; sleep 1; echo later; cat /proc/interrupts"
            );
            let output = exec(engine, &commands, &["--net", &net]).output().expect(0);
            let text = output.out();
            let (before, after) = text.split_once("later\n").expect("both");
            let count = |text: &str| -> u64 {
                let rows =
                    text.lines().map(|line| line.split_whitespace().nth_back(1)?.parse().ok());
                rows.map(|count: Option<u64>| count.unwrap_or(0)).sum()
            };
            assert!(count(before) > 10, "{engine} {model}: nothing came\n{text}");
            let more = count(after) - count(before);
            assert!(more < 100, "{engine} {model}: {more} interrupts in a quiet second\n{text}");
        }
    }
}
