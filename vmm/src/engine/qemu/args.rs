//! A machine as QEMU's arguments.
//!
//! | ours | QEMU's |
//! |---|---|
//! | chipset, PCI, RTC, timers | `-machine q35` without default devices |
//! | `--cpuid -cx16` | `-cpu max,cx16=off` |
//! | COM1 | `isa-serial` |
//! | debug console, exit device | `isa-debugcon` at 0xE9, `isa-debug-exit` at 0xF4 |
//! | panic device | `pvpanic` at 0x505, where there is a monitor to ask what happened |
//! | disks | see `disks.rs`; on virtio `virtio-blk-pci`, modern only; on ahci `ide-hd`, `ide-cd` |
//! | network devices | see `net.rs` |
//! | `--gdb` | `-gdb`, with `-S` for `,wait`: QEMU's own stub |
//! | host link | `virtio-serial-pci` with a `virtserialport`, which waits for a slow reader |

use std::path::Path;

use xinim_machine::{DiskBus, GdbAddress, MachineSpec};

use super::{disks, net};
use crate::spec::{QemuAccel, QemuOptions};

/// Events of `--trace`: every device register access, and the steps of PCI and virtio.
const TRACE_EVENTS: &[&str] = &[
    "memory_region_ops_read",
    "memory_region_ops_write",
    "pci_cfg_read",
    "pci_cfg_write",
    "virtqueue_pop",
    "virtqueue_fill",
    "virtio_queue_notify",
    "virtio_notify",
    "virtio_set_status",
    "virtio_blk_handle_read",
    "virtio_blk_handle_write",
    "virtio_blk_req_complete",
];

/// Everything about the command line that the machine itself does not say: files and character
/// devices, which differ between a run (inherited descriptors) and a line to paste.
#[derive(Clone, Debug)]
pub struct Outside {
    pub options: QemuOptions,
    pub kernel: String,
    pub bundle: Option<String>,
    /// `-chardev` values; each contains its id: `com1`, `debug`, `link`, `qmp`.
    pub com1: String,
    pub debug: String,
    pub link: Option<String>,
    /// `-netdev` values, one for each network device.
    pub netdevs: Vec<String>,
    pub qmp: Option<String>,
    /// A second monitor, for the control socket.
    pub control: Option<String>,
    /// QEMU's log: CPU resets and triple faults. With a trace, the trace's file.
    pub log: Option<String>,
}

/// A chardev on an inherited, connected socket.
pub fn socket_chardev(id: &str, fd: i32) -> String {
    format!("socket,id={id},fd={fd}")
}

/// Doubles commas, as QEMU's `key=value` options want them.
pub fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// The arguments after the program's name.
pub fn arguments(spec: &MachineSpec, outside: &Outside) -> Vec<String> {
    let mut args = Args::default();
    args.words("-nodefaults -no-user-config -display none");
    // So that tools can tell its CPUs from its other threads.
    args.words("-name xinim,debug-threads=on");
    args.words("-machine q35");
    args.pair(
        "-accel",
        match outside.options.accel {
            QemuAccel::Tcg => "tcg",
            QemuAccel::Kvm => "kvm",
        },
    );
    args.pair("-cpu", cpu(spec, outside.options.accel));
    args.pair("-m", format!("{}M", spec.memory >> 20));
    args.pair("-smp", spec.cpus.to_string());
    args.pair("-kernel", &outside.kernel);
    if let Some(bundle) = &outside.bundle {
        args.pair("-initrd", bundle);
    }
    if !spec.cmdline.is_empty() {
        args.pair("-append", &spec.cmdline);
    }
    args.words("-rtc base=utc");
    args.pair("-chardev", &outside.com1);
    args.words("-device isa-serial,chardev=com1");
    args.pair("-chardev", &outside.debug);
    args.words("-device isa-debugcon,iobase=0xe9,chardev=debug");
    args.words("-device isa-debug-exit,iobase=0xf4,iosize=4");
    if spec.iommu {
        // At the place that ours has; before the others, which it is to find.
        args.words("-device virtio-iommu-pci,id=iommu,addr=1e.0");
    }
    let virtio = if spec.iommu { ",iommu_platform=on" } else { "" };
    let mut ports = 0;
    for (index, disk) in spec.disks.iter().enumerate() {
        args.0.extend(disks::arguments(index, disk, ports, virtio));
        ports += usize::from(disk.bus == DiskBus::Ahci);
    }
    for (index, (net, netdev)) in spec.nets.iter().zip(&outside.netdevs).enumerate() {
        args.pair("-netdev", netdev);
        args.pair("-device", net::device(index, net, virtio));
    }
    if let Some(link) = &outside.link {
        args.pair("-chardev", link);
        args.pair("-device", format!("virtio-serial-pci,disable-legacy=on,max_ports=2{virtio}"));
        // Not `virtconsole`: that drops what the host does not take at once.
        args.words("-device virtserialport,nr=1,chardev=link");
    }
    match &outside.qmp {
        // A reset or power-off leaves the machine standing, so that its registers can be read.
        Some(qmp) => {
            args.words("-action reboot=shutdown,shutdown=pause,panic=pause");
            args.words("-device pvpanic");
            args.pair("-chardev", qmp);
            args.words("-mon chardev=qmp,mode=control");
        }
        None => args.words("-no-reboot"),
    }
    if let Some(control) = &outside.control {
        args.pair("-chardev", control);
        args.words("-mon chardev=control,mode=control");
    }
    if let Some(gdb) = &spec.gdb {
        let device = match &gdb.address {
            GdbAddress::Tcp(address) => format!("tcp:{address}"),
            GdbAddress::Unix(path) => format!("unix:{},server=on,wait=off", escape(path)),
        };
        args.pair("-gdb", device);
        if gdb.wait {
            args.words("-S");
        }
    }
    if outside.options.icount {
        args.words("-icount shift=0");
    }
    args.log(spec, outside);
    args.0
}

fn cpu(spec: &MachineSpec, accel: QemuAccel) -> String {
    let mut cpu = String::from("max");
    if accel == QemuAccel::Kvm {
        // QEMU gives up where KVM knows this register's bits but does not let them be set, as
        // nested KVM without hardware support does.
        cpu.push_str(",arch-capabilities=off");
    }
    for change in &spec.cpuid {
        let state = if change.enable { "on" } else { "off" };
        cpu.push_str(&format!(",{}={state}", change.feature));
    }
    cpu
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn words(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(str::to_owned));
    }

    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }

    fn log(&mut self, spec: &MachineSpec, outside: &Outside) {
        if let Some(log) = &outside.log {
            self.pair("-d", "cpu_reset");
            self.pair("-D", log);
        }
        if !spec.traces.is_empty() {
            for event in TRACE_EVENTS {
                self.pair("-trace", *event);
            }
        }
    }
}

/// Quotes a word for a POSIX shell, if it needs quoting.
pub fn shell_quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
