//! Disks for QEMU: checked and locked as every engine does it (QEMU takes locks of its own kind as
//! well, which keeps out other QEMUs), and written as its arguments.
//!
//! | ours | QEMU's |
//! |---|---|
//! | a file | `-blockdev` raw or qcow2 over file |
//! | `snapshot` | `-drive snapshot=on`: a qcow2 overlay that QEMU makes and deletes |
//! | `new:64M` | the same over `null-co` |
//! | `cache=` | `cache.direct`, `cache.no-flush`; the device's `write-cache` |
//! | `bps=`, `iops=` | a `throttle-group` object, `throttling.*` of `-drive` |

use serde_json::{Map, Value, json};
use xinim_machine::{
    CacheMode, DiskBus, DiskFormat, DiskSource, DiskSpec, EngineError, Limits, Rate, image,
};

use super::args::escape;

/// Locks every image for as long as the result lives.
pub fn lock(disks: &[DiskSpec]) -> Result<Vec<Option<image::Opened>>, EngineError> {
    disks.iter().map(|disk| image::open(disk).map_err(EngineError::Machine)).collect()
}

/// The arguments of disk number `index`: option and value in turn.
/// `port`: of the AHCI controller that every q35 has, if it is a disk on that.
/// `virtio`: further options of a virtio function.
pub fn arguments(index: usize, disk: &DiskSpec, port: usize, virtio: &str) -> Vec<String> {
    let id = format!("disk{index}");
    let mut args = Vec::new();
    match &disk.source {
        DiskSource::File(path) if !disk.snapshot => {
            if disk.limits.any() {
                args.extend(["-object".into(), throttle_group(&id, &disk.limits).to_string()]);
            }
            // JSON, because in it a path may contain anything.
            let node = blockdev(&id, disk, &path.to_string_lossy());
            args.extend(["-blockdev".into(), node.to_string()]);
        }
        DiskSource::File(path) => {
            let format = format_name(disk);
            let file = format!("file.locking=on,file.filename={}", escape(path));
            args.extend(["-drive".into(), drive(&id, disk, &format!("format={format},{file}"))]);
        }
        DiskSource::New(size) => {
            let blank =
                format!("format=raw,file.driver=null-co,file.size={size},file.read-zeroes=on");
            args.extend(["-drive".into(), drive(&id, disk, &blank)]);
        }
    }
    let write_cache = if disk.cache == CacheMode::Writethrough { "off" } else { "on" };
    let serial = disk.serial.clone().unwrap_or_else(|| format!("xinim-disk{index}"));
    let tail = format!("drive={id},write-cache={write_cache},serial={}", serial.replace(',', ",,"));
    let device = match disk.bus {
        DiskBus::Virtio => format!("virtio-blk-pci,{tail},disable-legacy=on{virtio}"),
        DiskBus::Ahci => {
            let kind = if disk.cd_rom { "ide-cd" } else { "ide-hd" };
            format!("{kind},id=drive{index},{tail},bus=ide.{port}")
        }
    };
    args.extend(["-device".into(), device]);
    args
}

fn format_name(disk: &DiskSpec) -> &'static str {
    match disk.format() {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    }
}

/// A node named `id` (behind its throttle, if there is one), as JSON for the command line or QMP.
pub fn blockdev(id: &str, disk: &DiskSpec, path: &str) -> Value {
    let cache = json!({
        "direct": disk.cache == CacheMode::None,
        "no-flush": disk.cache == CacheMode::Unsafe,
    });
    let mut node = json!({
        "driver": format_name(disk),
        "read-only": disk.read_only,
        "discard": "unmap",
        "cache": cache,
        "file": {
            "driver": "file",
            "filename": path,
            "locking": "on",
            "discard": "unmap",
            "cache": cache,
        },
    });
    if disk.limits.any() {
        node = json!({
            "driver": "throttle",
            "throttle-group": format!("{id}-limits"),
            "read-only": disk.read_only,
            "discard": "unmap",
            "cache": cache,
            "file": node,
        });
    }
    node["node-name"] = id.into();
    node
}

/// The object with a disk's limits.
pub fn throttle_group(id: &str, limits: &Limits) -> Value {
    let mut set = Map::new();
    for (name, rate) in named(limits) {
        set.insert(format!("{name}-total"), rate.per_second.into());
        set.insert(format!("{name}-total-max"), peak(rate).into());
    }
    json!({ "qom-type": "throttle-group", "id": format!("{id}-limits"), "limits": set })
}

fn named(limits: &Limits) -> impl Iterator<Item = (&'static str, Rate)> {
    let all = [("bps", limits.bytes), ("iops", limits.operations)];
    all.into_iter().filter_map(|(name, rate)| Some((name, rate?)))
}

/// QEMU's bucket holds a second of the peak rate, which must not be below the rate itself.
fn peak(rate: Rate) -> u64 {
    rate.burst.max(rate.per_second)
}

/// `-drive` for what is to be thrown away.
fn drive(id: &str, disk: &DiskSpec, what: &str) -> String {
    let direct = if disk.cache == CacheMode::None { "on" } else { "off" };
    let mut drive =
        format!("if=none,id={id},{what},snapshot=on,discard=unmap,cache.direct={direct}");
    for (name, rate) in named(&disk.limits) {
        drive.push_str(&format!(
            ",throttling.{name}-total={},throttling.{name}-total-max={}",
            rate.per_second,
            peak(rate)
        ));
    }
    drive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &std::path::Path, read_only: bool) -> DiskSpec {
        DiskSpec { read_only, ..DiskSpec::file(path) }
    }

    fn line(text: &str) -> String {
        let disk = text.parse::<crate::spec::Disk>().unwrap().0;
        arguments(2, &disk, 1, "").join(" ")
    }

    #[test]
    fn plain_files_are_nodes() {
        let text = line("a.qcow2,cache=none");
        assert!(
            text.contains(r#""driver":"qcow2""#) && text.contains(r#""direct":true"#),
            "{text}"
        );
        assert!(text.ends_with(
            "virtio-blk-pci,drive=disk2,write-cache=on,serial=xinim-disk2,disable-legacy=on"
        ));
        let text = line("a,bus=ahci,cache=writethrough,serial=S1");
        let device = "ide-hd,id=drive2,drive=disk2,write-cache=off,serial=S1,bus=ide.1";
        assert!(text.ends_with(device), "{text}");
    }

    #[test]
    fn limits_are_a_group_of_their_own() {
        let text = line("a,iops=50,iops-burst=70,bps=1M");
        let group = r#""limits":{"bps-total":1048576,"bps-total-max":1048576,"iops-total":50,"iops-total-max":70}"#;
        assert!(text.starts_with("-object") && text.contains(group), "{text}");
        assert!(text.contains(r#""throttle-group":"disk2-limits""#), "{text}");
    }

    #[test]
    fn what_is_thrown_away_is_an_overlay_of_qemus() {
        let text = line("a,,b.img,snapshot,iops=50");
        for part in ["-drive if=none,id=disk2,format=raw", "filename=a,,b.img", "snapshot=on"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("throttling.iops-total=50"), "{text}");
        let text = line("new:1M");
        assert!(text.contains("file.driver=null-co,file.size=1048576"), "{text}");
    }

    #[test]
    fn writers_exclude_and_readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        std::fs::write(&path, [0; 1024]).unwrap();
        let writer = lock(&[disk(&path, false)]).unwrap();
        let error = lock(&[disk(&path, false)]).unwrap_err().to_string();
        assert!(error.contains("a.img is in use"), "{error}");
        assert!(lock(&[disk(&path, true)]).is_err());
        drop(writer);
        let _readers = (lock(&[disk(&path, true)]).unwrap(), lock(&[disk(&path, true)]).unwrap());
        assert!(lock(&[disk(&path, false)]).is_err());
    }

    #[test]
    fn what_is_no_image_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        let says = |read_only, why: &str| {
            let error = lock(&[disk(&path, read_only)]).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("a.img"), "{error}");
        };
        says(false, "does not exist");
        std::fs::write(&path, []).unwrap();
        says(false, "empty");
        std::fs::write(&path, [0; 513]).unwrap();
        says(true, "513");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        says(true, "neither");
        says(false, "directory");
    }
}
