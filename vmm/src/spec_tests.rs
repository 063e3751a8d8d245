use super::*;

#[test]
fn where_gdb_connects() {
    let gdb = |text: &str| text.parse::<Gdb>().map(|gdb| (gdb.0.address.to_string(), gdb.0.wait));
    assert_eq!(gdb(":1234"), Ok(("127.0.0.1:1234".into(), false)));
    assert_eq!(gdb("localhost:1,wait"), Ok(("127.0.0.1:1".into(), true)));
    assert_eq!(gdb("[::1]:1234"), Ok(("[::1]:1234".into(), false)));
    assert_eq!(gdb("unix:a,b,wait"), Ok(("a,b".into(), true)));
    for wrong in ["", "1234", ":99999", "unix:", "host.example:1", ":1,stop"] {
        assert!(gdb(wrong).is_err(), "{wrong}");
    }
}
use proptest::prelude::*;

fn memory(text: &str) -> Result<u64, String> {
    text.parse::<Memory>().map(|m| m.0).map_err(|e| e.to_string())
}

#[test]
fn memory_sizes() {
    assert_eq!(memory("128M"), Ok(128 << 20));
    assert_eq!(memory("128"), Ok(128 << 20));
    assert_eq!(memory("1G"), Ok(1 << 30));
    assert_eq!(memory("2GiB"), Ok(2 << 30));
    assert_eq!(memory("4096k"), Ok(4 << 20));
    for (text, why) in [
        ("", "number"),
        ("M", "number"),
        ("12Q", "unit"),
        ("3M", "multiple"),
        ("0", "zero"),
        ("99999999999999999999", "large"),
        ("9999999999G", "more than"),
        ("-4M", "number"),
    ] {
        let error = memory(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn timeouts() {
    let timeout = |text: &str| text.parse::<Timeout>().map(|t| t.0.as_millis()).ok();
    assert_eq!(timeout("30s"), Some(30_000));
    assert_eq!(timeout("30"), Some(30_000));
    assert_eq!(timeout("500ms"), Some(500));
    assert_eq!(timeout("2m"), Some(120_000));
    assert_eq!(timeout("1h"), Some(3_600_000));
    for text in ["", "0", "s", "1d", "25h", "18446744073709551615h"] {
        assert_eq!(timeout(text), None, "{text}");
    }
}

#[test]
fn consoles() {
    let console = |text: &str| text.parse::<ConsoleSpec>().ok();
    assert_eq!(console("stdio"), Some(ConsoleSpec::Stdio));
    assert_eq!(console("none"), Some(ConsoleSpec::None));
    assert_eq!(console("file:/tmp/x:y"), Some(ConsoleSpec::File("/tmp/x:y".into())));
    assert_eq!(console("unix:s"), Some(ConsoleSpec::Unix("s".into())));
    for text in ["", "stdout", "file:", "unix:", "stdio:x", "tcp:1"] {
        assert_eq!(console(text), None, "{text}");
    }
}

#[test]
fn cpu_features() {
    let cpuid = |text: &str| {
        text.parse::<Cpuid>()
            .map(|c| c.0.into_iter().map(|c| (c.feature, c.enable)).collect::<Vec<_>>())
            .ok()
    };
    assert_eq!(cpuid(""), Some(vec![]));
    assert_eq!(
        cpuid("-cx16,+avx,-sse4.1"),
        Some(vec![("cx16".into(), false), ("avx".into(), true), ("sse4.1".into(), false)])
    );
    for text in ["cx16", "-", "-cx16,xsave", "-a=b", "-é"] {
        assert_eq!(cpuid(text), None, "{text}");
    }
}

#[test]
fn cpu_counts() {
    assert_eq!("1".parse::<Cpus>().ok(), Some(Cpus(1)));
    assert_eq!(CPUS_MAX.to_string().parse::<Cpus>().ok(), Some(Cpus(CPUS_MAX)));
    for text in ["0", "-1", "15", "", "two"] {
        assert!(text.parse::<Cpus>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = text.parse::<Memory>();
        let _ = text.parse::<Timeout>();
        let _ = text.parse::<Disk>();
        let _ = text.parse::<ConsoleSpec>();
        let _ = text.parse::<Cpuid>();
        let _ = text.parse::<Cpus>();
    }

    #[test]
    fn accepted_memory_is_whole_huge_pages(number in 0u64..1 << 50, unit in "[kMGT]?") {
        if let Ok(Memory(bytes)) = format!("{number}{unit}").parse() {
            prop_assert!(bytes > 0 && bytes <= MEMORY_MAX && bytes % MEMORY_STEP == 0);
        }
    }
}
