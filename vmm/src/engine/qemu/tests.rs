//! Machines of a few instructions under the real QEMU (when it is installed).

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Instant;

use xinim_machine::Stopper;

use super::*;
use crate::testing::{HANG, guest, out8, out32, print, serial};

const DEBUGCON: u16 = 0xE9;
const EXIT: u16 = 0xF4;

fn engine() -> Option<QemuEngine> {
    let program = locate::find();
    if program.is_none() {
        eprintln!("QEMU is not installed: nothing tried");
    }
    Some(QemuEngine { program: program?, options: QemuOptions::default() })
}

fn spec(code: &[Vec<u8>]) -> MachineSpec {
    MachineSpec {
        memory: 64 << 20,
        cpus: 1,
        kernel: guest(&code.concat()).into(),
        bundle: None,
        cmdline: String::new(),
        disks: vec![],
        hotplug: false,
        nets: vec![],
        cpuid: vec![],
        traces: Vec::new(),
        ..MachineSpec::default()
    }
}

struct Ran {
    result: Result<Outcome, EngineError>,
    console: String,
    debug: String,
}

impl Ran {
    fn end(&self) -> &End {
        &self.result.as_ref().expect("runs").end
    }
}

/// Runs a machine that gets `typed` on its console.
fn run_typing(spec: &MachineSpec, typed: &[u8]) -> Option<Ran> {
    let engine = engine()?;
    let (console_in, mut keyboard) = io::pipe().unwrap();
    let (mut console, console_out) = io::pipe().unwrap();
    let (mut debug, debug_out) = io::pipe().unwrap();
    keyboard.write_all(typed).unwrap();
    let io = HostIo {
        console_in: Some(console_in.into()),
        console_out: Some(console_out.into()),
        host_link: None,
        debug_out: Some(debug_out.into()),
        stop: Stopper::default(),
        ..HostIo::default()
    };
    let result = engine.run(spec, io);
    let mut ran = Ran { result, console: String::new(), debug: String::new() };
    console.read_to_string(&mut ran.console).unwrap();
    debug.read_to_string(&mut ran.debug).unwrap();
    Some(ran)
}

fn run(code: &[Vec<u8>]) -> Option<Ran> {
    run_typing(&spec(code), b"")
}

#[test]
fn the_exit_device_ends_it() {
    for (value, end) in
        [(EXIT_POWEROFF, End::PowerOff), (EXIT_REBOOT, End::Reboot), (3, End::ExitDevice(3))]
    {
        let Some(ran) = run(&[out32(EXIT, value)]) else { return };
        assert_eq!(ran.end(), &end);
    }
}

#[test]
fn console_and_debug_console_come_through() {
    let text = "all of it ".repeat(50);
    let code = [serial(text.as_bytes()), print(DEBUGCON, b"oh no"), out32(EXIT, EXIT_PANIC)];
    let Some(ran) = run(&code) else { return };
    assert_eq!((ran.console, ran.debug.as_str()), (text, "oh no"));
    assert!(matches!(&ran.result.unwrap().end, End::Died(death) if death.reason.contains("panic")));
}

#[test]
fn what_is_typed_reaches_the_serial_port() {
    #[rustfmt::skip]
    let echo_five: Vec<u8> = vec![
        0xB9, 5, 0, 0, 0,             // mov ecx, 5
        0x66, 0xBA, 0xFD, 0x03,       // 1: mov dx, 0x3FD (line status)
        0xEC, 0xA8, 0x01, 0x74, 0xFB, // 2: in al, dx; test al, 1; jz 2b
        0x66, 0xBA, 0xF8, 0x03,       //    mov dx, 0x3F8
        0xEC, 0xEE,                   //    in al, dx; out dx, al
        0xE2, 0xEF,                   //    loop 1b
    ];
    let spec = spec(&[echo_five, out32(EXIT, EXIT_POWEROFF)]);
    let Some(ran) = run_typing(&spec, b"hello") else { return };
    assert_eq!((ran.end(), ran.console.as_str()), (&End::PowerOff, "hello"));
}

#[test]
fn acpi_power_off_and_reset_are_told_apart() {
    // SLP_EN with QEMU's SLP_TYP of S5, which is 0.
    let power_off = vec![0x66, 0xBA, 0x04, 0x06, 0x66, 0xB8, 0x00, 0x20, 0x66, 0xEF];
    let Some(ran) = run(&[power_off, HANG.into()]) else { return };
    assert_eq!(ran.end(), &End::PowerOff);
    let Some(ran) = run(&[out8(0xCF9, 6), HANG.into()]) else { return };
    assert_eq!(ran.end(), &End::Reboot);
}

#[test]
fn a_triple_fault_shows_registers_and_instruction() {
    #[rustfmt::skip]
    let fault = vec![
        0xB8, 0xEF, 0xBE, 0xAD, 0xDE, // mov eax, 0xDEADBEEF
        0x6A, 0x00, 0x6A, 0x00,       // push 0; push 0
        0x0F, 0x01, 0x1C, 0x24,       // lidt [esp]
        0x0F, 0x0B,                   // ud2
    ];
    let stack = vec![0xBC, 0x00, 0x00, 0x20, 0x00]; // mov esp, 2 MiB
    let Some(ran) = run(&[stack, fault]) else { return };
    let End::Died(death) = ran.end() else { panic!("{:?}", ran.end()) };
    assert_eq!(death.reason, "triple fault");
    assert!(death.report.contains("EAX=deadbeef"), "{}", death.report);
    assert!(death.report.contains("EIP=00100012"), "{}", death.report);
    assert!(death.report.contains("0x0f 0x0b"), "{}", death.report);
}

#[test]
fn a_hanging_guest_can_be_stopped_and_says_where_it_was() {
    let Some(engine) = engine() else { return };
    let (mut debug, debug_out) = io::pipe().unwrap();
    let stop = Stopper::default();
    let io = HostIo {
        console_in: None,
        console_out: None,
        host_link: None,
        debug_out: Some(debug_out.into()),
        stop: stop.clone(),
        ..HostIo::default()
    };
    let (sender, stopped_at) = mpsc::channel();
    std::thread::spawn(move || {
        // The guest is there once it has said so.
        debug.read_exact(&mut [0]).unwrap();
        sender.send(Instant::now()).unwrap();
        stop.stop();
    });
    let outcome = engine.run(&spec(&[print(DEBUGCON, b"x"), HANG.into()]), io).unwrap();
    assert!(stopped_at.recv().unwrap().elapsed() < Duration::from_secs(1));
    assert_eq!(outcome.end, End::Stopped);
    assert_eq!(outcome.stats.stopped_at.as_deref(), Some("cpu 0: rip=0x100007 ring=0\n"));
}

#[test]
fn a_stop_before_the_start_counts() {
    let Some(engine) = engine() else { return };
    let stop = Stopper::default();
    stop.stop();
    let io = HostIo {
        console_in: None,
        console_out: None,
        host_link: None,
        debug_out: None,
        stop,
        ..HostIo::default()
    };
    assert_eq!(engine.run(&spec(&[HANG.into()]), io).unwrap().end, End::Stopped);
}

#[test]
fn what_qemu_refuses_is_said() {
    let mut spec = spec(&[HANG.into()]);
    spec.cpuid = "-nosuchthing".parse::<crate::spec::Cpuid>().unwrap().0;
    let Some(ran) = run_typing(&spec, b"") else { return };
    let error = ran.result.unwrap_err();
    assert!(matches!(error, EngineError::Machine(_)));
    assert!(error.to_string().contains("nosuchthing"), "{error}");
}

#[test]
fn disks_and_host_link_are_plugged_in() {
    let Some(engine) = engine() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a, \"b\".img");
    std::fs::write(&path, [0; 4096]).unwrap();
    let mut spec = spec(&[out32(EXIT, EXIT_POWEROFF)]);
    spec.disks =
        vec![xinim_machine::DiskSpec { read_only: true, ..xinim_machine::DiskSpec::file(path) }];
    let trace = xinim_machine::trace::TraceSpec::text(dir.path().join("trace"));
    spec.traces = vec![trace];
    let (ours, theirs) = UnixStream::pair().unwrap();
    let io = HostIo {
        console_in: None,
        console_out: None,
        host_link: Some(theirs.into()),
        debug_out: None,
        stop: Stopper::default(),
        ..HostIo::default()
    };
    assert_eq!(engine.run(&spec, io).unwrap().end, End::PowerOff);
    assert_eq!((&ours).read(&mut [0]).unwrap(), 0, "closed with the machine");
    let trace = std::fs::read_to_string(dir.path().join("trace")).unwrap();
    assert!(trace.contains("pci_cfg_read"), "the firmware looks at the bus");
}

#[test]
fn statuses_of_qemu_itself() {
    let status = |raw| std::process::ExitStatus::from_raw(raw);
    let refused = end_of_status(status(1 << 8), "qemu-system-x86_64: no such thing\n").unwrap_err();
    assert_eq!(refused.to_string(), "QEMU refuses this machine: no such thing");
    assert_eq!(end_of_status(status(1 << 8), "").unwrap(), End::ExitDevice(0));
    assert_eq!(end_of_status(status(33 << 8), "").unwrap(), End::PowerOff);
    assert!(end_of_status(status(11), "").unwrap_err().to_string().contains("signal 11"));
    assert!(end_of_status(status(2 << 8), "x").unwrap_err().to_string().contains("status 2"));
}
