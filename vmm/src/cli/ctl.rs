//! `xinim-vmm ctl`: what a running machine is asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct CtlArgs {
    /// The socket that the machine was given with --control
    #[arg(value_name = "SOCKET")]
    pub socket: PathBuf,

    /// Print the answer as it came, as JSON
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: CtlCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// List the disks and network devices
    Info,
    /// Plug a disk into the AHCI controller and print its name
    Attach {
        /// As for --disk; the bus is ahci
        #[arg(value_name = "DISK")]
        disk: String,
        /// Port of the controller [default: the first free one]
        #[arg(long, value_name = "N")]
        port: Option<u16>,
    },
    /// Pull a disk out of the AHCI controller, whatever the guest is doing with it
    Detach {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Put a disc into a CD-ROM drive
    Insert {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(value_name = "DISK")]
        disk: String,
    },
    /// Take the disc out of a CD-ROM drive
    Eject {
        #[arg(value_name = "NAME")]
        name: String,
        /// Even if the guest has locked the drive
        #[arg(long)]
        force: bool,
    },
    /// Give a disk another size and tell the guest
    Resize {
        #[arg(value_name = "NAME")]
        name: String,
        /// 64M, 1G, ...
        #[arg(value_name = "SIZE")]
        size: String,
    },
    /// Put a network device's cable in or pull it out
    Link {
        /// net0, net1, ...
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(value_name = "STATE")]
        state: LinkState,
    },
    /// Switch the machine's traces on or off, or say how they stand
    Trace {
        #[arg(value_name = "STATE", default_value = "status")]
        state: TraceState,
        /// Only the trace with this file, as it was given to --trace
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// What devices, queues, exits, processes and services have done since the first time this was
    /// asked (`top` shows it live)
    Stats,
    /// Fault rules: add one, list them with how often they struck, take them away
    Fault {
        #[command(subcommand)]
        command: FaultCommand,
    },
    /// Damage a running process of the guest, as a defect in it would (KVM engine; boot with
    /// --cmdline text=private, so that damaged text is that process's alone)
    Inject {
        /// Its name: the label of a service
        #[arg(value_name = "PROCESS")]
        process: String,
        /// text: a bit of its text; instruction: a mutated instruction; data: a bit of stack or data;
        /// pointer: a bit of an address in a register; jump: on somewhere else; spin: for ever here
        #[arg(value_name = "KIND", value_parser = ["text", "instruction", "data", "pointer", "jump", "spin"])]
        kind: String,
        /// Chooses place and bit
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Milliseconds to wait until the process runs
        #[arg(long, value_name = "MS", default_value_t = 2000)]
        wait: u32,
    },
    /// Every thread of the guest: what it does or waits for, whom it has called, and how it came there
    /// (KVM engine; the guest need not answer any more)
    Threads,
    /// Write an ELF core of the guest as it is now, for gdb; the guest goes on
    Dump {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// End the machine at once
    Quit,
}

/// What becomes of the traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceState {
    On,
    Off,
    Status,
}

#[derive(Clone, Debug, Subcommand)]
pub enum FaultCommand {
    /// Add a rule (see run --fault help) and print its number
    Add {
        #[arg(value_name = "RULE")]
        rule: String,
    },
    /// List the rules: number, matches, hits, rule
    List,
    /// Take a rule away, with what it holds back
    Remove {
        #[arg(value_name = "ID")]
        id: u32,
    },
    /// Take all rules away
    Clear,
}

/// Of a network device's cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkState {
    Up,
    Down,
}
