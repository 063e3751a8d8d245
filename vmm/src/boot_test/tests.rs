//! Test files, assertions and reports, without booting anything.

use super::case::{CaseResult, Ending};
use super::expect::Expected;
use super::file::TestFile;
use super::report::Summary;
use super::select;
use super::trace::{self, Assertion, Line};
use crate::cli::{Shard, TestArgs};

fn load(text: &str) -> Result<TestFile, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("case.toml");
    std::fs::write(&path, text).unwrap();
    TestFile::load(&path)
        .map_err(|error| error.to_string().replace(&format!("{}/", directory.path().display()), ""))
}

#[track_caller]
fn broken(text: &str, why: &str) {
    let error = load(text).expect_err(text);
    assert!(error.contains(why), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_whole_test_is_read() {
    let test = load(
        r#"
        name = "n"
        description = "d"
        engines = ["kvm", "qemu"]
        timeout = "90s"
        options = ["--cpus", "2"]
        exec = "true"
        stdin = "x"
        trace = ["virtio-blk: no request over 50 ms", "e1000: RDT never passes RDH", "strict: clean"]
        fault = ["device=virtio-blk.0 nth=3 action=error"]
        keep-trace = false
        machine = { memory = "64M" }
        expect = { status = 3, stdout = { contains = ["a", "b"], matches = "^x" }, stderr = "" }
        [[disk]]
        name = "root"
        size = "1M"
        format = "fat"
        format-options = "-F 12"
        files = { "/a" = "text", "/b/c" = { from = "file" } }
        options = "bus=ahci"
        [[file]]
        disk = "root"
        path = "/b/c"
        content = "x"
        [[file]]
        path = "net.pcapng"
        absent = true
        "#,
    )
    .unwrap();
    assert_eq!((test.name(), test.engines().len(), test.trace.len()), ("n".into(), 2, 3));
    assert!(test.strict() && test.reads_trace());
    assert_eq!(load("").unwrap().timeout.0.0.as_secs(), 60);
    assert_eq!(load("").unwrap().name(), "case");
}

#[test]
fn mistakes_are_told_with_line_and_key() {
    broken("exec = 'x'\nexcept = 1\n", "case.toml:2: unknown key `except`");
    broken("\ntimeout = '5 parsecs'\n", "case.toml:2: timeout: `5 parsecs` unknown unit");
    broken("engines = ['vmware']", "engines: `vmware` is none of auto, kvm, qemu");
    broken("exec = 'x'\nconsole = [{ send = 'y' }]", "either exec or a console script");
    broken("console = [{ expect = 'x', send = 'y' }]", "one of expect, expect-match and send");
    broken("console = [{ expect-match = '(' }]", "`(` is no regular expression");
    broken("expect = { stdout = { lack = 'x' } }", "unknown condition `lack`");
    broken("[[disk]]\nname = 'x'", "disk x: needs either size or from");
    broken("[[disk]]\nsize = '7'", "disk disk0: size is no multiple of 512 bytes");
    broken("[[disk]]\nsize = '1M'\nfiles = { '/a' = '' }", "need a format");
    let files = "[[disk]]\nsize = '1M'\nformat = 'fat'\nfiles = { '/../a' = '' }";
    broken(files, "must begin with / and lead nowhere else");
    broken("[[disk]]\nsize = '1M'\nformat = 'fat; reboot'", "is no file system");
    broken("[[file]]\npath = '../x'\nabsent = true", "below the scratch directory");
    broken("[[file]]\ndisk = 'x'\npath = '/x'\nabsent = true", "no [[disk]] named x");
    broken("[[file]]\npath = 'x'", "neither content nor absent");
    broken("machine = { exec = 'x' }", "machine.exec is the test's own business");
    broken("stdin = 'x'", "stdin goes with exec");
    broken("trace = ['virtio-blk no request']", "must be DEVICE: ASSERTION");
    broken("trace = ['virtio-blk: is fast']", "none of the assertions");
    broken("trace = ['e1000: TCTL never passes TDH']", "knows RDT and RDH");
    broken("exec = 'x'\nexpect = { stdout = { equals-file = 'none' } }", "cannot read");
}

#[test]
fn the_machine_is_checked_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.toml");
    let cases = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let args = TestArgs { paths: vec![path.clone()], ..args() };
        select::cases(&args).map(|cases| cases.len()).map_err(|error| error.to_string())
    };
    assert_eq!(cases("exec = 'true'\n[machine]\nmemory = '64M'\n"), Ok(1));
    let error = cases("exec = 'true'\n[machine]\n\nmemory = '64Q'\n").unwrap_err();
    assert!(error.contains("m.toml:4: memory: `64Q` unknown unit"), "{error}");
    let error = cases("options = ['--nonsense']").unwrap_err();
    assert!(error.contains("--nonsense"), "{error}");
    let error = cases("[[disk]]\nsize = '1M'\noptions = 'bus=isa'\n").unwrap_err();
    assert!(error.contains("isa"), "{error}");
}

fn args() -> TestArgs {
    TestArgs {
        paths: Vec::new(),
        jobs: None,
        filter: Vec::new(),
        shard: None,
        repeat: 1,
        list: false,
        keep: None,
        junit: None,
        report: None,
        json: false,
    }
}

#[test]
fn shards_share_all_cases_once() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        let path = directory.path().join(name).with_extension("toml");
        std::fs::write(path, "engines = ['kvm', 'qemu']").unwrap();
    }
    std::fs::write(directory.path().join("notes.txt"), "no test").unwrap();
    let paths = vec![directory.path().to_owned()];
    let names = |shard: Option<Shard>, filter: &[&str], repeat: u32| -> Vec<String> {
        let filter = filter.iter().map(|text| (*text).to_owned()).collect();
        let args = TestArgs { paths: paths.clone(), shard, filter, repeat, ..args() };
        select::cases(&args).unwrap().iter().map(|case| case.name()).collect()
    };
    let all = names(None, &[], 2);
    assert_eq!((all.len(), &*all[1]), (12, "a [kvm] #2"));
    let mut shared: Vec<_> =
        (1..=5).flat_map(|index| names(Some(Shard { index, of: 5 }), &[], 2)).collect();
    shared.sort();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(shared, sorted);
    assert_eq!(names(None, &["b ", "qemu"], 1), ["b [qemu]"]);
    let none = TestArgs { paths: paths.clone(), filter: vec!["zebra".into()], ..args() };
    assert!(select::cases(&none).unwrap_err().to_string().contains("--filter"));
    assert!("3/2".parse::<Shard>().is_err() && "0/2".parse::<Shard>().is_err());
}

fn expected(text: &str) -> Expected {
    #[derive(serde::Deserialize)]
    struct Holder {
        x: Expected,
    }
    toml::from_str::<Holder>(text).unwrap().x
}

#[test]
fn differences_are_shown_where_they_begin() {
    let exact = expected("x = \"one\\ntwo\\n\"");
    assert!(exact.judge("it", b"one\ntwo\n").is_empty());
    assert_eq!(
        exact.judge("it", b"one\n2\n"),
        [r#"it differs: line 2: expected "two\n", got "2\n""#]
    );
    assert_eq!(
        exact.judge("it", b"one\n"),
        [r#"it differs: line 2: expected "two\n", got its end"#]
    );
    let several = expected("x = { contains = 'a', lacks = ['b', 'c'], matches = '^d$' }");
    assert_eq!(several.judge("it", b"a\nd\n"), [""; 0]);
    assert_eq!(several.judge("it", b"b").len(), 3);
}

fn judge(assertion: &str, lines: &str) -> Vec<String> {
    let assertion: Assertion = assertion.parse().unwrap();
    trace::judge(&[&assertion], lines.as_bytes()).unwrap()
}

const BLK: &str = "\
0.100000000 cpu0 rip=0x401a2c [7 virtio blk] virtio-blk.0 w1 mmio:0xfe004014 device_status=0x4 {DRIVER_OK}
0.200000000 host virtio-blk.0 pop queue=0 head=5 segments=3 readable=16 writable=513
0.230000000 host virtio-blk.0 push queue=0 head=5 written=513
0.300000000 host virtio-blk.0 pop queue=0 head=6 segments=3 readable=16 writable=513
0.400000000 host uart.0 r1 pio:0x3fd LSR=0x60 {THRE TEMT}
";

#[test]
fn a_line_of_the_trace_is_taken_apart() {
    let line = Line::parse(BLK.lines().next().unwrap()).unwrap();
    assert_eq!((line.nanos, line.device), (100_000_000, "virtio-blk.0"));
    assert_eq!(line.registers().collect::<Vec<_>>(), [("device_status", 4)]);
    let both =
        "1.0 host x.0 r4 config:0x4 command=0x6 {memory bus_master=0x1} status[2]=0x10 was=0x1";
    let line = Line::parse(both).unwrap();
    assert_eq!(line.registers().collect::<Vec<_>>(), [("command", 6), ("status", 0x10)]);
    for hostile in
        ["", "x", "1.x host a b", "99999999999999999999.0 host a b", "1.0 cpu0 rip=", "["]
    {
        assert!(Line::parse(hostile).is_none(), "{hostile}");
    }
}

#[test]
fn slow_and_lost_requests_are_found() {
    assert_eq!(judge("virtio-blk: no request over 50 ms", &BLK[..BLK.len() / 2]), [""; 0]);
    let late = judge("virtio-blk: no request over 20ms", BLK);
    assert!(late[0].contains("at 0.200000 s a request (queue 0, head 5) began"), "{late:?}");
    let more = format!("{BLK}0.500000000 host virtio-blk.0 notify queue=0\n");
    let lost = judge("virtio-blk.0: no request over 50 ms", &more);
    assert!(lost[0].contains("never answered"), "{lost:?}");
    assert!(judge("ahci: no request over 1 s", BLK)[0].contains("no device of that name"));
    assert!(judge("uart: no request over 1 s", BLK)[0].contains("no request"));
}

#[test]
fn registers_and_errors_are_counted() {
    assert_eq!(judge("virtio-blk: device_status is never read", BLK), [""; 0]);
    assert!(judge("virtio-blk: device_status is never written", BLK)[0].contains("it was 1 times"));
    assert_eq!(judge("virtio-blk: device_status is written at least 1 time", BLK), [""; 0]);
    assert_eq!(judge("virtio-blk: at most 1 accesses", BLK), [""; 0]);
    assert_eq!(judge("virtio-blk: no guest error", BLK), [""; 0]);
    let wrong = format!("{BLK}0.5 cpu0 rip=0x1 virtio-blk.0 r8 mmio:0x0 +0x9=0xff !WrongSize\n");
    assert!(judge("virtio-blk: no guest error", &wrong)[0].contains("WrongSize"));
}

#[test]
fn faults_and_broken_rules_are_counted() {
    let lines = format!(
        "{BLK}0.5 host virtio-blk.0 fault rule=1: nth=3,action=error\n\
         0.6 cpu0 rip=0x1 [7 x] virtio-blk.0 violation register-reserved: y was written !\n"
    );
    assert_eq!(judge("virtio-blk: faults strike at least 1 time", &lines), [""; 0]);
    assert!(judge("virtio-blk: faults strike at most 0 times", &lines)[0].contains("it was 1"));
    assert!(judge("virtio-blk: faults strike at least 1 times", BLK)[0].contains("it was 0"));
    assert_eq!(judge("virtio-blk: register-reserved is never broken", BLK), [""; 0]);
    let broken = judge("virtio-blk: register-reserved is never broken", &lines);
    assert!(broken[0].contains("it was 1 times"), "{broken:?}");
    assert_eq!(judge("virtio-blk: register-reserved is broken at least 1 time", &lines), [""; 0]);
    assert_eq!(judge("virtio-blk: register-none is never broken", &lines), [""; 0]);
    assert_eq!(judge("virtio-blk: no guest error", &lines), [""; 0]);
    let unknown = "virtio-blk: no-such-rule is never broken".parse::<Assertion>().unwrap_err();
    assert!(unknown.to_string().contains("explain"), "{unknown}");
    let test = load("trace = ['virtio-blk: register-none is never broken']").unwrap();
    assert!(test.counts_violations() && test.reads_trace() && !test.strict());
}

#[test]
fn a_tail_that_passes_the_head_is_found() {
    let set = |name: &str, value: u32| {
        format!("0.1 cpu0 rip=0x1 e1000.0 w4 mmio:0x0 {name}={value:#x}\n")
    };
    let rule = "e1000: RDT never passes RDH";
    let setup = set("RDLEN", 8 * 16) + &set("RDH", 0) + &set("RDT", 0);
    // Seven of eight may be given; one that came back may be given again.
    let good = format!(
        "{setup}{}0.2 host e1000.0 descriptor rx queue=0 index=0 done buffer=0x0+0x3c flags=0x3\n{}",
        set("RDT", 7),
        set("RDT", 0)
    );
    assert_eq!(judge(rule, &good), [""; 0]);
    let all = judge(rule, &(setup.clone() + &set("RDT", 7) + &set("RDT", 0)));
    assert!(all[0].contains("RDT went from 7 to 0 past RDH = 0 in a ring of 8"), "{all:?}");
    // Where there are no events for descriptors, frames stand for them.
    let frames = format!("{setup}{}0.2 host e1000.0 frame received length=60\n", set("RDT", 7));
    assert_eq!(judge(rule, &(frames.clone() + &set("RDT", 0))), [""; 0]);
    assert!(judge(rule, &(frames + &set("RDT", 1)))[0].contains("past RDH = 1"));
    assert!(judge(rule, &(setup + &set("RDT", 8)))[0].contains("beyond the ring of 8"));
    assert!(judge(rule, &set("RDH", 0))[0].contains("RDT was not written"));
}

#[test]
fn reports_hold_whatever_a_guest_prints() {
    let test = std::sync::Arc::new(load("").unwrap());
    let case = select::Case { test, engine: crate::spec::EngineChoice::Kvm, round: 0 };
    let mut failed = CaseResult::new(&case, Ending::Failed(vec!["a < b & \"c\"".into()]));
    failed.console = b"\x1b[31m]]></x>\xff\0".to_vec();
    let not_run = CaseResult::new(&case, Ending::NotRun("no kernel".into()));
    let passed = CaseResult::new(&case, Ending::Passed);
    let took = std::time::Duration::from_secs(30);
    let summary = Summary::new(vec![failed, not_run, passed], 4, took);
    let xml = summary.junit();
    assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{xml}");
    assert!(xml.contains("message=\"a &lt; b &amp; &quot;c&quot;\""), "{xml}");
    assert!(!xml.chars().any(|c| c.is_control() && c != '\n'), "{xml}");
    let json: serde_json::Value = serde_json::from_str(&summary.json()).unwrap();
    assert_eq!((&json["failed"], &json["machines_per_minute"]), (&1.into(), &8.0.into()));
    assert_eq!(json["cases"][1]["result"], "not-run");
    let text = summary.to_string();
    assert!(
        text.ends_with("1 passed, 1 failed, 1 not run in 30.0 s; booted 4 machines, 8 a minute\n")
    );
    assert!(!text.contains('\x1b'));
}
