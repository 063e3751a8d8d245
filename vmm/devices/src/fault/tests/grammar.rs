use super::*;
use proptest::prelude::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn wrong(text: &str, part: &str, why: &str) {
    let error = text.parse::<Rule>().unwrap_err();
    assert_eq!(&text[error.at.clone()], part, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn the_documented_rule_reads_as_meant() {
    let rule = rule("device=virtio-blk.0,op=write,sector=100-200,nth=3,action=error");
    assert_eq!(rule.kind, Kind::Request);
    assert_eq!(rule.operation, Some(Operation::Write));
    assert_eq!(rule.sector, Some(Span { first: 100, last: 200 }));
    assert_eq!((rule.nth, rule.action, rule.errno), (Some(3), Action::Error, 5));
}

#[test]
fn what_a_rule_is_about_follows_from_its_keys() {
    for (text, kind) in [
        ("op=flush,action=error", Kind::Request),
        ("sector=0x10,action=drop", Kind::Request),
        ("device=disk1,action=stick", Kind::Request),
        ("protocol=tcp,port=80,action=drop", Kind::Packet),
        ("device=e1000.0,action=duplicate", Kind::Packet),
        ("register=TDT,action=drop", Kind::Register),
        ("register=pxci:3,op=write,action=drop", Kind::Register),
        ("address=0x1000-0x2000,action=error", Kind::Dma),
        ("queue=0,action=stick", Kind::Doorbell),
        ("device=com1,action=irq-lost", Kind::Interrupt),
        ("vector=2,action=stick", Kind::Interrupt),
        ("device=net0,action=link-down,time=2s", Kind::Time),
        ("device=disk0,op=write,nth=7,action=unplug", Kind::Request),
        ("device=virtio-net.0,on=dma,action=corrupt", Kind::Dma),
    ] {
        assert_eq!(rule(text).kind, kind, "{text}");
    }
}

#[test]
fn mistakes_are_sentences_that_point_into_the_rule() {
    wrong("device=disk0", "", "says no action");
    wrong("", "", "KEY=VALUE");
    wrong("action=error,bogus", "bogus", "is no KEY=VALUE");
    wrong("acton=error", "acton", "is no key");
    wrong("sector=1,action=explode", "explode", "at character 17 is no action; error, delay");
    wrong("sector=9-3,action=error", "9-3", "ends before it begins");
    wrong("sector=x,action=error", "x", "is no number");
    wrong("sector=,action=error", "sector=", "has no value");
    wrong("sector=1,sector=2,action=error", "sector", "is there twice");
    wrong("sector=1,port=80,action=error", "port", "says nothing about a request");
    wrong("sector=1,action=irq-lost", "irq-lost", "cannot happen to a request");
    wrong("on=register,action=delay", "delay", "cannot happen to a register");
    wrong("sector=1,nth=0,action=error", "0", "counts from 1");
    wrong("sector=1,probability=120%,action=error", "120%", "is no probability");
    wrong("sector=1,action=delay,time=5", "5", "is no time");
    wrong("sector=1,action=error,time=5ms", "time=5ms", "does not go with action=error");
    wrong("sector=1,action=drop,errno=5", "errno=5", "needs action=error");
    wrong("on=dma,op=flush,action=error", "flush", "is an operation of disks");
    wrong("register=NOPE,action=error", "NOPE", "is no register");
    wrong("on=weather,action=error", "weather", "is no thing to have faults");
    wrong("action=drop", "", "does not say what it is about");
    wrong("device=net0,action=link-down,count=2", "count", "says nothing about a time");
    let long = format!("device={},action=drop", "x".repeat(2000));
    assert!(long.parse::<Rule>().unwrap_err().to_string().contains("longer than 1024"));
}

#[test]
fn the_help_names_every_key_and_action() {
    for action in Action::ALL {
        assert!(HELP.contains(action.name()), "{}", action.name());
    }
    for kind in Kind::ALL {
        assert!(HELP.contains(kind.name()), "{}", kind.name());
    }
}

#[test]
fn devices_are_named_whole_by_stem_or_by_pattern() {
    let names: Vec<String> = ["ahci.0", "disk12"].map(String::from).into();
    for (device, meant) in [
        ("ahci.0", true),
        ("ahci", true),
        ("disk12", true),
        ("disk1", false),
        ("disk1*", true),
        ("*", true),
        ("ahci.1", false),
        ("ah", false),
    ] {
        let rule = rule(&format!("device={device},sector=0,action=error"));
        assert_eq!(rule.concerns(&names), meant, "{device}");
    }
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let rig = Rig::new(&["virtio-blk.0", "disk0"]);
    let why = rig.faults.add("device=disk9,action=stick").unwrap_err();
    assert_eq!(why, "the machine has no device `disk9`; it has disk0, virtio-blk.0");
    assert!(rig.faults.list().is_empty());
}

#[test]
fn rules_can_be_listed_removed_and_cleared() {
    let rig = Rig::new(&["virtio-blk.0"]);
    let (a, b) = (rig.add("sector=1,action=error"), rig.add("sector=2,action=error"));
    assert!(rig.faults.remove(a));
    assert!(!rig.faults.remove(a));
    let list = rig.faults.list();
    assert_eq!((list.len(), list[0].id, &*list[0].rule), (1, b, "sector=2,action=error"));
    rig.faults.clear();
    assert!(rig.faults.list().is_empty());
    for _ in 0..64 {
        rig.add("sector=1,action=error");
    }
    assert!(rig.faults.add("sector=1,action=error").unwrap_err().contains("64"));
}

proptest! {
    #[test]
    fn no_text_brings_the_parser_down(text in "\\PC{0,60}") {
        let _ = text.parse::<Rule>();
    }

    #[test]
    fn nor_do_keys_with_any_values(
        key in prop::sample::select(vec!["device", "op", "sector", "time", "port", "register", "errno"]),
        value in "[0-9a-z%:.-]{0,12}",
    ) {
        if let Err(error) = format!("{key}={value},action=error").parse::<Rule>() {
            prop_assert!(error.to_string().contains("fault rule"));
        }
    }
}
