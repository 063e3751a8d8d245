use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn disk(text: &str) -> DiskSpec {
    text.parse::<Disk>().unwrap().0
}

fn error(text: &str) -> String {
    text.parse::<Disk>().unwrap_err().to_string()
}

#[test]
fn a_path_alone_is_a_writable_raw_disk() {
    assert_eq!(disk("a.img"), DiskSpec::file("a.img"));
    assert_eq!(disk("a.img,rw,bus=virtio,cache=writeback,io=auto"), disk("a.img"));
    assert!(disk("a.img").writes_file());
    assert_eq!(disk("a,,b.img,ro"), DiskSpec { read_only: true, ..DiskSpec::file("a,b.img") });
}

#[test]
fn every_option_is_taken() {
    let spec = disk(
        "d.img,snapshot,format=qcow2,cache=none,bps=10M,bps-burst=1M,iops=500,iops-burst=7,\
         serial=WD-1,io=threads",
    );
    let expected = DiskSpec {
        snapshot: true,
        format: Some(DiskFormat::Qcow2),
        cache: CacheMode::None,
        limits: Limits {
            bytes: Some(Rate { per_second: 10 << 20, burst: 1 << 20 }),
            operations: Some(Rate { per_second: 500, burst: 7 }),
        },
        serial: Some("WD-1".into()),
        io: IoMethod::Threads,
        ..DiskSpec::file("d.img")
    };
    assert_eq!(spec, expected);
    assert!(!spec.writes_file());
}

#[test]
fn names_and_sizes_decide() {
    assert_eq!(disk("a.qcow2").format(), DiskFormat::Qcow2);
    assert_eq!(disk("a.qcow2,format=raw").format(), DiskFormat::Raw);
    assert_eq!(disk("new:64M"), DiskSpec::blank(64 << 20));
    assert_eq!(disk("./new:64M"), DiskSpec::file("./new:64M"));
    let limits = disk("a,bps=5K,iops=5").limits;
    assert_eq!(limits.bytes, Some(Rate { per_second: 5120, burst: 512 }));
    assert_eq!(limits.operations, Some(Rate { per_second: 5, burst: 1 }));
}

#[test]
fn errors_say_what_is_wrong() {
    for (text, why) in [
        ("", "no file"),
        (",ro", "no file"),
        ("a.img,", "unknown part ``"),
        ("a.img,readonly", "unknown part `readonly`"),
        ("a.img,x=y", "unknown part `x=y`"),
        ("a.img,bus=ide", "unknown bus"),
        ("a.img,format=vmdk", "unknown format"),
        ("a.img,cache=off", "unknown cache mode"),
        ("a.img,io=aio", "unknown io"),
        ("a.img,bps=0", "zero"),
        ("a.img,bps=1Q", "unknown unit"),
        ("a.img,iops=0", "iops=0"),
        ("a.img,iops-burst=5", "without iops"),
        ("a.img,serial=123456789012345678901", "serial"),
        ("a.img,serial=", "serial"),
        ("a.img,ro,snapshot", "both"),
        ("new:", "number"),
        ("new:1000", "512"),
        ("new:1M,ro", "ro"),
        ("new:1M,format=qcow2", "format"),
        ("new:2048T", "1024T"),
    ] {
        assert!(error(text).contains(why), "{text}: {}", error(text));
    }
}

proptest! {
    /// Any path survives the trip through the option, with its commas doubled.
    #[test]
    fn any_path_can_be_named(path in "[^\0]{1,40}", read_only: bool) {
        prop_assume!(!path.starts_with("new:"));
        let suffix = if read_only { ",ro" } else { "" };
        let text = format!("{}{suffix}", path.replace(',', ",,"));
        let spec = disk(&text);
        prop_assert_eq!(spec.source, DiskSource::File(PathBuf::from(path)));
        prop_assert_eq!(spec.read_only, read_only);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = text.parse::<Disk>();
        let _ = format!("a,{text}").parse::<Disk>();
        let _ = format!("new:{text}").parse::<Disk>();
    }
}
