//! `ipcbench`: what entering the kernel and IPC cost. `name value` a line; `_tsc` is ticks of the
//! time-stamp counter each, which under QEMU's `-icount shift=0` are instructions, `_ns` the same
//! as time.
//!
//! The counts hold the few instructions of ring 3 on both sides: the run-time library's stubs,
//! and for `call_reply` what VFS needs to refuse an unknown operation. `thread_call_reply` has a
//! bare server in a thread of this process: no change of the address space. The kernel's own
//! instructions alone are measured by the kernel's self-test.

use alloc::vec;

use xinim_abi::interface::REPLY_ERROR;
use xinim_abi::ipc::{Message, ReplyToken, Tag};
use xinim_abi::object::{Handle, SELF};
use xinim_abi::start::role;
use xinim_abi::syscall::priority;
use xinim_rt::{kip, start, sys, time};

/// Rounds of each measurement, and rounds before it that fill caches and page tables.
const ROUNDS: u64 = 1000;
const WARM_UP: u64 = 20;

/// No interface has this number.
const UNKNOWN: u16 = 0x7F01;
const STACK_LEN: usize = 64 * 1024;

pub fn main() -> i32 {
    let vfs = start::handle(role::VFS).unwrap_or(0);
    let request = Message { tag: Tag::new(UNKNOWN, 0), words: [0; 6] };
    match sys::ipc_call(vfs, &request) {
        Ok(reply) if reply.tag.op() == REPLY_ERROR => {}
        _ => {
            xinim_rt::eprintln!("ipcbench: vfs does not answer");
            return 1;
        }
    }
    let Ok(endpoint) = sys::endpoint_create() else {
        xinim_rt::eprintln!("ipcbench: no endpoint");
        return 1;
    };
    xinim_rt::println!("rounds {ROUNDS}");
    measure("null_call", || {
        let _ = sys::null();
    });
    measure("call_reply", || {
        let _ = sys::ipc_call(vfs, &request);
    });
    // To an endpoint where nobody waits, and fetched again.
    measure("notify_receive", || {
        let _ = sys::notify(endpoint, 1);
        let _ = sys::receive(endpoint);
    });
    if !start_server(endpoint) {
        xinim_rt::eprintln!("ipcbench: no thread");
        return 1;
    }
    measure("thread_call_reply", || {
        let _ = sys::ipc_call(endpoint, &request);
    });
    0
}

fn measure(name: &str, mut run: impl FnMut()) {
    for _ in 0..WARM_UP {
        run();
    }
    let (start_tsc, start_ns) = (kip::tsc(), time::now_ns());
    for _ in 0..ROUNDS {
        run();
    }
    let (tsc, ns) = (kip::tsc() - start_tsc, time::now_ns() - start_ns);
    xinim_rt::println!("{name}_tsc {}", tsc / ROUNDS);
    xinim_rt::println!("{name}_ns {}", ns / ROUNDS);
}

/// A thread that answers every call on `endpoint`.
fn start_server(endpoint: Handle) -> bool {
    // Never freed: the thread lives as long as the process.
    let stack = vec![0u8; STACK_LEN].leak();
    let top = stack.as_mut_ptr_range().end as u64 & !15;
    // As after a call: the return address would be at a multiple of 16, less 8.
    sys::thread_create(SELF, serve as *const () as u64, top - 8, endpoint.into(), priority::USER)
        .is_ok()
}

extern "C" fn serve(endpoint: u64) -> ! {
    let endpoint = endpoint as Handle;
    let reply = Message { tag: Tag::new(0, 0), words: [0; 6] };
    let mut token = ReplyToken::NONE;
    loop {
        match sys::reply_wait(endpoint, token, &reply) {
            Ok(received) => token = received.token,
            Err(_) => sys::process_exit(1),
        }
    }
}
