//! The guest's view of its devices, and the host's ends of them.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use common::{BASE, Code, connections, kvm_usable, outcome, run, start};
use tempfile::TempDir;
use xinim_machine::{DiskSpec, End, EngineError, MachineSpec};

/// Selects a configuration register of bus 0 and reads it into eax.
fn config(code: Code, device: u32, register: u32) -> Code {
    code.out32(0xCF8, 1 << 31 | device << 11 | register).in32(0xCFC)
}

fn with_disk(mut spec: MachineSpec, directory: &TempDir, read_only: bool) -> MachineSpec {
    let path = directory.path().join("disk.img");
    if !path.exists() {
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
    }
    spec.disks.push(DiskSpec { read_only, ..DiskSpec::file(path) });
    spec
}

#[test]
fn the_functions_are_where_they_belong() {
    if !kvm_usable() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let mut code = Code::new();
    for device in 0..4 {
        code = config(code, device, 0).print_eax();
    }
    // The same register of the disk through the memory-mapped window: mov eax, [address]
    let ecam = 0xB000_0000u32 + (2 << 15);
    code = code.bytes(&[0xA1]).bytes(&ecam.to_le_bytes()).print_eax();
    let spec = with_disk(code.exit(0x10).spec(), &directory, false);
    let (_, debug) = outcome(&spec);
    let ids: Vec<[u8; 4]> = debug.chunks(4).map(|id| id.try_into().unwrap()).collect();
    assert_eq!(
        ids,
        [
            [0x86, 0x80, 0xC0, 0x29], // host bridge
            [0xF4, 0x1A, 0x43, 0x10], // virtio-console
            [0xF4, 0x1A, 0x42, 0x10], // virtio-blk
            [0xFF; 4],
            [0xF4, 0x1A, 0x42, 0x10],
        ]
    );
}

#[test]
fn a_second_machine_on_a_writable_image_is_refused() {
    if !kvm_usable() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let spec = with_disk(Code::new().hang().spec(), &directory, false);
    let (host, io) = connections();
    let first = start(spec.clone(), io);
    std::thread::sleep(Duration::from_millis(200));
    for read_only in [false, true] {
        let second = with_disk(Code::new().exit(0x10).spec(), &directory, read_only);
        match run(&second).0 {
            Err(EngineError::Machine(message)) => {
                assert!(message.contains("in use") && message.contains("disk.img"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    host.stop.stop();
    first.join().unwrap().unwrap();
    let again = with_disk(Code::new().exit(0x10).spec(), &directory, false);
    assert_eq!(outcome(&again).0.end, End::PowerOff);
}

#[test]
fn command_line_and_bundle_reach_the_guest() {
    if !kvm_usable() {
        return;
    }
    let code = Code::new()
        .bytes(&[0x8B, 0x73, 0x18]) // mov esi, [ebx + 24]: command line
        .bytes(&[0x8A, 0x06]) // 1: mov al, [esi]
        .out_al(0xE9)
        .bytes(&[0x46]) // inc esi
        .bytes(&[0x84, 0xC0]) // test al, al
        .bytes(&[0x75, 0xF4]) // jnz 1b
        .bytes(&[0x8B, 0x7B, 0x10]) // mov edi, [ebx + 16]: modules
        .bytes(&[0x8B, 0x3F]) // mov edi, [edi]: address of the first
        .bytes(&[0x8B, 0x07]) // mov eax, [edi]
        .print_eax()
        .exit(0x10);
    let mut spec = code.spec();
    spec.cmdline = "mode=exec".into();
    spec.bundle = Some(b"0707".as_slice().into());
    // The engine adds that its memory is fresh.
    assert_eq!(outcome(&spec).1, b"mode=exec ram=zeroed\x000707");
}

#[test]
fn the_console_speaks_both_ways() {
    if !kvm_usable() {
        return;
    }
    // Echoes with the fifth bit of each character turned over, until a Q.
    let code = Code::new()
        .in8(0x3FD) // 1: line status
        .bytes(&[0xA8, 0x01, 0x74, 0xF7]) // test al, 1; jz 1b
        .in8(0x3F8)
        .bytes(&[0x34, 0x20]) // xor al, 0x20
        .out_al(0x3F8)
        .bytes(&[0x3C, 0x71]) // cmp al, 'q'
        .bytes(&[0x75, 0xE7]) // jne 1b
        .exit(0x10);
    let (mut host, io) = connections();
    let machine = start(code.spec(), io);
    host.console.write_all(b"hello").unwrap();
    let mut reply = [0; 5];
    host.console.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"HELLO");
    host.console.write_all(b"Q").unwrap();
    assert_eq!(machine.join().unwrap().unwrap().end, End::PowerOff);
    let mut rest = Vec::new();
    host.console.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"q");
}

#[test]
fn a_slow_reader_loses_nothing() {
    if !kvm_usable() {
        return;
    }
    // 100,000 bytes to the debug console, whose pipe holds 64 KiB, then the end at once:
    // mov ecx, 100000; 1: mov al, cl; out 0xE9, al; dec ecx; jnz 1b
    let code = Code::new()
        .bytes(&[0xB9])
        .bytes(&100_000u32.to_le_bytes())
        .bytes(&[0x88, 0xC8, 0xE6, 0xE9, 0x49, 0x75, 0xF9])
        .exit(0x10);
    let (mut host, io) = connections();
    let machine = start(code.spec(), io);
    let mut received = Vec::new();
    let mut chunk = [0; 10_000];
    loop {
        std::thread::sleep(Duration::from_millis(30));
        match host.debug.read(&mut chunk).unwrap() {
            0 => break,
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
    assert_eq!(machine.join().unwrap().unwrap().end, End::PowerOff);
    let expected: Vec<u8> = (1..=100_000u32).rev().map(|value| value as u8).collect();
    assert!(received == expected, "{} bytes", received.len());
}

#[test]
fn a_second_processor_starts_by_init_and_sipi() {
    if !kvm_usable() {
        return;
    }
    // Linked at 0x8000, where the start-up interrupt sends the second processor (real mode):
    // mov al, 'B'; out 0xE9, al; inc byte [0x9000]; hlt
    let mut code = vec![0xB0, b'B', 0xE6, 0xE9, 0xFE, 0x06, 0x00, 0x90, 0xF4, 0xEB, 0xFD];
    code.resize(0x100, 0x90);
    let boot = Code::new()
        .print("A")
        .store(0xFEE0_00F0, 0x1FF) // spurious vector 255, APIC on
        .store(0xFEE0_0310, 1 << 24) // destination: APIC 1
        .store(0xFEE0_0300, 0x4500) // INIT
        .store(0xFEE0_0300, 0x4608) // start-up at page 8
        .bytes(&[0xA0, 0x00, 0x90, 0x00, 0x00]) // 1: mov al, [0x9000]
        .bytes(&[0x84, 0xC0, 0x74, 0xF7]) // test al, al; jz 1b
        .print("C")
        .exit(0x10);
    code.extend(boot.0);
    let mut spec = Code::new().spec();
    spec.cpus = 2;
    spec.kernel =
        common::image::elf_image(0x8000, &code, Some(&common::image::xen_note(0x8100))).into();
    let (outcome, debug) = outcome(&spec);
    assert_eq!(String::from_utf8_lossy(&debug), "ABC");
    assert_eq!(outcome.end, End::PowerOff);
}

#[test]
fn the_frequency_leaf_is_visible() {
    if !kvm_usable() {
        return;
    }
    // mov eax, leaf; cpuid
    let leaf =
        |code: Code, leaf: u32| code.bytes(&[0xB8]).bytes(&leaf.to_le_bytes()).bytes(&[0x0F, 0xA2]);
    let code = leaf(Code::new(), 0x4000_0000).print_eax();
    let code = leaf(code, 0x4000_0010).bytes(&[0x89, 0xD8]).print_eax(); // mov eax, ebx
    let (_, debug) = outcome(&code.exit(0x10).spec());
    let word = |at: usize| u32::from_le_bytes(debug[at..at + 4].try_into().unwrap());
    assert!(word(0) >= 0x4000_0010);
    assert_eq!(word(4), 1_000_000);
}

#[test]
fn the_trace_names_devices_and_registers() {
    if !kvm_usable() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("trace.txt");
    let code = config(Code::new().out8(0x3F8, b'T'), 0, 0).bytes(&[0x0F, 0x0B]);
    let mut spec = code.spec();
    spec.traces = vec![xinim_machine::trace::TraceSpec::text(&path)];
    // Dies, and the trace is complete all the same.
    assert!(matches!(outcome(&spec).0.end, End::Died(_)));
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.contains("com1")).unwrap();
    println!("{text}");
    assert!(line.contains("THR") && line.contains("54"), "{line}");
    // KVM may have completed the instruction already.
    let at = |rip: u64| line.contains(&format!("rip={rip:#x}"));
    assert!(at(BASE + 6) || at(BASE + 7), "no rip in {line}");
}

#[test]
fn hostile_accesses_harm_nobody() {
    if !kvm_usable() {
        return;
    }
    let mut code = Code::new();
    // Odd ports, wide accesses to narrow devices, addresses nobody has.
    for port in [0u16, 0x3F, 0x60, 0x70, 0xCFB, 0xCFF, 0x3F7, 0x3FF, 0x5FE, 0xFFFD] {
        code = code.out32(port, 0xA5A5_A5A1).in32(port).out16(port + 1, 0xFFFF);
    }
    for address in [0xAFFF_FFFEu32, 0xBFFF_FFFE, 0xC000_0001, 0xE000_0000, 0xFED0_0000] {
        code = code.store(address, 0xDEAD_BEEF).bytes(&[0xA1]).bytes(&address.to_le_bytes());
    }
    let (outcome, debug) = outcome(&code.print("alive").exit(0x10).spec());
    assert_eq!(outcome.end, End::PowerOff);
    assert_eq!(debug, b"alive");
}
