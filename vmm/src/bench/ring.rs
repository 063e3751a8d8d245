//! Block rows: requests straight through the driver's ring (`ringbench` in the guest), the same guest
//! and image on our engine and on QEMU with the same KVM, one after the other; the ratio first.
//!
//! Rates count by this host's clock, from when the guest announces a row to when it announces the
//! next: a guest's own clock may be calibrated badly where the host is busy. Beside them there is the
//! processor time that the VMM's process took over the row, from /proc/PID/stat (steps of 10 ms):
//! vCPU, device and I/O threads together. Of several rounds, in turn, each row shows the one in the middle.
//! The sequential rows of 1 MiB have a third figure: what a plain program of this host gets of the same
//! file, reading or writing 1 MiB after the other, and our share of it (`host_share`).

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Bench, Figure, memory};

/// What ringbench wants to see before it writes.
const SCRATCH: &[u8] = b"XINIM BENCH SCRATCH";
/// Seconds of each row.
const SECONDS: &str = "1";
/// Rounds of all rows at most, however many `--runs` there are.
const MOST_ROUNDS: u32 = 3;
/// Longest run, boot and all rows, on a slow machine.
const PATIENCE: &str = "300s";
/// Clock ticks of /proc/PID/stat a second (USER_HZ, the same on every Linux).
pub(super) const TICKS: u64 = 100;

/// A way to run the same machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner {
    pub name: &'static str,
    pub engine: &'static str,
    pub options: &'static [&'static str],
}

pub(super) const OURS: Runner = Runner { name: "xinim", engine: "kvm", options: &[] };
pub(super) const THEIRS: Runner =
    Runner { name: "qemu", engine: "qemu", options: &["--qemu-accel", "kvm"] };

/// Rows of one kind of disk on both. `bus` as in `--disk`, `name` as in the guest's /dev.
pub fn rows(bench: &Bench, bus: &str, name: &str, mebibytes: u32) -> Figure {
    let path = std::env::temp_dir().join(format!("xinim-ring-{}.img", std::process::id()));
    let image = Image::make(&path, mebibytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut measured = [Vec::new(), Vec::new()];
    let mut plain: [Vec<u64>; 2] = Default::default();
    for _ in 0..bench.runs.clamp(1, MOST_ROUNDS) {
        for (rounds, runner) in measured.iter_mut().zip([OURS, THEIRS]) {
            rounds.push(run(bench, runner, &image, bus, name)?);
        }
        for (rates, write) in plain.iter_mut().zip([false, true]) {
            rates.push(image.plain(write).map_err(|e| format!("{}: {e}", path.display()))?);
        }
    }
    let [ours, theirs] = measured.map(|rounds| middle(&rounds));
    let host = plain.map(|mut rates| {
        rates.sort_unstable();
        rates[rates.len() / 2]
    });
    let mut rows = Map::new();
    for (row, own) in ours {
        let other = theirs.get(&row).cloned().unwrap_or(Value::Null);
        let mut figures = json!({ "ratio": ratio(&own, &other, "per_second") });
        for (name, host) in ["seq_read_1m_d4", "seq_write_1m_d4"].into_iter().zip(host) {
            if row == name {
                let host = json!({ "bytes_per_second": host });
                figures["host_share"] = ratio(&own, &host, "bytes_per_second");
                figures["host"] = host;
            }
        }
        (figures[OURS.name], figures[THEIRS.name]) = (own, other);
        rows.insert(row, figures);
    }
    Ok(Value::Object(rows))
}

/// Of several rounds: for each row the figures of the round whose rate is in the middle.
fn middle(rounds: &[Map<String, Value>]) -> Map<String, Value> {
    let Some(first) = rounds.first() else { return Map::new() };
    let rows = first.keys().map(|row| {
        let mut seen: Vec<&Value> = rounds.iter().filter_map(|round| round.get(row)).collect();
        seen.sort_by_key(|figures| figures["per_second"].as_u64());
        (row.clone(), seen[seen.len() / 2].clone())
    });
    rows.collect()
}

/// How many times more we do; `null` where one was not measured.
fn ratio(ours: &Value, theirs: &Value, figure: &str) -> Value {
    let of = |side: &Value| side.get(figure).and_then(Value::as_f64);
    match (of(ours), of(theirs)) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => {
            json!((ours / theirs * 100.0).round() / 100.0)
        }
        _ => Value::Null,
    }
}

/// An image that may be written to; removed at the end.
struct Image(PathBuf);

impl Image {
    /// Without holes, so that the host's page cache has all of it.
    fn make(path: &Path, mebibytes: u32) -> std::io::Result<Self> {
        let image = Self(path.to_owned());
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let block: Vec<u8> =
            (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        file.write_all(SCRATCH)?;
        file.write_all(&block[SCRATCH.len()..])?;
        for _ in 1..mebibytes {
            file.write_all(&block)?;
        }
        file.flush()?;
        Ok(image)
    }

    /// Bytes a second of a program that does nothing else, over a second.
    fn plain(&self, write: bool) -> std::io::Result<u64> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().read(true).write(true).open(&self.0)?;
        let len = file.metadata()?.len();
        let mut block = vec![0; 1 << 20];
        let (began, mut at, mut bytes) = (Instant::now(), 0, 0);
        loop {
            match write {
                true => file.write_all_at(&block, at)?,
                false => file.read_exact_at(&mut block, at)?,
            }
            bytes += block.len() as u64;
            at = (at + block.len() as u64) % len;
            let took = began.elapsed();
            if took >= Duration::from_secs(1) {
                // The guest looks for the words before it writes.
                file.write_all_at(SCRATCH, 0)?;
                return Ok((bytes as f64 / took.as_secs_f64()) as u64);
            }
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// All rows on one engine.
fn run(
    bench: &Bench,
    runner: Runner,
    image: &Image,
    bus: &str,
    name: &str,
) -> Result<Map<String, Value>, String> {
    let mut command = bench.limited(runner.engine, PATIENCE);
    command.args(runner.options);
    let disk = image.0.display().to_string().replace(',', ",,");
    command.args(["--disk", &format!("{disk},bus={bus}")]);
    command.args(["--exec", &format!("ringbench -w -s {SECONDS} {name}")]);
    let mut child = command.spawn().map_err(|e| format!("{}: does not start: {e}", runner.name))?;
    let rows = follow(&mut child);
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        let _ = errors.read_to_string(&mut said);
    }
    let status = child.wait().map_err(|e| format!("{}: {e}", runner.name))?;
    match status.success() && !rows.is_empty() {
        true => Ok(rows),
        false => Err(format!("{}: {status}: {}", runner.name, said.lines().next().unwrap_or(""))),
    }
}

/// Reads ringbench's lines as they come: figures by row.
fn follow(child: &mut Child) -> Map<String, Value> {
    let mut rows = Map::new();
    let Some(output) = child.stdout.take() else { return rows };
    let mut row: Option<Row> = None;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Some((first, rest)) = line.split_once(' ') else { continue };
        if first == "row" {
            let (now, ticks) = (Instant::now(), cpu_ticks(child.id()));
            if let Some(row) = row.take() {
                let took = now.duration_since(row.began);
                end_row(&mut rows, &row.name, took, ticks.saturating_sub(row.ticks));
            }
            row = Some(Row { name: rest.to_owned(), began: now, ticks });
        } else if let Some(Row { name, .. }) = &row
            && let Some(figure) = first.strip_prefix(&format!("{name}_"))
            && let Ok(number) = rest.parse::<u64>()
        {
            let figures = rows.entry(name.clone()).or_insert_with(|| json!({}));
            figures[figure] = number.into();
        }
    }
    rows
}

/// A row that is being measured.
struct Row {
    name: String,
    began: Instant,
    ticks: u64,
}

/// Replaces the guest's rates by those of the host's clock.
fn end_row(rows: &mut Map<String, Value>, name: &str, took: Duration, ticks: u64) {
    let Some(figures) = rows.get_mut(name) else { return };
    let requests = figures["requests"].as_u64().unwrap_or(0);
    let size = match (figures["bytes_per_second"].as_u64(), figures["per_second"].as_u64()) {
        (Some(bytes), Some(each @ 1..)) => bytes / each,
        _ => 0,
    };
    let per_second = (requests as f64 / took.as_secs_f64().max(1e-9)).round() as u64;
    figures["per_second"] = per_second.into();
    figures["bytes_per_second"] = (per_second * size).into();
    let requests = requests.max(1);
    figures["host_cpu_ns"] = (ticks * (1_000_000_000 / TICKS) / requests).into();
}

/// Processor time of a process and its children so far, user and system.
fn cpu_ticks(pid: u32) -> u64 {
    let ticks = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat_ticks(&stat).unwrap_or(0)
    };
    memory::family(pid).iter().map(ticks).sum()
}

/// utime and stime, the 14th and 15th field of proc(5); the second may hold spaces.
pub(super) fn stat_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20 0 3 0";
        assert_eq!(stat_ticks(stat), Some(42));
        assert_eq!(stat_ticks(""), None);
    }

    #[test]
    fn each_row_has_its_round_in_the_middle() {
        let round = |a: u64, b: u64| {
            let rows = json!({ "a": { "per_second": a }, "b": { "per_second": b } });
            rows.as_object().unwrap().clone()
        };
        let rounds = [round(1, 30), round(3, 10), round(2, 20)];
        assert_eq!(middle(&rounds), round(2, 20));
        assert_eq!(middle(&rounds[..1]), round(1, 30));
        assert!(middle(&[]).is_empty());
    }

    #[test]
    fn a_plain_program_reads_and_writes_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::make(&dir.path().join("image"), 2).unwrap();
        assert!(image.plain(false).unwrap() > 0);
        assert!(image.plain(true).unwrap() > 0);
        assert!(std::fs::read(&image.0).unwrap().starts_with(SCRATCH));
    }

    #[test]
    fn ratios() {
        let side = |n: u64| json!({ "per_second": n });
        assert_eq!(ratio(&side(300), &side(200), "per_second"), json!(1.5));
        assert_eq!(ratio(&side(300), &Value::Null, "per_second"), Value::Null);
    }

    #[test]
    fn rows_end_with_the_host_s_share() {
        let mut rows = Map::new();
        let guest = json!({ "requests": 1000, "per_second": 7, "bytes_per_second": 28_672 });
        rows.insert("seq".into(), guest);
        end_row(&mut rows, "seq", Duration::from_secs(2), 50);
        assert_eq!(rows["seq"]["host_cpu_ns"], json!(500_000));
        assert_eq!(rows["seq"]["per_second"], json!(500));
        assert_eq!(rows["seq"]["bytes_per_second"], json!(500 * 4096));
    }
}
