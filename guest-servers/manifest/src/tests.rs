use crate::graph::Graph;
use crate::*;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;

fn parse(label: &str, text: &str) -> Manifest {
    Manifest::parse(label, text).unwrap()
}

fn message(label: &str, text: &str) -> String {
    Manifest::parse(label, text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_a_plain_server() {
    let m = parse("log", "");
    assert_eq!(m.program, "sbin/log");
    assert_eq!(m.instances, Instances::One);
    assert_eq!(m.restart, Restart::default());
    assert_eq!((m.priority, m.heartbeat, m.stop), (16, 1000, Stop::Terminate));
    assert_eq!((m.escalate, m.safe), (Escalate::None, false));
}

#[test]
fn every_key() {
    let m = parse(
        "virtio-blk",
        r#"
        program = "sbin/other"
        args = ["-v"]
        class = "block"
        instances = "per-function"
        pci = [{ vendor = 0x1AF4, device = 0x1042 }, { class = 1, subclass = 6 }]
        needs = ["pci"]
        wants = ["log"]
        notify = ["pci"]
        calls = ["pci:admin", "class:net"]
        spawns = ["fs-fat"]
        complains = ["class:block"]
        resources = ["hardware", "process", "power", "log"]
        control = true
        bundle = true
        acpi = true
        ports = [{ first = 0x3F8, count = 8 }]
        interrupts = [4]
        priority = 20
        memory = 64
        dma = 8
        cpu = { percent = 90 }
        heartbeat = 500
        handles = 512
        restart = { policy = "always", limit = 3, backoff = 100, stable = 1000 }
        start_timeout = 500
        stop = "kill"
        escalate = "restart-dependents"
        safe = true
        "#,
    );
    assert!(m.matches(0x1042_1AF4, 0x01_00_00));
    assert!(m.matches(0x2922_8086, 0x01_06_01));
    assert!(!m.matches(0x1041_1AF4, 0x02_00_00));
    assert!(m.has(Resource::Process));
    assert_eq!(m.restart.limit, 3);
    assert_eq!(m.cpu, Some(CpuBudget { percent: 90, window: 5000 }));
    assert_eq!(m.ports, [PortRange { first: 0x3F8, count: 8 }]);
}

#[test]
fn unknown_keys_and_values_name_the_line() {
    let text = message("vfs", "priority = 3\nprogramm = \"x\"\n");
    assert!(text.starts_with("vfs.toml: line 2: unknown field `programm`"), "{text}");
    let text = message("vfs", "\n\nrestart = { polizy = \"always\" }\n");
    assert!(text.starts_with("vfs.toml: line 3: unknown field `polizy`"), "{text}");
    let text = message("vfs", "instances = \"two\"\n");
    assert!(text.contains("line 1: unknown variant `two`"), "{text}");
    assert!(message("vfs", "needs = [\n").contains("line"));
}

#[test]
fn values_out_of_range() {
    for (text, key) in [
        ("priority = 24", "priority"),
        ("priority = 0", "priority"),
        ("handles = 5000", "handles"),
        ("stack = 8", "stack"),
        ("memory = 0", "memory"),
        ("start_timeout = 0", "start_timeout"),
        ("dma = 0", "dma"),
        ("heartbeat = 50", "heartbeat"),
        ("cpu = { percent = 0 }", "cpu"),
        ("cpu = { percent = 50 }\nheartbeat = 0", "cpu"),
        ("program = \"/sbin/vfs\"", "program"),
        ("program = \"../vfs\"", "program"),
        ("ports = [{ first = 0xFFFF, count = 2 }]", "ports"),
        ("ports = [{ first = 1, count = 0 }]", "ports"),
        ("interrupts = [2]", "interrupts"),
        ("interrupts = [16]", "interrupts"),
        ("instances = \"per-function\"", "pci"),
        ("pci = [{ vendor = 1 }]", "pci"),
        ("instances = \"per-function\"\npci = [{}]", "pci"),
        ("instances = \"programs\"\nbundle = true", "instances"),
        ("class = \"Block\"", "class"),
        ("start = \"first-use\"\ninstances = \"on-demand\"", "start"),
    ] {
        let text = message("x", text);
        assert!(text.starts_with(&format!("x.toml: {key}:")), "{text}");
    }
    for label in ["", "rs", "Vfs", "a.1", "9p", "a-label-that-is-far-too-long"] {
        assert!(Manifest::parse(label, "").is_err(), "{label}");
    }
}

fn catalog(files: &[(&str, &str)]) -> Result<Catalog, Error> {
    Catalog::strict(files.iter().map(|(label, text)| parse(label, text)).collect())
}

#[test]
fn order_and_permissions() {
    let c = catalog(&[
        ("vfs", "needs = [\"ramfs\"]\nspawns = [\"fs-fat\"]"),
        ("ramfs", "bundle = true"),
        ("fs-fat", "instances = \"on-demand\"\ncalls = [\"class:block\"]"),
        (
            "virtio-blk",
            "class = \"block\"\ninstances = \"per-function\"\npci = [{ vendor = 1, device = 2 }]",
        ),
        ("pm", "needs = [\"vfs\"]\ncalls = [\"vfs:admin\"]"),
        ("programs", "instances = \"programs\"\ncalls = [\"vfs\", \"pm\"]"),
    ])
    .unwrap();
    let at = |label: &str| c.order().iter().position(|&i| c.get(i).label == label).unwrap();
    assert!(at("ramfs") < at("vfs") && at("vfs") < at("pm"));
    assert!(at("virtio-blk") < at("fs-fat") && at("fs-fat") < at("vfs"));
    let of = |label| c.find(label).unwrap();
    assert_eq!(c.may_call(of("pm"), of("vfs")), Some(true));
    assert_eq!(c.may_call(c.programs().unwrap(), of("vfs")), Some(false));
    assert_eq!(c.may_call(c.programs().unwrap(), of("ramfs")), None);
    assert_eq!(c.may_call(of("fs-fat"), of("virtio-blk")), Some(false));
    assert_eq!(c.driver(0x0002_0001, 0), Some(of("virtio-blk")));
    assert_eq!(c.driver(0x0003_0001, 0), None);
    assert!(c.depends(of("vfs"), of("fs-fat")) && !c.depends(of("fs-fat"), of("vfs")));
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let files =
        [("a", "needs = [\"b\"]"), ("b", "wants = [\"c\"]"), ("c", "calls = [\"a\"]"), ("d", "")];
    let error = catalog(&files).unwrap_err();
    assert_eq!(error.to_string(), "services depend on each other: a -> b -> c -> a");
    let (rest, errors) =
        Catalog::tolerant(files.iter().map(|(label, text)| parse(label, text)).collect());
    assert_eq!((rest.len(), errors.len()), (1, 1));
    assert!(catalog(&[("a", "calls = [\"a\"]")]).is_err());
}

#[test]
fn missing_targets_are_refused_and_so_is_who_needs_them() {
    let files = [("a", "needs = [\"b\"]"), ("b", "calls = [\"nobody:admin\"]"), ("c", "")];
    let error = catalog(&files).unwrap_err();
    assert_eq!(error.to_string(), "b.toml: calls: there is no service \"nobody\"");
    let tolerant = |files: &[(&str, &str)]| {
        Catalog::tolerant(files.iter().map(|(label, text)| parse(label, text)).collect())
    };
    let (rest, errors) = tolerant(&files);
    assert_eq!((rest.len(), errors.len()), (3, 1), "b can do without it");
    let (rest, errors) =
        tolerant(&[("a", "needs = [\"b\"]"), ("b", "needs = [\"nobody\"]"), ("c", "")]);
    assert_eq!((rest.len(), errors.len()), (1, 2));
    assert!(catalog(&[("a", "wants = [\"class:block\"]")]).is_err());
    assert!(catalog(&[("a", "spawns = [\"b\"]"), ("b", "")]).is_ok());
    let driver = ("b", "instances = \"per-function\"\npci = [{ vendor = 1 }]");
    assert!(catalog(&[("a", "spawns = [\"b\"]"), driver]).is_err());
    assert!(catalog(&[("a", "needs = [\"b\"]"), ("b", "instances = \"on-demand\"")]).is_err());
    assert!(matches!(catalog(&[("a", ""), ("a", "")]), Err(Error::Duplicate { .. })));
}

#[test]
fn manifests_come_and_go() {
    let mut c = catalog(&[("a", ""), ("b", "needs = [\"a\"]\nclass = \"block\"")]).unwrap();
    let (a, b) = (c.find("a").unwrap(), c.find("b").unwrap());
    let new = c.add(parse("c", "needs = [\"class:block\"]\nclass = \"block\"")).unwrap_err();
    assert_eq!(new.to_string(), "services depend on each other: c -> c");
    let missing = c.add(parse("c", "needs = [\"x\"]")).unwrap_err();
    assert_eq!(missing.to_string(), "c.toml: needs: there is no service \"x\"");
    assert!(matches!(c.add(parse("a", "")), Err(Error::Duplicate { .. })));
    let index = c.add(parse("c", "needs = [\"b\"]")).unwrap();
    assert_eq!((c.find("a"), c.find("b"), c.find("c")), (Some(a), Some(b), Some(index)));
    assert_eq!(c.needs(index), [b]);
    assert_eq!(c.dependents(a), [b, index]);
    assert!(c.remove(b).is_err(), "c needs it");
    c.remove(index).unwrap();
    assert_eq!((c.find("c"), c.dependents(a)), (None, Vec::from([b])));
    assert!(!c.order().contains(&index));
    assert_eq!(c.add(parse("d", "wants = [\"b\"]")).unwrap(), index, "the place is used again");
}

proptest! {
    #[test]
    fn any_text_is_a_manifest_or_an_error(text in "[a-z =\\[\\]{}\"0-9\n.#:-]{0,200}") {
        let _ = Manifest::parse("x", &text);
    }

    /// The order has every node behind its targets, or the cycle is one.
    #[test]
    fn order_or_cycle(edges in proptest::collection::vec((0usize..12, 0usize..12), 0..40)) {
        let mut graph = Graph::new(12);
        for &(from, to) in &edges {
            graph.edge(from, to);
        }
        match graph.order() {
            Ok(order) => {
                let mut at = [usize::MAX; 12];
                for (i, &node) in order.iter().enumerate() {
                    at[node] = i;
                }
                prop_assert!(at.iter().all(|&i| i < 12));
                for (from, to) in edges {
                    prop_assert!(at[to] < at[from]);
                }
            }
            Err(cycle) => {
                prop_assert!(cycle.len() >= 2);
                prop_assert_eq!(cycle.first(), cycle.last());
                let steps: Vec<_> = cycle.windows(2).map(|w| (w[0], w[1])).collect();
                prop_assert!(steps.iter().all(|step| edges.contains(step)));
            }
        }
    }
}
