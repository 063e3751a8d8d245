//! Machines made of a few instructions, and a run of them.
#![allow(dead_code)] // each test binary uses a part

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use xinim_kvm::KvmEngine;
pub use xinim_kvm::tiny as image;
use xinim_machine::{Engine, EngineError, HostIo, MachineSpec, Outcome, Stopper};

/// Where the guests of these tests are linked to.
pub const BASE: u64 = 0x10_0000;

/// Machine code for the state a PVH kernel starts in (32-bit, flat, no paging).
#[derive(Clone, Debug, Default)]
pub struct Code(pub Vec<u8>);

impl Code {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn port(self, port: u16) -> Self {
        let [low, high] = port.to_le_bytes();
        self.bytes(&[0x66, 0xBA, low, high]) // mov dx, port
    }

    /// out port, al
    pub fn out_al(self, port: u16) -> Self {
        self.port(port).bytes(&[0xEE])
    }

    pub fn out8(self, port: u16, value: u8) -> Self {
        self.bytes(&[0xB0, value]).out_al(port)
    }

    pub fn out16(self, port: u16, value: u16) -> Self {
        let [low, high] = value.to_le_bytes();
        self.bytes(&[0x66, 0xB8, low, high]).port(port).bytes(&[0x66, 0xEF])
    }

    pub fn out32(self, port: u16, value: u32) -> Self {
        self.bytes(&[0xB8]).bytes(&value.to_le_bytes()).port(port).bytes(&[0xEF])
    }

    /// in al, port
    pub fn in8(self, port: u16) -> Self {
        self.port(port).bytes(&[0xEC])
    }

    /// in eax, port
    pub fn in32(self, port: u16) -> Self {
        self.port(port).bytes(&[0xED])
    }

    /// mov dword [address], value
    pub fn store(self, address: u32, value: u32) -> Self {
        self.bytes(&[0xC7, 0x05]).bytes(&address.to_le_bytes()).bytes(&value.to_le_bytes())
    }

    /// mov word [address], value
    pub fn store16(self, address: u32, value: u16) -> Self {
        self.bytes(&[0x66, 0xC7, 0x05]).bytes(&address.to_le_bytes()).bytes(&value.to_le_bytes())
    }

    /// mov byte [address], value
    pub fn store8(self, address: u32, value: u8) -> Self {
        self.bytes(&[0xC6, 0x05]).bytes(&address.to_le_bytes()).bytes(&[value])
    }

    /// The four bytes of eax to the debug console, lowest first.
    pub fn print_eax(mut self) -> Self {
        for _ in 0..4 {
            self = self.out_al(0xE9).bytes(&[0xC1, 0xE8, 8]); // shr eax, 8
        }
        self
    }

    pub fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out8(0xE9, byte))
    }

    pub fn exit(self, value: u32) -> Self {
        self.out32(0xF4, value).hang()
    }

    /// cli; hlt; jmp back to the hlt
    pub fn hang(self) -> Self {
        self.bytes(&[0xFA, 0xF4, 0xEB, 0xFD])
    }

    pub fn spec(&self) -> MachineSpec {
        let kernel = image::elf_image(BASE, &self.0, Some(&image::xen_note(BASE as u32)));
        MachineSpec {
            memory: 8 << 20,
            cpus: 1,
            kernel: kernel.into(),
            bundle: None,
            cmdline: String::new(),
            disks: Vec::new(),
            hotplug: false,
            nets: Vec::new(),
            cpuid: Vec::new(),
            traces: Vec::new(),
            ..MachineSpec::default()
        }
    }
}

/// Whether this host can run these tests at all; says so when not.
pub fn kvm_usable() -> bool {
    match xinim_kvm::probe() {
        Ok(_) => true,
        Err(error) => {
            xinim_machine::testing::skip("KVM engine", &error.to_string());
            false
        }
    }
}

/// The host's ends of a machine's connections.
pub struct Host {
    pub console: UnixStream,
    pub link: UnixStream,
    pub debug: std::io::PipeReader,
    pub stop: Stopper,
}

/// A full set of connections.
pub fn connections() -> (Host, HostIo) {
    let (console, guest_console) = UnixStream::pair().unwrap();
    let (link, guest_link) = UnixStream::pair().unwrap();
    let (debug, guest_debug) = std::io::pipe().unwrap();
    let stop = Stopper::default();
    let io = HostIo {
        console_in: Some(guest_console.try_clone().unwrap().into()),
        console_out: Some(guest_console.into()),
        host_link: Some(guest_link.into()),
        debug_out: Some(guest_debug.into()),
        stop: stop.clone(),
        ..HostIo::default()
    };
    (Host { console, link, debug, stop }, io)
}

/// Starts a machine on a thread of its own.
pub fn start(spec: MachineSpec, io: HostIo) -> JoinHandle<Result<Outcome, EngineError>> {
    std::thread::spawn(move || KvmEngine.run(&spec, io))
}

/// Runs a machine to its end, at most ten seconds; what it wrote to the debug console comes with
/// the outcome.
pub fn run(spec: &MachineSpec) -> (Result<Outcome, EngineError>, Vec<u8>) {
    let (mut host, io) = connections();
    let machine = start(spec.clone(), io);
    let stop = host.stop.clone();
    let (done, watch) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if watch.recv_timeout(Duration::from_secs(10)).is_err() {
            stop.stop();
        }
    });
    let mut debug = Vec::new();
    host.debug.read_to_end(&mut debug).unwrap();
    let outcome = machine.join().unwrap();
    let _ = done.send(());
    (outcome, debug)
}

/// For specs that cannot fail to build.
pub fn outcome(spec: &MachineSpec) -> (Outcome, Vec<u8>) {
    let (outcome, debug) = run(spec);
    (outcome.unwrap(), debug)
}
