//! Random courses of events against the invariants.

use super::world::*;
use crate::*;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::ipc::bits;

#[derive(Clone, Debug)]
enum Step {
    Announce(usize),
    Fault(usize),
    Exit(usize, i64),
    Reap,
    Control(u32, usize),
    Lookup(usize, bool),
    Spawn,
    Function(u32),
    Done,
    Pass(u64),
    StaleObituary(u64, u32),
    Shutdown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..8).prop_map(Step::Announce),
        3 => (0usize..8).prop_map(Step::Fault),
        2 => (0usize..8, 0i64..2).prop_map(|(i, c)| Step::Exit(i, c)),
        4 => Just(Step::Reap),
        4 => (0u32..8, 0usize..8).prop_map(|(o, i)| Step::Control(o, i)),
        3 => (0usize..8, any::<bool>()).prop_map(|(i, w)| Step::Lookup(i, w)),
        2 => Just(Step::Spawn),
        2 => (0u32..4).prop_map(Step::Function),
        1 => Just(Step::Done),
        3 => (1u64..3000).prop_map(Step::Pass),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(c, p)| Step::StaleObituary(c, p)),
        1 => Just(Step::Shutdown),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens: one process at most for each slot (asserted in `Fake`), only live
    /// slots have one, no request is answered twice, and at the end of the system every kept
    /// request has been answered.
    #[test]
    fn any_course_of_events(steps in steps()) {
        let mut w = World::boot(&PCI);
        let labels = |w: &World| -> Vec<String> {
            w.core.slots().map(|(_, s)| s.label.to_string()).collect()
        };
        let live = |w: &World, i: usize| -> Option<String> {
            let all: Vec<_> = w.host.live.values().map(|l| l.2.clone()).collect();
            all.get(i % all.len().max(1)).cloned()
        };
        let mut asked: Vec<u64> = Vec::new();
        let keep = |asked: &mut Vec<u64>, (token, answer): (u64, Option<Answer>)| {
            if answer.is_none() { asked.push(token) }
        };
        for step in steps {
            match step {
                Step::Announce(i) => if let Some(l) = live(&w, i) { w.announce(&l) },
                Step::Fault(i) => if let Some(l) = live(&w, i) { w.fault(&l) },
                Step::Exit(i, code) => if let Some(l) = live(&w, i) { w.exit(&l, code) },
                Step::Reap => w.reap(),
                Step::Control(operation, i) => {
                    let all = labels(&w);
                    let label = all[i % all.len()].clone();
                    let kept = w.control(operation, &label);
                    keep(&mut asked, kept);
                    // An injected fault is one.
                    for (id, b) in core::mem::take(&mut w.host.notified) {
                        if b == bits::INJECT_FAULT && let Some(l) = w.host.live.get(&id).cloned() {
                            w.fault(&l.2);
                        }
                    }
                }
                Step::Lookup(i, wait) => {
                    let label = ["disk", "disk.1", "disk.9"][i % 3];
                    let kept = w.lookup((0, 50), label, wait);
                    keep(&mut asked, kept);
                }
                Step::Spawn => if w.host.live.contains_key(&w.id("vfs")) {
                    let kept = w.spawn("fat");
                    keep(&mut asked, kept);
                },
                Step::Function(n) => if w.host.live.contains_key(&w.id("pci")) {
                    w.add(function(n << 3, 100 + 2 * n));
                },
                Step::Done => if w.host.live.contains_key(&w.id("pci")) { w.done() },
                Step::Pass(ms) => { let ms = w.host.now / MS + ms; w.at(ms) }
                Step::StaleObituary(cookie, pid) => {
                    let obituary = Obituary { cookie, pid, cause: cause::EXIT, ..Default::default() };
                    w.core.died(&mut w.host, &obituary);
                }
                Step::Shutdown => { let _ = w.core.shut_down(&mut w.host, 0, 50, false); }
            }
            for (id, slot) in w.core.slots() {
                prop_assert_eq!(slot.state.is_live(), w.host.live.contains_key(&id), "{:?}", slot);
                prop_assert_eq!(slot.pid != 0, slot.state.is_live());
            }
            prop_assert_eq!(w.host.live.len(), w.core.slots().filter(|(_, s)| s.pid != 0).count());
        }
        // At the end of the system nobody is left waiting.
        let _ = w.core.shut_down(&mut w.host, 0, 50, false);
        for _ in 0..16 {
            while let Some(label) = live(&w, 0) {
                w.exit(&label, 0);
            }
        }
        prop_assert_eq!(w.host.end, Some(End::PowerOff));
        for token in asked {
            prop_assert!(w.host.answers.contains_key(&token), "token {}", token);
        }
    }
}
