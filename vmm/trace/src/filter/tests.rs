use proptest::prelude::*;
use xinim_abi::hw::virtio;
use xinim_devices::device::{Decode, GuestError, Op, Origin, Process};
use xinim_devices::trace::{EventKind, Owner, Space};

use super::*;

fn process(name: &str) -> Option<Process> {
    let mut bytes = [0; 28];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Some(Process { pid: 7, name: bytes })
}

fn write() -> Event<'static> {
    let decode = Some(Decode { table: virtio::COMMON, offset: 0x14, index: None });
    Event {
        origin: Origin {
            time_ns: 1_500_000_000,
            vcpu: Some(1),
            rip: 1,
            process: process("virtio-blk"),
        },
        device: "virtio-blk.0",
        kind: EventKind::Access {
            space: Space::Mmio,
            address: 0xFE00_0014,
            size: 1,
            op: Op::Write(15),
            value: 0,
            old: Some(7),
            decode,
            error: None,
        },
        data: &[],
    }
}

fn dma() -> Event<'static> {
    let owner = Owner::Queue { queue: 3, head: 9 };
    Event {
        origin: Origin::host(20_000_000),
        device: "virtio-blk.0",
        kind: EventKind::Dma { write: true, address: 0x1000, length: 4096, ok: false, owner },
        data: &[],
    }
}

fn takes(text: &str, event: &Event<'_>) -> bool {
    text.parse::<Filter>().unwrap_or_else(|error| panic!("{text}: {error}")).accepts(event)
}

#[test]
fn faults_and_broken_rules_are_chosen() {
    let event = |kind| Event { origin: Origin::host(1), device: "e1000.0", kind, data: b"words" };
    let fault = event(EventKind::Fault { rule: 12 });
    let violation = event(EventKind::Violation { rule: "register-reserved" });
    for (text, takes_fault, takes_violation) in [
        ("fault", true, false),
        ("violation", false, true),
        ("strict", false, true),
        ("rule=12", true, false),
        ("rule=register-*", false, true),
        ("rule != 12", false, true),
        ("error", false, true),
        ("kind=access", false, false),
    ] {
        assert_eq!(takes(text, &fault), takes_fault, "{text}");
        assert_eq!(takes(text, &violation), takes_violation, "{text}");
    }
    let interest = |text: &str| text.parse::<Filter>().unwrap().interest();
    assert_eq!(interest("strict or fault"), Interest::STRICT | Interest::FAULT);
    assert_eq!(interest("rule=12"), Interest::STRICT | Interest::FAULT);
    assert!(!takes("rule=*", &write()));
}

#[test]
fn every_field_is_compared() {
    for text in [
        "device=virtio-blk.0",
        "device=virtio-*",
        "device = 'VIRTIO-BLK.?'",
        "register=device_status",
        "register=*STATUS",
        "direction=write",
        "dir=w*",
        "process=virtio-blk and pid=7",
        "vcpu=1",
        "time>=1.5s && time<1501ms",
        "time=1.5",
        "kind=access",
        "access",
        "value=0xf",
        "value>14 and value<=15",
        "address>=4064M",
        "length=1",
        "error=no",
        "not error",
        "queue!=3",
        "! (dma or frame) and (access or config)",
        "not not access",
        "kind!=frame",
    ] {
        assert!(takes(text, &write()), "{text}");
    }
    for text in ["device=e1000.*", "queue=3", "register!=device_status", "read", "vcpu=0", "dma"] {
        if text == "read" {
            assert!(text.parse::<Filter>().is_err());
            continue;
        }
        assert!(!takes(text, &write()), "{text}");
    }
    for text in ["dma", "queue=3 and head=9", "length=4k", "error", "address=0x1000", "vcpu!=0"] {
        assert!(takes(text, &dma()), "{text}");
    }
    assert!(!takes("process=*", &dma()));
}

#[test]
fn and_binds_closer_than_or() {
    assert!(takes("access or dma and frame", &write()));
    assert!(!takes("(access or dma) and frame", &write()));
}

#[test]
fn a_drivers_mistake_is_an_error() {
    let mut event = write();
    if let EventKind::Access { error, .. } = &mut event.kind {
        *error = Some(GuestError::ReadOnly);
    }
    assert!(takes("error", &event) && takes("error=yes", &event) && !takes("error!=yes", &event));
}

#[test]
fn errors_are_sentences_with_the_position() {
    for (text, position, part) in [
        ("", 1, "no expression"),
        ("device", 1, "a comparison must follow"),
        ("device=", 8, "a value for `device`"),
        ("devise=x", 1, "no field `devise`"),
        ("(access or dma", 1, "not closed"),
        ("access) or dma", 7, "closes nothing"),
        ("access dma", 8, "`and` or `or` is missing"),
        ("access and", 11, "ends where more"),
        ("device<3", 7, "only be compared with ="),
        ("pid=abc", 5, "`abc` is no number"),
        ("time>5parsecs", 6, "is no time"),
        ("kind=banana", 6, "no kind of event `banana`"),
        ("banana", 1, "no kind of event `banana`"),
        ("access & dma", 8, "did you mean `&&`"),
        ("device=\"x", 8, "no end"),
        ("error=maybe", 7, "yes or no"),
        ("dir=sideways", 5, "no direction"),
        ("value=1.5", 7, "no number"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let deep = "(".repeat(1000);
    assert!(deep.parse::<Filter>().unwrap_err().why.contains("nested too deeply"));
    let long = vec!["access"; 300].join(" or ");
    assert!(long.parse::<Filter>().unwrap_err().why.contains("256"));
}

/// The textbook's definition.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some('*'), _) => {
            naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..]))
        }
        (Some('?'), Some(_)) => naive(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) if p == t => naive(&pattern[1..], &text[1..]),
        _ => false,
    }
}

proptest! {
    #[test]
    fn anything_parses_or_says_where(text in "[a-z=!<>&|()'\" .*0-9]{0,60}") {
        match text.parse::<Filter>() {
            Ok(filter) => { filter.accepts(&write()); filter.accepts(&dma()); }
            Err(error) => prop_assert!(error.position <= text.chars().count() + 1),
        }
    }

    #[test]
    fn globs_match_as_defined(pattern in "[ab?*]{0,8}", text in "[ab]{0,10}") {
        let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        prop_assert_eq!(Glob::new(&pattern).matches(&text), naive(&p, &t));
    }

    #[test]
    fn negation_turns_every_answer(queue in 0u16..5, limit in 0u64..5) {
        let event = Event { kind: EventKind::QueueNotify { queue }, ..dma() };
        let yes = takes(&format!("queue<{limit}"), &event);
        prop_assert_eq!(takes(&format!("not queue<{limit}"), &event), !yes);
        prop_assert_eq!(yes, u64::from(queue) < limit);
    }
}

#[test]
fn a_filter_knows_what_it_can_want() {
    let interest = |text: &str| text.parse::<Filter>().unwrap().interest();
    assert_eq!(interest("dma"), Interest::DMA);
    assert_eq!(interest("dma or kind=pop"), Interest::DMA | Interest::QUEUE | Interest::ATTRIBUTED);
    assert_eq!(
        interest("register=tdt and device=e1000*"),
        Interest::ACCESS | Interest::CONFIG | Interest::ATTRIBUTED
    );
    assert_eq!(interest("not dma"), Interest::all());
}
