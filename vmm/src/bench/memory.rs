//! Memory of a VMM beside its guest's, from `/proc/PID/smaps` of the process and its children.

use std::path::PathBuf;

use serde_json::json;

use super::Figure;

/// The machine measured has the default memory.
const GUEST_KIB: u64 = 128 * 1024;
/// Alignment may add this much to the mapping of guest memory.
const SLACK_KIB: u64 = 4 * 1024;

/// One mapping, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mapping {
    size: u64,
    resident: u64,
    private: u64,
}

/// Resident memory of the process `pid` and its children: the guest's, and all the rest.
pub fn of_machine(pid: u32) -> Figure {
    let mut mappings = Vec::new();
    for pid in family(pid) {
        let path = PathBuf::from(format!("/proc/{pid}/smaps"));
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        mappings.extend(parse(&text));
    }
    let is_guest = |m: &&Mapping| (GUEST_KIB..=GUEST_KIB + SLACK_KIB).contains(&m.size);
    let guest = mappings.iter().filter(is_guest).max_by_key(|m| m.resident);
    let guest = guest.copied().ok_or("guest memory was not found among the mappings")?;
    let sum = |part: fn(&Mapping) -> u64| mappings.iter().map(part).sum::<u64>();
    Ok(json!({
        "guest_kib": GUEST_KIB,
        "guest_resident_kib": guest.resident,
        "vmm_resident_kib": sum(|m| m.resident) - guest.resident,
        "vmm_private_kib": sum(|m| m.private) - guest.private,
    }))
}

/// The process and its children (QEMU is one).
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    family
}

/// Mappings of an `smaps` file (proc(5)): a line with the range, then `Name: N kB` lines.
fn parse(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let Some(kib) = rest.trim().strip_suffix(" kB").and_then(|n| n.trim().parse().ok()) else {
            continue;
        };
        if name == "Size" {
            mappings.push(Mapping { size: kib, ..Mapping::default() });
        }
        if let Some(mapping) = mappings.last_mut() {
            match name {
                "Rss" => mapping.resident = kib,
                "Private_Clean" | "Private_Dirty" => mapping.private += kib,
                _ => {}
            }
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaps_are_read() {
        let text = "\
7f00-7f10 rw-p 00000000 00:00 0 [heap]
Size:                132 kB
KernelPageSize:        4 kB
Rss:                  12 kB
Private_Clean:         4 kB
Private_Dirty:         8 kB
VmFlags: rd wr mr
7f20-7f30 r--p 00000000 08:01 123 /usr/lib/a:b.so
Size:                  8 kB
Rss:                   8 kB
";
        let first = Mapping { size: 132, resident: 12, private: 12 };
        let second = Mapping { size: 8, resident: 8, private: 0 };
        assert_eq!(parse(text), [first, second]);
        assert_eq!(parse("nonsense: \n: kB\n"), []);
    }

    #[test]
    fn our_own_smaps_are_read() {
        let own = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(parse(&own).iter().any(|mapping| mapping.resident > 0));
    }
}
