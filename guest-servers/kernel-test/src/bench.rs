//! Ticks of the entry and IPC paths. Each loop is run twice, through the kernel's gate and through
//! one that returns at once; the difference is the kernel's share (with the one entering
//! instruction). Under `-icount shift=0` a tick is an instruction, and the figures are exact.

use core::arch::global_asm;

use xinim_abi::ipc::Tag;
use xinim_abi::kip::GATE_ADDRESS;
use xinim_abi::object::Rights;
use xinim_abi::syscall as nr;

use crate::check::say;
use crate::spawn::{self, Arguments, Give};
use crate::sys::{self, call, endpoint, receive, tsc};

const ROUNDS: u64 = 1000;

global_asm!(".global empty_gate", "empty_gate:", "ret");

unsafe extern "C" {
    fn empty_gate();
}

fn empty() -> u64 {
    empty_gate as *const () as u64
}

/// Ticks of one call through `gate` in a client's loop.
#[inline(never)]
fn client_loop(gate: u64, e: u64) -> u64 {
    let start = tsc();
    for _ in 0..ROUNDS {
        sys::ipc_at(gate, nr::CALL, e, 0, Tag::new(1, 0), [1, 2, 3, 4, 5, 6]);
    }
    tsc() - start
}

/// Serves until a call with another tag than 1 comes (through the empty gate: `ROUNDS` times).
#[inline(never)]
fn server_loop(gate: u64, e: u64, mut left: u64) -> [u64; 6] {
    let mut r = sys::ipc_at(gate, nr::REPLY_WAIT, e, 0, Tag::new(1, 0), [0; 6]);
    while r.tag == 1 && left != 0 {
        r = sys::ipc_at(gate, nr::REPLY_WAIT, e, r.rdi, Tag::new(1, 0), r.words);
        left -= 1;
    }
    r.words
}

extern "C" fn client(a: &Arguments) -> ! {
    let e = a.handles[0];
    client_loop(GATE_ADDRESS, e);
    let ticks = client_loop(GATE_ADDRESS, e);
    let own = client_loop(empty(), e);
    let _ = sys::call_words(e, 2, ticks, own);
    sys::exit(0)
}

pub fn run() {
    let null = |gate| {
        let start = tsc();
        for _ in 0..ROUNDS {
            sys::raw_at(gate, nr::NULL, [0; 6]);
        }
        tsc() - start
    };
    null(GATE_ADDRESS);
    let (all, own) = (null(GATE_ADDRESS), null(empty()));
    say("bench: null call, kernel ticks ", (all - own) / ROUNDS);

    let e = endpoint();
    let supervisor = endpoint();
    let start = tsc();
    let _child = spawn::child(supervisor, client, &[], &[Give(e, Rights::SEND)]);
    say("bench: making a process, ticks with the user's share ", tsc() - start);
    let [all, own, ..] = server_loop(GATE_ADDRESS, e, u64::MAX);
    let start = tsc();
    server_loop(empty(), e, ROUNDS);
    let server_own = tsc() - start;
    say("bench: call + reply, kernel ticks ", (all - own - server_own) / ROUNDS);
    say("bench: call + reply, all ticks ", all / ROUNDS);

    let start = tsc();
    for _ in 0..ROUNDS {
        let _ = sys::notify(e, 1);
    }
    say(
        "bench: notification without receiver, ticks with the user's share ",
        (tsc() - start) / ROUNDS,
    );
    let _ = receive(e);
    let start = tsc();
    let memory = call(nr::MEMORY_CREATE, &[1 << 20, 0]).unwrap_or(0);
    say("bench: 1 MiB of memory, ticks with the user's share ", tsc() - start);
    let _ = sys::close(memory);
}
