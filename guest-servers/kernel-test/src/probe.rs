//! PROBE: whether a server still comes to its endpoint, and what it does instead.

use xinim_abi::error::Error;
use xinim_abi::info::{Pulse, pulse, state};
use xinim_abi::ipc::bits;
use xinim_abi::object::Rights;
use xinim_abi::syscall as nr;

use crate::check::Checks;
use crate::spawn::{self, Arguments, Child, Give};
use crate::sys::{self, call, close, endpoint, receive, reply};

const SPIN: u64 = 1;
const SLEEP: u64 = 2;
const CALL: u64 = 4;
const ELSEWHERE: u64 = 8;

/// Serves its first handle until it is told to do something else.
extern "C" fn server(a: &Arguments) -> ! {
    loop {
        match receive(a.handles[0]).words[0] {
            SPIN => loop {
                core::hint::spin_loop();
            },
            SLEEP => sys::sleep_ms(1_000_000),
            CALL => drop(sys::call_words(a.handles[1], 1, 0, 0)),
            ELSEWHERE => drop(receive(endpoint())),
            _ => (),
        }
    }
}

fn probe(e: u64) -> (Result<u64, Error>, Pulse) {
    let mut record = Pulse::default();
    let address = &raw mut record as u64;
    let len = size_of::<Pulse>() as u64;
    let answer = call(nr::PROBE | e << 32, &[bits::PING, address, len]);
    (answer, record)
}

/// A server that has been told to do `what`, and its endpoint.
fn busy(c: &mut Checks, supervisor: u64, parent: u64, what: u64) -> (Child, u64) {
    let e = endpoint();
    let gives = [Give(e, Rights::RECEIVE), Give(parent, Rights::SEND)];
    let Ok(child) = spawn::prepare(supervisor, 1) else {
        sys::log("cannot make a child process");
        sys::power_off()
    };
    c.equal(call(nr::ENDPOINT_OWNER, &[e, child.process]), Ok(0), "hand over");
    c.that(child.start(server, 8, &[], &gives).and_then(close).is_ok(), "start");
    sys::sleep_ms(20);
    c.equal(probe(e).0, Ok(pulse::WAITING), "it waits");
    c.equal(sys::notify(e, what), Ok(0), "tell");
    sys::sleep_ms(20);
    (child, e)
}

fn end(c: &mut Checks, supervisor: u64, (child, e): (Child, u64)) {
    c.equal(child.kill(0), Ok(0), "kill");
    c.that(crate::death::obituary(supervisor).is_some(), "killed");
    c.equal(probe(e).0, Err(Error::ServerDied), "nobody serves it");
    child.forget();
    c.equal(close(e), Ok(0), "close");
}

pub fn probes(c: &mut Checks) {
    let supervisor = endpoint();
    let parent = endpoint();

    let spinning = busy(c, supervisor, parent, SPIN);
    c.equal(probe(spinning.1).0, Ok(pulse::RAISED), "raised");
    let (answer, first) = probe(spinning.1);
    sys::sleep_ms(20);
    let (again, second) = probe(spinning.1);
    c.that((answer, again) == (Ok(pulse::PENDING), Ok(pulse::PENDING)), "not fetched");
    // With one CPU it cannot run while this thread does.
    let able = |doing| doing == state::READY || sys::cpus() > 1 && doing == state::RUNNING;
    c.that(able(first.doing) && able(second.doing), "it wants to run");
    c.equal(second.system_calls, first.system_calls, "no system call");
    c.that(second.cpu_ns > first.cpu_ns, "but time");
    end(c, supervisor, spinning);

    let sleeping = busy(c, supervisor, parent, SLEEP);
    c.equal(probe(sleeping.1).0, Ok(pulse::RAISED), "raised");
    c.equal(u64::from(probe(sleeping.1).1.doing), u64::from(state::SLEEPING), "it sleeps");
    end(c, supervisor, sleeping);

    let elsewhere = busy(c, supervisor, parent, ELSEWHERE);
    c.equal(probe(elsewhere.1).0, Ok(pulse::RAISED), "raised");
    c.equal(u64::from(probe(elsewhere.1).1.doing), u64::from(state::RECEIVING), "it receives");
    end(c, supervisor, elsewhere);

    let calling = busy(c, supervisor, parent, CALL);
    c.equal(probe(calling.1).0, Ok(pulse::RAISED), "raised");
    let (_, record) = probe(calling.1);
    c.that(record.doing == state::SENDING && record.waits_for == 1, "it calls us");
    let token = receive(parent).rdi;
    let (_, record) = probe(calling.1);
    c.that(record.doing == state::AWAITING_REPLY && record.waits_for == 1, "it awaits our reply");
    c.equal(reply(token, 0, 0).status(), Ok(0), "reply");
    sys::sleep_ms(20);
    c.equal(probe(calling.1).0, Ok(pulse::WAITING), "it fetched the bits and waits");
    // Who may only notify may not ask.
    let notify = u64::from(Rights::NOTIFY.bits());
    let lesser = call(nr::HANDLE_MINT, &[calling.1, notify, 0]).unwrap_or(0);
    c.equal(probe(lesser).0, Err(Error::BadHandle), "without RECEIVE");
    c.equal(close(lesser), Ok(0), "close");
    end(c, supervisor, calling);
    for handle in [supervisor, parent] {
        c.equal(close(handle), Ok(0), "close");
    }
}
