//! A driver in a few instructions: a buffer goes to the host link by doorbell, and its completion
//! comes back as an MSI-X interrupt.

mod common;

use std::io::{Read, Write};

use common::{BASE, Code, connections, kvm_usable, start};
use xinim_machine::{End, MachineSpec, Outcome};

/// The console's function, its registers and its MSI-X table, as the engine assigns them.
const FUNCTION: u32 = 1;
const REGISTERS: u32 = 0xC000_0000;
const DOORBELLS: u32 = REGISTERS + 0x3000;
const MSIX_TABLE: u32 = 0xC000_4000;
const TRANSMIT: u16 = 1;
const VECTOR: usize = 0x40;

/// Where the parts of the image lie, from [`BASE`] on.
const HANDLER: usize = 0x2000;
const IDT: usize = 0x3000;
const IDT_POINTER: usize = 0x3800;
const DESCRIPTORS: usize = 0x4000;
const AVAILABLE: usize = 0x5000;
const USED: usize = 0x6000;
const BUFFER: usize = 0x7000;
const END: usize = 0x8000;

const MESSAGE: &[u8] = b"ping";

fn address(offset: usize) -> u32 {
    BASE as u32 + offset as u32
}

/// Offset of the MSI-X capability in configuration space, found by a guest that prints the space.
fn msix_capability() -> u32 {
    let mut code = Code::new();
    for register in (0..256).step_by(4) {
        code = code.out32(0xCF8, 1 << 31 | FUNCTION << 11 | register).in32(0xCFC).print_eax();
    }
    let (_, space) = common::outcome(&code.exit(0x10).spec());
    let mut at = usize::from(space[0x34]);
    for _ in 0..48 {
        if space[at] == 0x11 {
            return at as u32;
        }
        at = usize::from(space[at + 1]);
    }
    panic!("no MSI-X capability");
}

fn configure(code: Code, register: u32, value: u32) -> Code {
    code.out32(0xCF8, 1 << 31 | FUNCTION << 11 | register).out32(0xCFC, value)
}

fn driver() -> Code {
    let register = |offset: u32| REGISTERS + offset;
    let mut code = configure(Code::new(), 0x04, 6); // memory decoding, bus mastering
    code = configure(code, msix_capability(), 0x8000_0000); // MSI-X on
    code = code
        .store(MSIX_TABLE, 0xFEE0_0000)
        .store(MSIX_TABLE + 4, 0)
        .store(MSIX_TABLE + 8, VECTOR as u32)
        .store(MSIX_TABLE + 12, 0)
        .store8(register(0x14), 0) // status: reset
        .store8(register(0x14), 3) // acknowledge, driver
        .store(register(0x08), 1)
        .store(register(0x0C), 1) // version 1
        .store8(register(0x14), 0xB) // features accepted
        .store16(register(0x16), TRANSMIT)
        .store16(register(0x18), 8)
        .store16(register(0x1A), 0); // first MSI-X vector
    for (offset, place) in [(0x20, DESCRIPTORS), (0x28, AVAILABLE), (0x30, USED)] {
        code = code.store(register(offset), address(place)).store(register(offset + 4), 0);
    }
    code.store16(register(0x1C), 1)
        .store8(register(0x14), 0xF) // driver ready
        .store(0xFEE0_00F0, 0x1FF) // local APIC on
        .bytes(&[0xBC]) // mov esp
        .bytes(&address(END).to_le_bytes())
        .bytes(&[0x0F, 0x01, 0x1D]) // lidt
        .bytes(&address(IDT_POINTER).to_le_bytes())
        .store16(DOORBELLS + 4 * u32::from(TRANSMIT), TRANSMIT)
        .bytes(&[0xFB, 0xF4, 0xEB, 0xFD]) // sti; 1: hlt; jmp 1b
}

/// The whole image: code, interrupt handler, and the virtqueue already filled.
fn spec() -> MachineSpec {
    let mut image = vec![0; END];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let code = driver().0;
    assert!(code.len() < HANDLER);
    put(0, &code);
    // mov al, [used index]; print it; power off
    let handler = Code::new().bytes(&[0xA0]).bytes(&address(USED + 2).to_le_bytes());
    put(HANDLER, &handler.bytes(&[0x04, b'0']).out_al(0xE9).exit(0x10).0);
    let [low, high] = [address(HANDLER) as u16, (address(HANDLER) >> 16) as u16];
    let gate = [low, 0x08, 0x8E00, high].map(u16::to_le_bytes);
    put(IDT + VECTOR * 8, gate.as_flattened());
    put(IDT_POINTER, &0x7FFu16.to_le_bytes());
    put(IDT_POINTER + 2, &address(IDT).to_le_bytes());
    put(DESCRIPTORS, &u64::from(address(BUFFER)).to_le_bytes());
    put(DESCRIPTORS + 8, &(MESSAGE.len() as u32).to_le_bytes());
    put(AVAILABLE + 2, &1u16.to_le_bytes());
    put(BUFFER, MESSAGE);
    let kernel =
        common::image::elf_image(BASE, &image, Some(&common::image::xen_note(BASE as u32)));
    MachineSpec { kernel: kernel.into(), ..Code::new().spec() }
}

fn run(spec: MachineSpec) -> (Outcome, Vec<u8>, Vec<u8>) {
    let (mut host, io) = connections();
    let machine = start(spec, io);
    let stop = host.stop.clone();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(10));
        stop.stop();
    });
    host.link.flush().unwrap();
    let (mut link, mut debug) = (Vec::new(), Vec::new());
    host.debug.read_to_end(&mut debug).unwrap();
    let outcome = machine.join().unwrap().unwrap();
    host.link.read_to_end(&mut link).unwrap();
    (outcome, link, debug)
}

#[test]
fn a_buffer_goes_out_and_its_interrupt_comes_back() {
    if !kvm_usable() {
        return;
    }
    let (outcome, link, debug) = run(spec());
    assert_eq!(outcome.end, End::PowerOff, "{outcome:?}");
    assert_eq!(link, MESSAGE);
    assert_eq!(debug, b"1", "used index");
    let doorbells = outcome.stats.exits.iter().find(|(kind, _)| kind == "doorbell");
    assert_eq!(doorbells.map(|(_, count)| *count), Some(1), "{:?}", outcome.stats.exits);
}

#[test]
fn a_traced_doorbell_is_an_access_with_its_instruction() {
    if !kvm_usable() {
        return;
    }
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("trace.txt");
    let (outcome, link, _) =
        run(MachineSpec { traces: vec![xinim_machine::trace::TraceSpec::text(&path)], ..spec() });
    assert_eq!((outcome.end, link.as_slice()), (End::PowerOff, MESSAGE));
    assert!(outcome.stats.exits.iter().all(|(kind, _)| kind != "doorbell"));
    let text = std::fs::read_to_string(path).unwrap();
    println!("{text}");
    let of_console = |word: &str| {
        text.lines().any(|line| line.contains("virtio-console.0") && line.contains(word))
    };
    for word in ["notify", "pop", "push", "msi"] {
        assert!(of_console(word), "no {word} in\n{text}");
    }
}

#[test]
fn a_buffer_rung_for_at_the_end_still_arrives() {
    if !kvm_usable() {
        return;
    }
    // Powers off in the instruction after the doorbell.
    let mut spec = spec();
    let mut kernel = spec.kernel.to_vec();
    let wait = [0xFB, 0xF4, 0xEB, 0xFD];
    let at = kernel.windows(4).position(|bytes| bytes == wait).unwrap();
    let off = Code::new().exit(0x10).0;
    kernel[at..at + off.len()].copy_from_slice(&off);
    spec.kernel = kernel.into();
    let (outcome, link, _) = run(spec);
    assert_eq!(outcome.end, End::PowerOff);
    assert_eq!(link, MESSAGE);
}
