//! The command line. Values keep their own types ([`crate::spec`]); what they mean together is
//! decided in [`crate::config`].

mod ctl;
mod test;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::net_spec::{Net, PublishedPort};
use crate::spec::{
    ConsoleSpec, Cpuid, Cpus, Disk, EngineChoice, FaultRule, Gdb, Memory, QemuAccel, Strict,
    Timeout,
};
use crate::trace_spec::TraceOption;

pub use ctl::{CtlArgs, CtlCommand, FaultCommand, LinkState, TraceState};
pub use test::{Shard, TestArgs};

const AFTER_HELP: &str = "\
Examples:
  xinim-vmm                                      boot XINIM with its shell on this terminal
  xinim-vmm --exec 'uname; ls /'                 run commands in it, as CI does
  xinim-vmm --net user --publish 8080:80         with a network, and port 80 at localhost:8080
  xinim-vmm --disk data.img --exec 'mount /dev/vda /mnt && cat /mnt/hello.txt'
  xinim-vmm --engine qemu --dry-run              print the QEMU command line of this machine
  xinim-vmm --trace blk.trace --disk data.img --exec 'cat /dev/vda > /dev/null'
  xinim-vmm --trace all.perfetto,format=perfetto --disk data.img --exec 'cat /dev/vda > /dev/null'
  xinim-vmm --kernel vmlinux --bundle initrd.cpio --cmdline console=ttyS0
  xinim-vmm --control vm.socket & xinim-vmm ctl vm.socket attach data.img
  xinim-vmm test tests/boot                      run boot tests, each in a machine of its own
  xinim-vmm --gdb :1234,wait & xinim-vmm gdb :1234
  xinim-vmm doctor                               say what this host offers

Options of --net, each behind a comma:
  model=MODEL        virtio (default), e1000, e1000-82545em or e1000e (82574L)
  mac=ADDRESS        station address; default 52:54:00:58:4e:NN
  link=down          start with the cable pulled out
  queues=N           queue pairs, 1 to 8 (virtio; default 8)
  pcap=FILE          write all frames to FILE, as pcapng
  publish=PORTS      (user) [tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT; without ADDRESS, reachable
                     from this host only
  host-loopback      (user) 10.0.2.2 reaches this host's 127.0.0.1
  restrict           (user) nothing but gateway, name service and published ports
  dns=ADDRESS[:PORT] (user) ask this name server instead of /etc/resolv.conf's first
  rate=N[k|M|G]      bits a second; loss=P%, duplicate=P%, reorder=P%, delay=TIME, jitter=TIME
                     (5ms, 200us): what happens to frames, each way; seed=N repeats it

Options of --disk:
  ro                 read-only (rw: writable, the default)
  snapshot           the file is only read; what the guest writes is dropped at the end
  format=FORMAT      raw or qcow2 (with its backing files) [default: by the name, .qcow2 or raw]
  cache=MODE         writeback: stable after a flush [default]; writethrough: stable at once;
                     none: past the host's page cache; unsafe: flushes are not carried out
  bps=SIZE           at most so many bytes a second (bps-burst=SIZE: saved up at most)
  iops=N             at most so many requests a second (iops-burst=N: saved up at most)
  serial=TEXT        what the guest knows the disk by, up to 20 characters
  bus=BUS            the device the guest sees: virtio [default] or ahci (SATA: /dev/sda, ...)
  io=METHOD          uring or threads [default: io_uring where the host has it] (KVM engine)

Options of --trace:
  format=FORMAT      text (default): a line for each step, but not VM exits and the guest's own
                     events unless a filter asks for them; bin: everything, compact, for
                     `xinim-vmm trace`; perfetto: everything, for ui.perfetto.dev; pcapng:
                     Ethernet frames of all network devices
  off                begin with the trace switched off
  filter=EXPR        only these events; goes last and may hold commas. For example
                     filter=device=virtio-blk.* and (register=queue_* or dma) and not error
                     (docs/tracing.md has all fields)

Exit status:
  0..123  with --exec, the last command's own (a greater one is given as 123);
          otherwise 0 when the guest powered off or Ctrl-A x was typed
  124     --timeout elapsed
  125     xinim-vmm failed: usage, configuration, a file, a guest that ended without a status
  126     no usable engine
  130     interrupted by a signal
  134     the guest died: kernel panic, triple fault, KVM internal error (report on stderr)
  135     a driver broke a rule, with --strict=stop (report on stderr)

On the terminal, Ctrl-A x leaves, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this.";

#[derive(Debug, Parser)]
#[command(
    name = "xinim-vmm",
    version,
    about = "Boots XINIM, the microkernel operating system carried inside this program, in a \
             virtual machine; or any other kernel with a PVH entry.",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a machine (what happens without a command, too)
    #[command(after_help = AFTER_HELP)]
    Run(Box<RunArgs>),
    /// Say what this host offers: KVM and its kind, QEMU, which engine `auto` takes and why
    Doctor(DoctorArgs),
    /// Work with the kernel and system bundle inside this program
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Change a running machine's disks, network, or fault rules, or end it (see run --control)
    Ctl(CtlArgs),
    /// Run boot tests: TOML files, each a machine, what to do in it and what to expect
    #[command(after_help = test::AFTER_HELP)]
    Test(Box<TestArgs>),
    /// Start gdb on a machine that runs with --gdb, with the symbols of kernel and programs
    Gdb(GdbArgs),
    /// Serve the machine's devices, with no guest, to a test that speaks QEMU's qtest protocol
    Qtest {
        /// QEMU's options, as its device tests give them (see docs/qtest.md)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Show a core of a guest's service (service core NAME): registers, backtrace with names, memory
    Core(CoreArgs),
    /// Drive the devices of a recording (run --record) again, with no guest, and compare bit for bit
    Replay(ReplayArgs),
    /// Say what a rule of --strict is about, or list all rules
    Explain(ExplainArgs),
    /// Read traces: show, add up, compare and convert what --trace FILE,format=bin wrote
    Trace {
        #[command(subcommand)]
        command: TraceCommand,
    },
    /// Watch a running machine: devices, queues, exits, processes, services (see run --control)
    Top(TopArgs),
    /// Put seeded faults into live machines under load and tell what became of each
    Campaign(CampaignArgs),
    /// Print a completion script for a shell
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write man pages into DIR: xinim-vmm.1 and one for each command
    Man {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Measure boot, memory, disk and network on both engines and print the figures as JSON
    Bench(BenchArgs),
}

#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// auto, kvm or qemu. auto takes KVM where it is usable, else QEMU, and says so
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<EngineChoice>,

    /// TOML file with the same keys as these options; options win over the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The file is a boot test: read its table `machine` (for `test`)
    #[arg(long, hide = true, requires = "config")]
    pub config_in_test: bool,

    /// Guest memory, a multiple of 2M [default: 128M]
    #[arg(long, short = 'm', value_name = "SIZE")]
    pub memory: Option<Memory>,

    /// Number of virtual CPUs [default: 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<Cpus>,

    /// Boot this PVH ELF instead of the kernel inside this program
    #[arg(long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,

    /// Give the kernel this bundle (its initrd) instead of the one inside this program; a
    /// kernel given without a bundle gets none
    #[arg(long, value_name = "CPIO")]
    pub bundle: Option<PathBuf>,

    /// Kernel command line; with --exec, `mode=exec` is added
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: Option<String>,

    /// Attach a disk: PATH[,ro][,snapshot][,OPTION=VALUE...], or new:SIZE for a blank one that
    /// is gone afterwards; a comma in PATH is written twice. Repeatable; the guest sees /dev/vda,
    /// /dev/vdb, ... in this order. Options: see below
    #[arg(long, value_name = "DISK")]
    pub disk: Vec<Disk>,

    /// Attach a CD-ROM drive with this disc (an ISO image); repeatable: /dev/sr0, ...
    #[arg(long, value_name = "FILE")]
    pub cdrom: Vec<PathBuf>,

    /// Serve a control socket for `xinim-vmm ctl` at this path; it is for this user only
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Attach a network device: user, tap=NAME, passt=SOCKET, hub=NAME or none, then options (see
    /// below). Repeatable. Without one the machine has no network
    #[arg(long, value_name = "NET")]
    pub net: Vec<Net>,

    /// Lead a port of this host into the guest: [tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT. Repeatable. As
    /// publish= of the first user network, which is there without --net too
    #[arg(long, value_name = "HOST:GUEST")]
    pub publish: Vec<PublishedPort>,

    /// Put a virtio-iommu between devices and memory: a device then reaches only what the guest lets
    /// its driver have
    #[arg(long)]
    pub iommu: bool,

    /// Where the guest's console (COM1) leads: stdio, file:PATH, unix:PATH (a listening
    /// socket) or none [default: stdio; with --exec none]
    #[arg(long, value_name = "WHERE")]
    pub console: Option<ConsoleSpec>,

    /// End the run after this long (30s, 500ms, 2m) with status 124
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Timeout>,

    /// Write what happens at the devices to FILE[,format=FORMAT][,off][,filter=EXPR]: text, bin,
    /// perfetto or pcapng. Repeatable; switched while running by `ctl SOCKET trace on|off`. See below
    #[arg(long, value_name = "TRACE")]
    pub trace: Vec<TraceOption>,

    /// Write what the PCI devices are asked and answered to this file, for `xinim-vmm replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Check the guest's drivers against the specifications of their devices: report what they do
    /// wrong (warn), or end the machine at the first mistake with status 135 (stop)
    #[arg(
        long,
        value_name = "MODE",
        num_args = 0..=1,
        default_missing_value = "warn",
        require_equals = true
    )]
    pub strict: Option<Strict>,
    /// Let gdb connect: HOST:PORT (or :PORT, on this host only) or unix:PATH; with ,wait the guest's
    /// first instruction waits for it. See `xinim-vmm gdb`
    #[arg(long, value_name = "ADDRESS[,wait]")]
    pub gdb: Option<Gdb>,

    /// If the guest dies or its time runs out, write its memory and registers to FILE, an ELF core
    /// that gdb opens
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,

    /// Do not confine this process to what the machine needs (KVM engine; see docs/sandbox.md)
    #[arg(long)]
    pub no_sandbox: bool,

    /// With --control: disks to attach and dumps may also lie below this directory; repeatable
    #[arg(long, value_name = "DIR")]
    pub allow: Vec<PathBuf>,

    /// Let a device, its disk, wire, interrupts or memory fail by rule, as in
    /// `device=virtio-blk.0,op=write,sector=100-200,nth=3,action=error`; repeatable, and the first
    /// rule that matches counts. `--fault help` explains rules (KVM engine)
    #[arg(long, value_name = "RULE")]
    pub fault: Vec<FaultRule>,

    /// Run these commands in the guest's shell, with standard input, output and error passed
    /// through byte for byte, then power off and exit with the last command's status
    #[arg(long, value_name = "COMMANDS", allow_hyphen_values = true)]
    pub exec: Option<String>,

    /// Hide CPU features from the guest (-cx16,-xsave) or ask for them (+avx2)
    #[arg(long, value_name = "CHANGES", allow_hyphen_values = true)]
    pub cpuid: Option<Cpuid>,

    /// With --engine qemu: print the QEMU command line, quoted for a shell, and exit
    #[arg(long)]
    pub dry_run: bool,

    /// Say what happens, and show the guest's debug console (kernel log, panic) live; twice:
    /// also ask the kernel for its whole log
    #[arg(long, short = 'v', action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// QEMU's accelerator: tcg or kvm
    #[arg(long, value_name = "ACCEL", hide = true)]
    pub qemu_accel: Option<QemuAccel>,

    /// Let QEMU count instructions instead of time (-icount shift=0)
    #[arg(long, hide = true)]
    pub qemu_icount: bool,

    /// Give QEMU its own user, tap and stream back ends instead of ours (for `bench`)
    #[arg(long, hide = true)]
    pub qemu_own_net: bool,

    /// Write figures of the run to this file, as JSON (for `bench`)
    #[arg(long, value_name = "FILE", hide = true)]
    pub stats: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List the kernel and what is in the bundle: mode, bytes, path
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the kernel (`xinim-kernel`) and the system bundle (`xinim.cpio`) into DIR
    Extract {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct GdbArgs {
    /// Where the machine listens: HOST:PORT, :PORT or unix:PATH, as given to --gdb; or a core file
    #[arg(value_name = "ADDRESS|CORE")]
    pub target: String,

    /// The kernel the machine runs, if not the one inside this program
    #[arg(long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,

    /// The bundle the machine runs, if not the one inside this program
    #[arg(long, value_name = "CPIO")]
    pub bundle: Option<PathBuf>,

    /// The debugger [default: gdb]
    #[arg(long, value_name = "PROGRAM", default_value = "gdb")]
    pub gdb: PathBuf,

    /// Further arguments of gdb, as -batch -ex 'info threads'
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "GDB-ARGUMENTS")]
    pub arguments: Vec<std::ffi::OsString>,
}

/// A trace and which of its events.
#[derive(Clone, Debug, Args)]
pub struct TraceInput {
    /// Written by --trace FILE,format=bin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Only these events, as in --trace FILE,filter=EXPR
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum TraceCommand {
    /// Print the events, a line each
    Show {
        #[command(flatten)]
        input: TraceInput,
        /// A JSON object each
        #[arg(long)]
        json: bool,
    },
    /// Add up: accesses and time by device, register and process, latencies by kind of request, what
    /// exits cost
    Stat {
        #[command(flatten)]
        input: TraceInput,
        /// As JSON, with whole histograms
        #[arg(long)]
        json: bool,
    },
    /// Compare two runs, device by device, and show the first difference that matters: not times,
    /// process numbers, addresses of memory or how often something was polled. Status 1: there is one
    Diff {
        #[arg(value_name = "A")]
        a: PathBuf,
        #[arg(value_name = "B")]
        b: PathBuf,
        /// Only these events of both
        #[arg(long, value_name = "EXPR")]
        filter: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Write the trace in another format: OUT[,format=text|bin|perfetto|pcapng]
    Convert {
        #[command(flatten)]
        input: TraceInput,
        /// Without a format, the one the name ends in: .txt, .bin, .perfetto(-trace) or .pcapng
        #[arg(value_name = "OUT")]
        output: String,
    },
}

#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// The socket that the machine was given with --control
    #[arg(value_name = "SOCKET")]
    pub socket: PathBuf,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub interval: f64,

    /// Look for one interval, print, and end
    #[arg(long)]
    pub once: bool,

    /// With --once, as JSON
    #[arg(long, requires = "once")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// What run --record wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Only this device, by its name in the trace: virtio-blk.0, e1000.0, ...
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,

    /// Drive another program's devices with the same accesses, and show where the two differ
    #[arg(long, value_name = "PEER", value_enum)]
    pub against: Option<Peer>,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Whose devices a recording is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Qemu,
}

#[derive(Debug, Args)]
pub struct CoreArgs {
    /// What the guest's `service core NAME` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The bundle the machine ran, if not the one inside this program
    #[arg(long, value_name = "CPIO")]
    pub bundle: Option<PathBuf>,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Id of the rule, as a report gives it; without one all rules are listed
    #[arg(value_name = "ID")]
    pub id: Option<String>,

    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CampaignArgs {
    /// How many faults
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub faults: u64,

    /// Where they come from: the same seed, the same faults. Fault N of seed S is the first of S + N
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Machines at a time
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: u32,

    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Faults in one round, after which all of the load must come through right
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub burst: u64,

    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Only this class of faults; repeatable [default: all]
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,

    /// Start no machines: add up these reports of campaigns and print the table of all
    #[arg(long, value_name = "REPORT", num_args = 1.., conflicts_with_all = ["faults", "seed", "class"])]
    pub merge: Vec<PathBuf>,

    /// Further options of the machines' `run`, behind --
    #[arg(last = true, value_name = "OPTIONS")]
    pub run: Vec<String>,

    /// Say of each fault what was done
    #[arg(long, short = 'v', action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure only this engine (kvm or qemu); repeatable [default: every usable one]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Vec<EngineChoice>,

    /// Boots to time for each figure; the median is given
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// Size of the disk image used for block throughput, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(8..=16384))]
    pub disk_size: u32,

    /// Leave out the disk measurements
    #[arg(long)]
    pub no_disk: bool,

    /// Seconds of each network row
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub net_seconds: u32,

    /// Leave out the network measurements
    #[arg(long)]
    pub no_net: bool,

    /// Measure only what a VM exit costs, with and without a trace or the strict checker (KVM engine)
    #[arg(long)]
    pub exits: bool,

    /// Leave out what a VM exit costs, watched and not
    #[arg(long, conflicts_with = "exits")]
    pub no_exits: bool,

    /// Leave out the instruction counts under QEMU -icount
    #[arg(long)]
    pub no_icount: bool,

    /// Accepted for symmetry with `doctor`: the figures are always JSON
    #[arg(long)]
    pub json: bool,
}
