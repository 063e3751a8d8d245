//! Ticks of the entry and IPC paths.

use xinim_abi::ipc::Tag;
use xinim_abi::object::Rights;
use xinim_abi::syscall as nr;

use crate::check::say;
use crate::spawn::{self, Arguments, Give};
use crate::sys::{self, call, endpoint, ipc, receive, tsc};

const ROUNDS: u64 = 1000;

/// Calls as often as it can.
extern "C" fn caller(a: &Arguments) -> ! {
    let e = a.handles[0];
    for _ in 0..10 {
        let _ = sys::call_words(e, 1, 0, 0);
    }
    let start = tsc();
    for _ in 0..ROUNDS {
        let _ = sys::call_words(e, 1, 0, 0);
    }
    let end = tsc();
    let _ = sys::call_words(e, 2, (end - start) / ROUNDS, 0);
    sys::exit(0)
}

pub fn run() {
    let start = tsc();
    for _ in 0..ROUNDS {
        let _ = sys::raw2(nr::NULL, [0; 6]);
    }
    let null = (tsc() - start) / ROUNDS;
    say("bench: ticks of a null call with its loop ", null);

    let start = tsc();
    let e = endpoint();
    let own = call(nr::HANDLE_MINT, &[e, u64::from(Rights::NOTIFY.bits()), 0]).unwrap_or(0);
    for _ in 0..ROUNDS {
        let _ = sys::notify(own, 1);
    }
    say("bench: ticks of a notification ", (tsc() - start) / ROUNDS);
    let _ = receive(e);

    let supervisor = endpoint();
    let start = tsc();
    let _child = spawn::child(supervisor, caller, &[], &[Give(e, Rights::SEND)]);
    say("bench: ticks to make a process ", tsc() - start);
    let mut r = receive(e);
    while r.tag == 1 {
        r = ipc(nr::REPLY_WAIT, e, r.rdi, Tag::new(0, 0), r.words);
    }
    say("bench: ticks of call + reply between two processes, with their loops ", r.words[0]);
}
