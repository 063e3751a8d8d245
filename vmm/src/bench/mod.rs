//! `xinim-vmm bench`: the figures that docs/performance.md reports, as JSON on standard output.
//!
//! Every figure comes from running this very program as a user would, as a child process; times
//! count from just before the child is started. A figure that could not be measured is an object
//! with an `error`, never left out. Durations are milliseconds.

mod boot;
mod exits;
mod guest;
mod memory;
mod net;
mod ring;
mod stats;

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::cli::BenchArgs;
use crate::doctor;
use crate::error::Error;
use crate::output;
use crate::spec::EngineChoice;

/// A figure, or one sentence on why there is none.
type Figure = Result<Value, String>;

/// What all measurements share.
#[derive(Debug)]
struct Bench {
    /// This program.
    program: PathBuf,
    runs: u32,
}

/// Measures and prints; fails only if nothing can be measured at all.
pub fn bench(args: &BenchArgs) -> Result<u8, Error> {
    let program = std::env::current_exe()
        .map_err(|e| Error::Usage(format!("cannot find this program: {e}")))?;
    let bench = Bench { program, runs: args.runs };
    let host = doctor::examine();
    if args.exits {
        let figure = exits::cost(&bench).map_err(Error::Usage)?;
        output::json(&json!({ "exits": figure }))?;
        return Ok(0);
    }
    let mut engines = Map::new();
    for (choice, name, usable) in [
        (EngineChoice::Kvm, "kvm", host.kvm.usable),
        (EngineChoice::Qemu, "qemu", host.qemu.present),
    ] {
        let asked = args.engine.contains(&choice);
        if asked || (usable && args.engine.iter().all(|e| *e == EngineChoice::Auto)) {
            engines.insert(name.into(), engine(&bench, args, name)?);
        }
    }
    let counted = |measure: fn(&Bench) -> Figure| match (args.no_icount, host.qemu.present) {
        (true, _) => Err("left out (--no-icount)".into()),
        (_, false) => Err("QEMU is not installed".into()),
        (false, true) => measure(&bench),
    };
    let report = json!({
        "version": host.version,
        "host": {
            "cpus": std::thread::available_parallelism().map_or(0, |n| n.get()),
            "kvm": host.kvm,
            "qemu": host.qemu,
        },
        "engines": engines,
        "exits": value(watched_exits(&bench, args, host.kvm.usable)),
        "block": block(&bench, args, host.kvm.usable && host.qemu.present),
        "network": network(&bench, args, host.kvm.usable && host.qemu.present),
        "kernel_instructions_qemu_icount": value(counted(guest::kernel_instructions)),
        "program_instructions_qemu_icount": value(counted(guest::ipc_instructions)),
    });
    output::json(&report)?;
    Ok(0)
}

fn engine(bench: &Bench, args: &BenchArgs, name: &str) -> Result<Value, Error> {
    let exec = boot::exec_true(bench, name);
    let disk = match args.no_disk {
        true => Err("left out (--no-disk)".into()),
        false => guest::disk(bench, name, args.disk_size),
    };
    let (prompt, memory) = boot::prompt(bench, name);
    let (first, whole) = match exec {
        Ok((first, whole)) => (first, Ok(whole)),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    Ok(json!({
        "first_instruction_ms": value(first),
        "shell_prompt_ms": value(prompt),
        "exec_true_ms": value(whole),
        "memory_at_prompt": value(memory),
        "disk": value(disk),
    }))
}

/// What an exit costs, watched and not.
fn watched_exits(bench: &Bench, args: &BenchArgs, kvm: bool) -> Figure {
    match (args.no_exits, kvm) {
        (true, _) => Err("left out (--no-exits)".into()),
        (_, false) => Err("it takes KVM".into()),
        (false, true) => exits::cost(bench),
    }
}

/// Rows of both kinds of disk, on both engines with the same KVM.
fn block(bench: &Bench, args: &BenchArgs, both: bool) -> Value {
    let rows = |bus: &str, name: &str| match (args.no_disk, both) {
        (true, _) => Err("left out (--no-disk)".into()),
        (_, false) => Err("it takes KVM and QEMU".into()),
        (false, true) => ring::rows(bench, bus, name, args.disk_size),
    };
    json!({ "virtio": value(rows("virtio", "vda")), "ahci": value(rows("ahci", "sda")) })
}

/// Rows of each network device and back end, on both engines with the same KVM.
fn network(bench: &Bench, args: &BenchArgs, both: bool) -> Value {
    match (args.no_net, both) {
        (true, _) => value(Err("left out (--no-net)".into())),
        (_, false) => value(Err("it takes KVM and QEMU".into())),
        (false, true) => net::devices(bench, args.net_seconds),
    }
}

fn value(figure: Figure) -> Value {
    figure.unwrap_or_else(|why| json!({ "error": why }))
}
