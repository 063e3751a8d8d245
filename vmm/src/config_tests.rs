use super::*;

fn error(text: &str) -> String {
    parse(text, Path::new("m.toml")).expect_err(text).to_string()
}

#[test]
fn every_key_is_read() {
    let file = parse(
        r#"
        engine = "qemu"
        memory = "256M"
        cpus = 2
        kernel = "k"
        bundle = "b"
        cmdline = "a=b"
        disk = ["one.img,ro", { path = "two.img", bus = "virtio" }]
        console = "file:log"
        timeout = "30s"
        trace = "t"
        exec = "true"
        cpuid = "-cx16"
        verbose = 1
        "#,
        Path::new("m.toml"),
    )
    .unwrap();
    assert_eq!(file.engine.unwrap().0, EngineChoice::Qemu);
    assert_eq!(file.memory.unwrap().0, Memory(256 << 20));
    assert_eq!(file.cpus.unwrap().0, Cpus(2));
    assert_eq!(file.console.unwrap().0, ConsoleSpec::File("log".into()));
    assert_eq!(file.timeout.unwrap().0.0.as_secs(), 30);
    assert_eq!(file.cpuid.unwrap().0.0[0].feature, "cx16");
    let disks: Vec<_> = file.disk.iter().map(|d| (&d.0.source, d.0.read_only)).collect();
    let named = |path: &str| DiskSource::File(path.into());
    assert_eq!(disks, [(&named("one.img"), true), (&named("two.img"), false)]);
}

#[test]
fn disk_tables_may_be_written_long() {
    let file = parse("[[disk]]\npath = 'x'\nro = true\n", Path::new("m.toml")).unwrap();
    assert!(file.disk[0].0.read_only);
    let text =
        "[[disk]]\nnew = '1M'\niops = 50\niops-burst = 5\ncache = 'unsafe'\nsnapshot = true\n";
    let file = parse(text, Path::new("m.toml")).unwrap();
    let same: Disk = "new:1M,iops=50,iops-burst=5,cache=unsafe,snapshot".parse().unwrap();
    assert_eq!(file.disk[0].0, same.0);
    assert!(error("[[disk]]\nro = true\n").contains("either a path or new"));
}

#[test]
fn errors_name_file_line_and_key() {
    let message = error("memory = \"64M\"\n\nmemroy = \"64M\"\n");
    assert!(message.starts_with("m.toml:3: unknown key `memroy`"), "{message}");
    let message = error("cpus = 1\nmemory = \"64Q\"\n");
    assert!(message.starts_with("m.toml:2: memory: `64Q` unknown unit"), "{message}");
    let message = error("disk = [\"a\", \"b,rw,x\"]\n");
    assert!(message.starts_with("m.toml:1: disk: `b,rw,x` unknown part"), "{message}");
    let message = error("\n[[disk]]\npath = 'a'\nbuss = 'virtio'\n");
    assert!(message.starts_with("m.toml:4: unknown key `buss`"), "{message}");
    let message = error("cmdline = 3\n");
    assert!(message.starts_with("m.toml:1: cmdline:"), "{message}");
    let message = error("memory = \n");
    assert!(message.starts_with("m.toml:1:"), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn options_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.toml");
    std::fs::write(&path, "memory = '64M'\ncpus = 2\ndisk = ['a', 'b']\ntrace = 'out'\n").unwrap();
    let args = RunArgs {
        config: Some(path.clone()),
        memory: Some(Memory(32 << 20)),
        disk: vec!["c".parse().unwrap()],
        ..RunArgs::default()
    };
    let config = resolve(args).unwrap();
    assert_eq!(config.memory, Memory(32 << 20));
    assert_eq!(config.cpus, Cpus(2));
    assert_eq!(config.disks.len(), 1);
    assert_eq!(config.disks[0].source, DiskSource::File("c".into()));
    let trace = TraceSpec::text(dir.path().join("out"));
    assert_eq!(config.traces, [trace], "relative to the file");
    let config = resolve(RunArgs { config: Some(path), ..RunArgs::default() }).unwrap();
    assert_eq!(config.disks[1].source, DiskSource::File(dir.path().join("b")));
}

#[test]
fn defaults() {
    let config = resolve(RunArgs::default()).unwrap();
    assert_eq!(config.memory, Memory(128 << 20));
    assert_eq!(config.cpus, Cpus(1));
    assert_eq!(config.console, ConsoleSpec::Stdio);
    let exec = RunArgs { exec: Some("true".into()), ..RunArgs::default() };
    assert_eq!(resolve(exec).unwrap().console, ConsoleSpec::None);
}

#[test]
fn combinations_that_make_no_sense() {
    let refused = |args: RunArgs| resolve(args).expect_err("refused").to_string();
    let both = RunArgs {
        exec: Some("true".into()),
        console: Some(ConsoleSpec::Stdio),
        ..RunArgs::default()
    };
    assert!(refused(both).contains("--console stdio"));
    let dry = RunArgs { dry_run: true, ..RunArgs::default() };
    assert!(refused(dry).contains("--engine qemu"));
    let disks = vec!["x".parse().unwrap(); crate::spec::DISKS_MAX + 1];
    assert!(refused(RunArgs { disk: disks, ..RunArgs::default() }).contains("disks"));
    let zero = RunArgs { cmdline: Some("a\0b".into()), ..RunArgs::default() };
    assert!(refused(zero).contains("zero"));
}

#[test]
fn published_ports_find_their_network() {
    use xinim_machine::net::NetBackend;
    let resolved = |nets: &[&str], ports: &[&str]| {
        resolve(RunArgs {
            net: nets.iter().map(|net| net.parse().unwrap()).collect(),
            publish: ports.iter().map(|port| port.parse().unwrap()).collect(),
            ..RunArgs::default()
        })
    };
    let guest_ports = |nets: &[&str], ports: &[&str]| -> Vec<Vec<u16>> {
        let nets = resolved(nets, ports).unwrap().nets.into_iter();
        nets.map(|net| match net.backend {
            NetBackend::User(user) => user.publish.iter().map(|port| port.guest).collect(),
            _ => Vec::new(),
        })
        .collect()
    };
    assert_eq!(guest_ports(&[], &["8080:80", "udp:5353:53"]), [[80, 53]]);
    assert_eq!(
        guest_ports(&["none", "user,publish=1:2", "user"], &["3:4"]),
        [vec![], vec![2, 4], vec![]]
    );
    assert_eq!(guest_ports(&[], &[]), Vec::<Vec<u16>>::new());
    let refused = resolved(&["hub=x"], &["1:2"]).expect_err("refused").to_string();
    assert!(refused.contains("--publish needs a network of the kind user"), "{refused}");
    assert!("80".parse::<crate::net_spec::PublishedPort>().is_err());
}

#[test]
fn traces_are_one_or_a_list() {
    let file = parse("trace = ['a', 'b,format=bin,off,filter=dma']", Path::new("m.toml")).unwrap();
    let specs: Vec<_> = file.trace.into_iter().map(|text| text.0.0).collect();
    assert_eq!(specs[0], TraceSpec::text("a"));
    assert_eq!((specs[1].on, specs[1].filter.as_deref()), (false, Some("dma")));
    assert!(error("trace = ['a,format=b']").contains("unknown format `b`"));
    assert!(error("trace = 5").contains("trace"));
}
