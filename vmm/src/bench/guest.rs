//! Measurements that programs in the guest make: `blkbench` and `ipcbench` print `name value`
//! lines, which are passed on as they are.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value};

use super::boot::failure;
use super::{Bench, Figure};

/// Seconds of each of blkbench's measurements.
const SECONDS: &str = "2";

/// Sequential and random reads of a virtio disk of `mebibytes`, whose image is in the host's page
/// cache: what is measured is the way there.
pub fn disk(bench: &Bench, engine: &str, mebibytes: u32) -> Figure {
    let path = std::env::temp_dir().join(format!("xinim-bench-{}.img", std::process::id()));
    let result = make_image(&path, mebibytes).map_err(|e| format!("{}: {e}", path.display()));
    let result = result.and_then(|()| {
        let mut command = bench.command(engine);
        command.arg("--disk").arg(path.display().to_string().replace(',', ",,"));
        let script = format!("blkbench -s {SECONDS} /dev/vda");
        names_and_values("blkbench", command.args(["--exec", &script]))
    });
    let _ = std::fs::remove_file(&path);
    result
}

/// Kernel instructions of a null call and of call + reply between two processes. The kernel's
/// self-test runs in place of RS; under `-icount shift=0` its clock counts instructions, and it takes
/// its own out of them.
pub fn kernel_instructions(bench: &Bench) -> Figure {
    let mut command = bench.command("qemu");
    command.args(["--qemu-icount", "-v", "--console", "none"]);
    command.args(["--cmdline", "first=sbin/kernel-test klog=debugcon bench"]);
    let output = command.output().map_err(|e| format!("does not start: {e}"))?;
    if !output.status.success() {
        return Err(failure("kernel-test", &output));
    }
    let log = String::from_utf8_lossy(&output.stderr);
    let figure = |what: &str| {
        let what = format!("bench: {what}, kernel ticks ");
        let number = log.lines().find_map(|line| line.split_once(&what)?.1.trim().parse().ok());
        number.map(|n: u64| Value::from(n)).ok_or(format!("kernel-test does not tell \"{what}\""))
    };
    Ok(Value::Object(Map::from_iter([
        ("null_call".to_owned(), figure("null call")?),
        ("call_reply".to_owned(), figure("call + reply")?),
    ])))
}

/// The same paths as a program sees them, library and server loop included.
pub fn ipc_instructions(bench: &Bench) -> Figure {
    let mut command = bench.command("qemu");
    names_and_values("ipcbench", command.args(["--qemu-icount", "--exec", "ipcbench"]))
}

/// An image of no particular content, without holes.
fn make_image(path: &Path, mebibytes: u32) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let block: Vec<u8> =
        (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..mebibytes {
        file.write_all(&block)?;
    }
    file.flush()
}

fn names_and_values(what: &str, command: &mut std::process::Command) -> Figure {
    let output = command.output().map_err(|e| format!("does not start: {e}"))?;
    if !output.status.success() {
        return Err(failure(what, &output));
    }
    let figures = parse(&String::from_utf8_lossy(&output.stdout));
    match figures.is_empty() {
        true => Err(format!("{what} printed no figures")),
        false => Ok(Value::Object(figures)),
    }
}

/// `name value` lines; other lines are not figures.
fn parse(text: &str) -> Map<String, Value> {
    let mut figures = Map::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value), None) = (words.next(), words.next(), words.next())
            && let Ok(number) = value.parse::<serde_json::Number>()
        {
            figures.insert(name.to_owned(), Value::Number(number));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_found_among_words() {
        let figures = parse("null_call 178\nnoise\nthree words here\nratio 1.5\nname x\n");
        assert_eq!(Value::Object(figures), json!({ "null_call": 178, "ratio": 1.5 }));
    }

    #[test]
    fn images_have_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        make_image(&path, 3).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), 3 << 20);
    }
}
