//! What a VM exit costs, and what watching it adds: a guest of a few instructions that does nothing else.
//!
//! Two lengths of the same loop are run, and the difference of their times is that of the exits between; so
//! neither start nor end of a machine counts, but a trace file is complete in it. Times are processor time
//! of the whole process, writing threads and kernel included, so that others who use the host disturb
//! little. All ways of watching take turns in each round; the sums of all rounds are compared.

use std::path::Path;

use serde_json::{Map, json};
use xinim_abi::platform::{COM1, ECAM_BASE, EXIT_POWEROFF, PORT_EXIT};
use xinim_kvm::tiny::{elf_image, xen_note};

use super::boot::failure;
use super::{Bench, Figure};

/// Where the guest is linked to.
const BASE: u32 = 0x10_0000;
/// Exits of the short and of the long loop.
const SHORT: u32 = 1_000;
const LONG: u32 = 101_000;
/// Line status: it says something and changes nothing.
const PORT: u16 = COM1 + 5;

/// How the exits are watched: a name, and the option that does it.
const WAYS: [(&str, Option<&str>); 6] = [
    ("nothing", None),
    ("trace-off", Some("--trace=FILE,format=bin,off")),
    ("bin", Some("--trace=FILE,format=bin")),
    ("text", Some("--trace=FILE,filter=access or config or exit")),
    ("perfetto", Some("--trace=FILE,format=perfetto")),
    ("strict", Some("--strict")),
];

/// A read of a port, or of memory that is a device's.
fn guest(count: u32, port: bool) -> Vec<u8> {
    let [low, high] = PORT.to_le_bytes();
    let mut code = vec![0x66, 0xBA, low, high]; // mov dx, PORT
    code.push(0xB9); // mov ecx, count
    code.extend(count.to_le_bytes());
    let start = code.len();
    if port {
        code.push(0xEC); // in al, dx
    } else {
        code.push(0xA1); // mov eax, [ECAM_BASE]
        code.extend((ECAM_BASE as u32).to_le_bytes());
    }
    code.push(0x49); // dec ecx
    let back = start as i64 - (code.len() as i64 + 2);
    code.extend([0x75, back as u8]); // jnz
    code.push(0xB8); // mov eax, EXIT_POWEROFF
    code.extend(EXIT_POWEROFF.to_le_bytes());
    let [low, high] = PORT_EXIT.to_le_bytes();
    code.extend([0x66, 0xBA, low, high, 0xEF]); // mov dx, PORT_EXIT; out dx, eax
    code.extend([0xFA, 0xF4]); // cli; hlt
    elf_image(BASE.into(), &code, Some(&xen_note(BASE)))
}

/// By port and by memory: for each way of watching, how much longer an exit takes than unwatched, and
/// its time in ns.
pub fn cost(bench: &Bench) -> Figure {
    let dir = std::env::temp_dir().join(format!("xinim-bench-exits-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|e| format!("no scratch directory: {e}"))?;
    let figure = measure(bench, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    figure
}

fn measure(bench: &Bench, dir: &Path) -> Figure {
    let mut figure = Map::new();
    let exits = u64::from(LONG - SHORT);
    for (name, port) in [("port_read", true), ("memory_read", false)] {
        let kernels = [SHORT, LONG].map(|count| (count, dir.join(format!("{name}-{count}"))));
        for (count, path) in &kernels {
            std::fs::write(path, guest(*count, port)).map_err(|e| format!("no kernel: {e}"))?;
        }
        let mut sums = WAYS.map(|_| [0; 2]);
        // One more than counted: the first round warms up.
        for round in 0..=bench.runs {
            for ((_, option), sums) in WAYS.iter().zip(&mut sums) {
                for ((_, kernel), sum) in kernels.iter().zip(sums) {
                    let nanos = run(bench, kernel, *option, &dir.join("trace"))?;
                    if round > 0 {
                        *sum += nanos;
                    }
                }
            }
        }
        let each =
            sums.map(|[short, long]| long.saturating_sub(short) / (exits * u64::from(bench.runs)));
        let base = each[0].max(1) as f64;
        let rows = WAYS.iter().zip(each).map(|((way, _), nanos)| {
            let ratio = (nanos as f64 / base * 100.0).round() / 100.0;
            ((*way).to_owned(), json!({ "ratio": ratio, "ns": nanos }))
        });
        figure.insert(name.into(), rows.collect());
    }
    figure.insert("exits".into(), exits.into());
    Ok(figure.into())
}

fn run(bench: &Bench, kernel: &Path, option: Option<&str>, trace: &Path) -> Result<u64, String> {
    let mut command = bench.command("kvm");
    command.args(["--memory", "8M", "--console", "none", "--kernel"]).arg(kernel);
    command.args(option.map(|option| option.replace("FILE", &trace.to_string_lossy())));
    let before = children_ns()?;
    let output = command.output().map_err(|e| format!("does not start: {e}"))?;
    let nanos = children_ns()?.saturating_sub(before);
    if !output.status.success() {
        return Err(failure("a guest of exits", &output));
    }
    Ok(nanos)
}

/// Processor time of all children that have ended (proc(5): `cutime` and `cstime`, in 1/100 s).
fn children_ns() -> Result<u64, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|e| e.to_string())?;
    // The name before may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(13).map_while(|field| field.parse::<u64>().ok());
    match (ticks.next(), ticks.next()) {
        (Some(user), Some(system)) => Ok((user + system) * 10_000_000),
        _ => Err("/proc/self/stat is not as expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_jumps_to_its_begin() {
        for port in [true, false] {
            let image = guest(7, port);
            let at = image.windows(2).rposition(|pair| pair[0] == 0x49 && pair[1] == 0x75);
            let at = at.expect("dec ecx; jnz");
            let back = image[at + 2] as i8;
            let target = (at as i64 + 3 + i64::from(back)) as usize;
            assert_eq!(image[target], if port { 0xEC } else { 0xA1 });
        }
    }
}
