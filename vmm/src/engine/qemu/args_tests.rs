use std::process::Command;

use super::*;
use proptest::prelude::*;

fn spec() -> MachineSpec {
    MachineSpec {
        memory: 256 << 20,
        cpus: 2,
        kernel: bytes::Bytes::new(),
        bundle: None,
        cmdline: "mode=exec a='b c'".into(),
        disks: vec![
            "one.img".parse::<crate::spec::Disk>().unwrap().0,
            "a,,b \"c\".img,ro".parse::<crate::spec::Disk>().unwrap().0,
        ],
        hotplug: false,
        nets: vec!["user,model=e1000".parse::<crate::net_spec::Net>().unwrap().finish(0)],
        cpuid: "-cx16,+avx".parse::<crate::spec::Cpuid>().unwrap().0,
        traces: Vec::new(),
        ..MachineSpec::default()
    }
}

fn outside() -> Outside {
    Outside {
        options: QemuOptions::default(),
        kernel: "/k".into(),
        bundle: Some("/b".into()),
        com1: "null,id=com1".into(),
        debug: socket_chardev("debug", 7),
        link: Some(socket_chardev("link", 8)),
        netdevs: vec![net::stream_netdev(0, 11)],
        qmp: Some(socket_chardev("qmp", 9)),
        control: None,
        log: Some("/proc/self/fd/10".into()),
    }
}

fn has(args: &[String], option: &str, value: &str) -> bool {
    args.windows(2).any(|pair| pair[0] == option && pair[1] == value)
}

#[test]
fn an_iommu_has_every_virtio_device_behind_it() {
    let args = arguments(&MachineSpec { iommu: true, ..spec() }, &outside());
    assert!(has(&args, "-device", "virtio-iommu-pci,id=iommu,addr=1e.0"), "{args:?}");
    let devices = args.windows(2).filter(|pair| pair[0] == "-device" && pair[1].contains("-pci"));
    for pair in devices.filter(|pair| !pair[1].contains("iommu-pci")) {
        assert!(pair[1].contains("iommu_platform=on"), "{pair:?}");
    }
}

#[test]
fn the_machine_is_translated() {
    let args = arguments(&spec(), &outside());
    for (option, value) in [
        ("-machine", "q35"),
        ("-accel", "tcg"),
        ("-cpu", "max,cx16=off,avx=on"),
        ("-m", "256M"),
        ("-smp", "2"),
        ("-kernel", "/k"),
        ("-initrd", "/b"),
        ("-append", "mode=exec a='b c'"),
        ("-chardev", "socket,id=debug,fd=7"),
        ("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        ("-device", "isa-debugcon,iobase=0xe9,chardev=debug"),
        ("-device", "virtio-serial-pci,disable-legacy=on,max_ports=2"),
        ("-action", "reboot=shutdown,shutdown=pause,panic=pause"),
        ("-d", "cpu_reset"),
        ("-netdev", "stream,id=net0,server=off,addr.type=fd,addr.str=11"),
        ("-device", "e1000,netdev=net0,id=nic0,mac=52:54:00:58:4e:00"),
    ] {
        assert!(has(&args, option, value), "{option} {value} in {args:?}");
    }
    let disks: Vec<serde_json::Value> = args
        .windows(2)
        .filter(|pair| pair[0] == "-blockdev")
        .map(|pair| serde_json::from_str(&pair[1]).unwrap())
        .collect();
    assert_eq!(disks[0]["file"]["filename"], "one.img");
    assert_eq!(disks[0]["read-only"], false);
    assert_eq!(disks[1]["file"]["filename"], "a,b \"c\".img");
    assert_eq!(disks[1]["read-only"], true);
    assert_eq!(disks[1]["file"]["locking"], "on");
}

#[test]
fn without_a_monitor_qemu_ends_by_itself() {
    let args = arguments(&spec(), &Outside { qmp: None, link: None, log: None, ..outside() });
    assert!(args.contains(&"-no-reboot".to_owned()));
    assert!(!args.iter().any(|arg| arg.contains("virtio-serial")));
    assert!(!args.contains(&"-D".to_owned()));
}

#[test]
fn a_trace_is_qemus_own_events() {
    let mut traced = spec();
    traced.traces = vec![xinim_machine::trace::TraceSpec::text("t")];
    let args = arguments(&traced, &outside());
    assert!(has(&args, "-trace", "pci_cfg_write"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_shell_reads_back_what_was_quoted(word in "[^\0]{0,20}") {
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("printf %s {}", shell_quote(&word)))
            .output()
            .unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}
