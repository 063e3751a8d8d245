//! Messages, handles in them, notifications.

use xinim_abi::error::{Error, decode};
use xinim_abi::ipc::{Tag, bits};
use xinim_abi::object::{Protection, Rights};
use xinim_abi::syscall as nr;

use crate::check::Checks;
use crate::death;
use crate::spawn::{self, Arguments, Give, map};
use crate::sys::{self, call, close, endpoint, ipc, poll, receive, reply};

const CLIENT: Rights = Rights::SEND.union(Rights::TRANSFER);

/// Calls with counting words and checks the answer; exit 42 when all is as it should be.
extern "C" fn client(a: &Arguments) -> ! {
    for round in 0..3u64 {
        let words = [round, 1, 2, 3, 4, u64::MAX];
        let r = ipc(nr::CALL, a.handles[0], 0, Tag::new(0x1234, 0), words);
        let wanted = [round + 1, 11, 12, 13, 14, 15];
        if r.status() != Ok(0) || r.tag != 0x4321 || r.words != wanted {
            sys::exit(round + 1);
        }
    }
    sys::exit(42)
}

pub fn messages(c: &mut Checks) {
    let supervisor = endpoint();
    let e = endpoint();
    let badged =
        call(nr::HANDLE_MINT, &[e, u64::from(CLIENT.bits()), 0xABCD_0000_0000_0001]).unwrap_or(0);
    let child = spawn::child(supervisor, client, &[], &[Give(badged, CLIENT)]);
    let mut r = receive(e);
    let mut tokens = [0; 3];
    for round in 0..3u64 {
        c.equal(r.status(), Ok(0), "receive");
        c.that(r.tag == 0x1234 && r.words == [round, 1, 2, 3, 4, u64::MAX], "words");
        c.equal(r.badge, 0xABCD_0000_0000_0001, "badge");
        c.equal(r.sender, child.pid, "sender");
        tokens[round as usize] = r.rdi;
        let tag = Tag::new(0x4321, 0);
        let words = [round + 1, 11, 12, 13, 14, 15];
        if round < 2 {
            r = ipc(nr::REPLY_WAIT, e, r.rdi, tag, words);
        } else {
            c.equal(ipc(nr::REPLY, 0, r.rdi, tag, words).status(), Ok(0), "reply");
        }
    }
    c.that(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != 0, "tokens differ");
    for token in tokens {
        c.equal(reply(token, 0, 0).status(), Err(Error::Srch), "old token");
    }
    c.that(death::exit_code(supervisor) == Some(42), "what the client saw");
    child.forget();
    for handle in [supervisor, badged, e] {
        c.equal(close(handle), Ok(0), "close");
    }
}

/// Sends a memory object and an endpoint; gets one handle back.
extern "C" fn handle_sender(a: &Arguments) -> ! {
    let Ok(memory) = call(nr::MEMORY_CREATE, &[4096, 0]) else { sys::exit(1) };
    let at = 0x60_0000_0000;
    if map(0, memory, at, 0, 4096, Protection::READ | Protection::WRITE).is_err() {
        sys::exit(2);
    }
    // SAFETY: mapped just now.
    unsafe { *(at as *mut u64) = 0x5EC2E7 };
    let mine = endpoint();
    let r = ipc(nr::CALL, a.handles[0], 0, Tag::new(1, 2), [9, 8, 7, 6, memory, mine]);
    if r.status() != Ok(0) || Tag(r.tag).handles() != 1 {
        sys::exit(3);
    }
    // The handle in the reply: an endpoint to call.
    if sys::notify(r.words[5], 1) != Ok(0) {
        sys::exit(4);
    }
    // Bad ones fail here, and reach nobody.
    for (tag, words) in [
        (Tag::new(1, 1), [0, 0, 0, 0, 0, 0xFFFF_F000]),
        (Tag::new(1, 2), [0, 0, 0, 0, 1 << 40, memory]),
        (Tag::new(1, 1), [0; 6]),
    ] {
        if ipc(nr::CALL, a.handles[0], 0, tag, words).status() != Err(Error::BadHandle) {
            sys::exit(5);
        }
    }
    if ipc(nr::CALL, a.handles[0], 0, Tag::new(1, 3), [0; 6]).status() != Err(Error::BadMessage) {
        sys::exit(6);
    }
    // Without TRANSFER it cannot be sent.
    let read = u64::from(Rights::READ.bits());
    let kept = call(nr::HANDLE_MINT, &[memory, read, 0]).unwrap_or(0);
    let r = ipc(nr::CALL, a.handles[0], 0, Tag::new(1, 1), [0, 0, 0, 0, 0, kept]);
    if r.status() != Err(Error::BadHandle) {
        sys::exit(7);
    }
    sys::exit(42)
}

pub fn handles(c: &mut Checks) {
    let supervisor = endpoint();
    let e = endpoint();
    let other = endpoint();
    let child = spawn::child(supervisor, handle_sender, &[], &[Give(e, CLIENT)]);
    let r = receive(e);
    c.equal(Tag(r.tag).handles() as u64, 2, "handle count");
    c.that(r.words[..4] == [9, 8, 7, 6], "plain words");
    let (memory, endpoint_of_child) = (r.words[4], r.words[5]);
    let at = 0x60_0000_0000;
    c.equal(map(0, memory, at, 0, 4096, Protection::READ), Ok(0), "map what came");
    // SAFETY: mapped just now.
    c.equal(unsafe { *(at as *const u64) }, 0x5EC2E7, "shared");
    c.equal(call(nr::HANDLE_INFO, &[endpoint_of_child]), Ok(3), "an endpoint");
    c.equal(receive(endpoint_of_child).status(), Err(Error::Perm), "served by the child");
    // A bad handle in a reply is the server's error, and the caller goes on waiting.
    let r2 = ipc(nr::REPLY, 0, r.rdi, Tag::new(0, 1), [0, 0, 0, 0, 0, 12345]);
    c.equal(r2.status(), Err(Error::BadHandle), "bad handle in a reply");
    let r2 = ipc(nr::REPLY, 0, r.rdi, Tag::new(0, 1), [0, 0, 0, 0, 0, other]);
    c.equal(r2.status(), Ok(0), "reply with a handle");
    let r = receive(other);
    c.that(r.tag == Tag::NOTIFICATION.0 && r.words[0] == 1, "through the handle");
    c.that(death::exit_code(supervisor) == Some(42), "what the sender saw");
    c.equal(call(nr::MEMORY_UNMAP, &[0, at, 4096]), Ok(0), "unmap");
    child.forget();
    let dead = sys::notify(endpoint_of_child, 1);
    c.equal(dead, Err(Error::ServerDied), "its endpoint died with it");
    for handle in [supervisor, e, other, memory, endpoint_of_child] {
        c.equal(close(handle), Ok(0), "close");
    }
}

/// Notifies, then calls: the notification comes first.
extern "C" fn notifier(a: &Arguments) -> ! {
    let e = a.handles[0];
    if sys::notify(e, 0b101) != Ok(0) || sys::notify(e, 0b1000) != Ok(0) {
        sys::exit(1);
    }
    let r = sys::call_words(e, 5, 0, 0);
    sys::exit(if r.status() == Ok(0) { 42 } else { 2 })
}

/// Raises what only a server's maker may, then calls with the tag of a notification.
extern "C" fn forger(a: &Arguments) -> ! {
    let e = a.handles[0];
    for bit in [bits::TERMINATE, bits::INJECT_FAULT, bits::OBITUARY, 1 << 48, u64::MAX] {
        if sys::notify(e, bit) != Err(Error::BadHandle) {
            sys::exit(1);
        }
    }
    if sys::notify(e, bits::OF_PEERS) != Ok(0) {
        sys::exit(2);
    }
    let r = ipc(nr::CALL, e, 0, Tag::NOTIFICATION, [u64::MAX; 6]);
    sys::exit(if r.status() == Ok(0) { 42 } else { 3 })
}

pub fn forged_notifications(c: &mut Checks) {
    let supervisor = endpoint();
    let e = endpoint();
    let child = spawn::child(supervisor, forger, &[], &[Give(e, CLIENT | Rights::NOTIFY)]);
    let r = receive(e);
    c.that(r.rdi == 0 && r.words[0] == bits::OF_PEERS, "no bit of RS's among what came");
    let r = receive(e);
    c.that(r.tag == Tag::NOTIFICATION.0 && r.rdi != 0, "a call has a token, whatever its tag");
    c.equal(ipc(nr::REPLY, 0, r.rdi, Tag(0), [0; 6]).status(), Ok(0), "and is answered");
    c.that(death::exit_code(supervisor) == Some(42), "what the forger saw");
    child.forget();
    for handle in [supervisor, e] {
        c.equal(close(handle), Ok(0), "close");
    }
}

pub fn notifications(c: &mut Checks) {
    let supervisor = endpoint();
    let e = endpoint();
    c.equal(poll(e).status(), Err(Error::Again), "nothing there");
    c.equal(ipc(nr::RECEIVE, e, 2, Tag(0), [0; 6]).status(), Err(Error::Inval), "unknown flag");
    c.equal(sys::notify(e, bits::PING | 3), Ok(0), "notify oneself");
    c.equal(sys::notify(e, 4), Ok(0), "more bits");
    let r = receive(e);
    c.that(r.tag == Tag::NOTIFICATION.0 && r.rdi == 0 && r.badge == 0 && r.sender == 0, "shape");
    c.equal(r.words[0], bits::PING | 7, "bits gather");
    c.equal(poll(e).status(), Err(Error::Again), "and are cleared");
    let other = endpoint();
    c.equal(sys::notify(e, 8), Ok(0), "bits for the next wait");
    let r = sys::notify_wait(e, other, 16);
    c.that(r.tag == Tag::NOTIFICATION.0 && r.words[0] == 8, "notify and wait: what was there");
    c.equal(poll(other).words[0], 16, "and the other is notified");
    let r = sys::notify_wait(e, e, 32);
    c.that(r.tag == Tag::NOTIFICATION.0 && r.words[0] == 32, "notify oneself and wait");
    c.equal(close(other), Ok(0), "close");
    c.equal(sys::notify(e, 64), Ok(0), "bits for the next wait");
    let r = sys::notify_wait(e, other, 16);
    c.that(r.status() == Ok(0) && r.words[0] == 64, "a target that is none is ignored");
    let r = sys::notify_wait(other, e, 16);
    c.equal(r.status(), Err(Error::BadHandle), "an endpoint that is none is not");
    c.equal(poll(e).status(), Err(Error::Again), "and nobody is notified");
    let rights = CLIENT | Rights::NOTIFY;
    let child = spawn::child(supervisor, notifier, &[], &[Give(e, rights)]);
    // Let it do all three before looking.
    sys::sleep_ms(20);
    let r = receive(e);
    c.that(r.tag == Tag::NOTIFICATION.0 && r.words[0] == 0b1101, "bits before calls");
    let r = ipc(nr::REPLY_WAIT, e, 0, Tag(0), [0; 6]);
    c.equal(r.tag, 5, "then the call");
    c.equal(reply(r.rdi, 0, 0).status(), Ok(0), "reply");
    c.that(death::exit_code(supervisor) == Some(42), "notifier");
    child.forget();
    c.equal(close(supervisor), Ok(0), "close");
    c.equal(close(e), Ok(0), "close");
}

/// Tries with an endpoint what its handle does not allow.
extern "C" fn intruder(a: &Arguments) -> ! {
    let [send, notify, _, _] = a.handles;
    let bad = Err(Error::BadHandle);
    let tries = [
        ipc(nr::CALL, notify, 0, Tag::new(1, 0), [0; 6]).status(),
        ipc(nr::CALL, 0x7777, 0, Tag::new(1, 0), [0; 6]).status(),
        ipc(nr::CALL, 0, 0, Tag::new(1, 0), [0; 6]).status(),
        sys::notify(send, 1),
        receive(send).status(),
        receive(notify).status(),
        ipc(nr::REPLY_WAIT, send, 0, Tag(0), [0; 6]).status(),
        call(nr::TIMER_SET, &[send, 0]),
        call(nr::EVENT_NEXT, &[send, a as *const Arguments as u64, 4096]),
        call(nr::WATCH, &[1, send, 0]),
        call(nr::ENDPOINT_OWNER, &[send, 0]),
        call(nr::HANDLE_GIVE, &[send, send, 0]),
        call(nr::MEMORY_INFO, &[send]),
        call(nr::IRQ_ACK, &[send]),
        call(nr::PORTS_READ, &[send, 0, 1]),
        call(nr::DEVICE_RESET_DONE, &[send]),
        call(nr::THREAD_CREATE, &[send, 0x1000, 0x1000, 0, 1, 0]),
        call(nr::LOG_READ, &[send, 0, a as *const Arguments as u64, 8]),
        call(nr::MEMORY_DEVICE, &[send, 0xFEC0_0000, 4096, 0]),
        call(nr::DEVICE_CREATE, &[send, 0, 0]),
        call(nr::IRQ_CREATE, &[send, 4, 0]),
    ];
    if let Some(number) = tries.iter().position(|&got| got != bad) {
        sys::exit(number as u64 + 1);
    }
    // Tokens of others, or none at all.
    for token in [1, 4096, 8192, 0x7FFF_FFFF, u64::MAX, a.values[0]] {
        if reply(token, 0, 0).status() != Err(Error::Srch) {
            sys::exit(100);
        }
    }
    sys::exit(42)
}

pub fn refusals(c: &mut Checks) {
    let supervisor = endpoint();
    let e = endpoint();
    // A client waits for a reply meanwhile, so that there is a token to steal.
    let waiting = spawn::child(supervisor, client, &[], &[Give(e, CLIENT)]);
    let token = receive(e).rdi;
    let gives = [Give(e, CLIENT), Give(e, Rights::NOTIFY)];
    let child = spawn::child(supervisor, intruder, &[token], &gives);
    c.that(death::exit_code(supervisor) == Some(42), "an intruder is refused everything");
    child.forget();
    c.equal(waiting.kill(0), Ok(0), "kill");
    let _ = death::exit_code(supervisor);
    c.equal(reply(token, 0, 0).status(), Err(Error::Srch), "the caller died");
    sys::notify(e, 2).ok();
    let r = ipc(nr::REPLY_WAIT, e, token, Tag(0), [0; 6]);
    c.that(r.status() == Ok(0) && r.words[0] == 2, "reply_wait with a stale token just waits");
    waiting.forget();
    c.that(decode(u64::MAX - 8) == Err(Error::BadF), "errors travel");
    c.equal(close(supervisor), Ok(0), "close");
    c.equal(close(e), Ok(0), "close");
}
