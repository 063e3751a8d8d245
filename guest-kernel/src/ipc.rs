//! Calls, replies and notifications, in registers.
//!
//! A message stays in its sender's register frame until somebody takes it: nothing is buffered.
//! Register use is `xinim_abi::syscall`'s. The paths of `call` and `reply_wait` are the kernel's
//! hot ones: no allocation, no formatting, and the receiver is switched to without asking the
//! scheduler unless somebody better is ready.

use xinim_abi::error::{Error, Result, encode};
use xinim_abi::ipc::{Tag, bits};
use xinim_abi::object::Rights;
use xinim_abi::syscall::RECEIVE_POLL;
use xinim_kernel_logic::refs::Ref;

use crate::endpoint::{self, Endpoint};
use crate::object::{self, Object};
use crate::process::Process;
use crate::scheduler;
use crate::thread::{self, State, Thread};
use crate::trace;

/// Operation and handle count; the other bits of a tag are reserved and not passed on.
const TAG_BITS: u64 = 0x3_FFFF_FFFF;

const SEND: u32 = Rights::SEND.bits();
const RECEIVE: u32 = Rights::RECEIVE.bits();

#[inline(always)]
fn endpoint_of(process: Ref<Process>, handle: u32, right: u32) -> Result<(Ref<Endpoint>, u64)> {
    // A free entry's object, 0, is no endpoint.
    let slot = process.handles.get_or_free(handle).ok_or(Error::BadHandle)?;
    if slot.rights & right == 0 {
        return Err(Error::BadHandle);
    }
    let endpoint = Object::unpack_endpoint(slot.object).ok_or(Error::BadHandle)?;
    Ok((endpoint, slot.badge))
}

/// The endpoint of a receiving call: the process must be its server.
#[inline(always)]
fn served_endpoint(process: Ref<Process>, handle: u32) -> Result<Ref<Endpoint>> {
    let (endpoint, _) = endpoint_of(process, handle, RECEIVE)?;
    match endpoint.owner.get() {
        Some(owner) if owner == process => Ok(endpoint),
        Some(_) => Err(Error::Perm),
        None => Err(Error::ServerDied),
    }
}

/// Copies tag and words.
#[inline(always)]
fn copy_words(from: &Thread, to: &Thread) {
    let (a, b) = (&from.frame, &to.frame);
    b.rsi.set(a.rsi.get() & TAG_BITS);
    b.rdx.set(a.rdx.get());
    b.r10.set(a.r10.get());
    b.r8.set(a.r8.get());
    b.r9.set(a.r9.get());
    b.r12.set(a.r12.get());
    b.r13.set(a.r13.get());
}

/// What a transfer of handles failed for.
enum HandleError {
    /// The sender's handle is bad (or the count).
    Sender(Error),
    /// The receiver has no room.
    Receiver(Error),
}

/// Whether the handles a message names may be sent.
#[cold]
fn check_handles(from: &Thread) -> Result<()> {
    let count = Tag(from.frame.rsi.get()).handles();
    if count > 2 {
        return Err(Error::BadMessage);
    }
    handle_words(from, count)
        .try_for_each(|(_, number)| object::lookup(from.process, number)?.has(Rights::TRANSFER))
}

/// (position, number) of the handles of a message: word 5, or words 4 and 5.
fn handle_words(from: &Thread, count: usize) -> impl Iterator<Item = (usize, u32)> + use<> {
    let words = [from.frame.r12.get(), from.frame.r13.get()];
    // A number that does not fit is no handle; 0 never is one.
    (2 - count..2).map(move |i| (i, u32::try_from(words[i]).unwrap_or(0)))
}

/// Duplicates the handles of a message into the receiver and puts its numbers into its words.
#[cold]
fn transfer_handles(from: &Thread, to: &Thread) -> core::result::Result<(), HandleError> {
    check_handles(from).map_err(HandleError::Sender)?;
    let count = Tag(from.frame.rsi.get()).handles();
    if !to.process.handles.has_room(count as u32) {
        return Err(HandleError::Receiver(Error::Limit));
    }
    let mut first = None;
    for (position, number) in handle_words(from, count) {
        let new = object::lookup(from.process, number)
            .and_then(|capability| object::install(to.process, capability));
        match new {
            Ok(new) => {
                let register = if position == 0 { &to.frame.r12 } else { &to.frame.r13 };
                register.set(u64::from(new));
                first = first.or(Some(new));
            }
            Err(error) => {
                if let Some(first) = first {
                    let _ = object::close(to.process, first);
                }
                return Err(HandleError::Receiver(error));
            }
        }
    }
    Ok(())
}

/// Hands the message of `caller`, which waits nowhere at the moment, to `receiver`. On an error
/// neither has changed.
#[inline(always)]
fn deliver(
    endpoint: Ref<Endpoint>,
    caller: Ref<Thread>,
    badge: u64,
    receiver: Ref<Thread>,
) -> Result<()> {
    let (from, to) = (caller.get(), receiver.get());
    copy_words(from, to);
    if from.frame.rsi.get() >> 32 & 3 != 0 {
        transfer_handles(from, to).map_err(|error| match error {
            HandleError::Sender(error) | HandleError::Receiver(error) => error,
        })?;
    }
    to.frame.rax.set(0);
    let token = from.new_token();
    to.frame.rdi.set(token);
    if trace::on() {
        let server = u64::from(to.process.pid & 0xF_FFFF) | u64::from(to.slot()) << 20;
        let parties = u64::from(from.process.pid) | server << 32;
        trace::event(trace::kind::CALL, from.frame.rsi.get(), token, parties);
    }
    to.frame.r14.set(badge);
    to.frame.r15.set(u64::from(from.process.pid));
    from.state.set(State::AwaitingReply);
    from.endpoint.set(Some(endpoint));
    endpoint.awaiting.set(endpoint.awaiting.get() + 1);
    Ok(())
}

/// Hands the notification bits to `receiver`.
pub fn deliver_bits(endpoint: Ref<Endpoint>, receiver: Ref<Thread>) {
    let frame = &receiver.get().frame;
    frame.rax.set(0);
    frame.rdi.set(0);
    frame.rsi.set(Tag::NOTIFICATION.0);
    frame.rdx.set(endpoint.bits.replace(0));
    for word in [&frame.r10, &frame.r8, &frame.r9, &frame.r12, &frame.r13, &frame.r14, &frame.r15] {
        word.set(0);
    }
    receiver.endpoint.set(None);
}

/// Ends the wait of a thread that is on no queue any more with an error.
pub fn fail(thread: Ref<Thread>, status: u64) {
    thread.endpoint.set(None);
    thread.set_status(status);
    scheduler::make_ready(thread);
}

/// CALL. On success the caller waits; its status comes with the reply.
#[inline(always)]
pub fn call(caller: Ref<Thread>, handle: u32) -> Result<()> {
    let (endpoint, badge) = endpoint_of(caller.process, handle, SEND)?;
    if !endpoint.alive.get() {
        return Err(Error::ServerDied);
    }
    if let Some(receiver) = endpoint.receiver() {
        deliver(endpoint, caller, badge, receiver)?;
        endpoint.take_receiver();
        receiver.endpoint.set(None);
        scheduler::hand_over(caller, receiver);
    } else {
        if caller.frame.rsi.get() >> 32 & 3 != 0 {
            check_handles(&caller)?;
        }
        caller.badge.set(badge);
        caller.endpoint.set(Some(endpoint));
        caller.state.set(State::Sending);
        endpoint.callers.push_back(caller);
        scheduler::give_up();
    }
    Ok(())
}

/// Gives the reply in `server`'s registers to the caller that `token` names. `None`: there is no
/// such caller any more (it died), or it is not this process's to answer.
#[inline(always)]
fn complete(server: Ref<Thread>, token: u64) -> Result<Option<Ref<Thread>>> {
    let Some(caller) = thread::by_token(token) else { return Ok(None) };
    let Some(endpoint) = caller.endpoint.get() else { return Ok(None) };
    if endpoint.owner.get() != Some(server.process) {
        return Ok(None);
    }
    let mut status = 0;
    if server.frame.rsi.get() >> 32 & 3 != 0 {
        match transfer_handles_of_reply(&server, &caller) {
            Ok(()) => (),
            Err(HandleError::Sender(error)) => return Err(error),
            Err(HandleError::Receiver(error)) => status = encode(Err(error)),
        }
    } else {
        copy_words(&server, &caller);
    }
    if trace::on() {
        trace::event(trace::kind::REPLY, u64::from(caller.frame.rsi.get() as u16 != 0), token, 0);
    }
    caller.set_status(status);
    endpoint.awaiting.set(endpoint.awaiting.get() - 1);
    caller.endpoint.set(None);
    Ok(Some(caller))
}

#[cold]
fn transfer_handles_of_reply(
    server: &Thread,
    caller: &Thread,
) -> core::result::Result<(), HandleError> {
    check_handles(server).map_err(HandleError::Sender)?;
    copy_words(server, caller);
    transfer_handles(server, caller)
}

/// REPLY. `Srch`: nobody waits for this token.
pub fn reply(server: Ref<Thread>, token: u64) -> Result<u64> {
    let caller = complete(server, token)?.ok_or(Error::Srch)?;
    scheduler::make_ready(caller);
    Ok(0)
}

/// REPLY_WAIT. Sets the registers itself on success.
#[inline(always)]
pub fn reply_wait(server: Ref<Thread>, handle: u32, token: u64) -> Result<()> {
    let endpoint = served_endpoint(server.process, handle)?;
    let answered = if token == 0 { None } else { complete(server, token)? };
    if endpoint.bits.get() == 0 && endpoint.callers.is_empty() {
        wait(endpoint, server);
        match answered {
            Some(caller) => scheduler::hand_over(server, caller),
            None => scheduler::give_up(),
        }
    } else {
        if let Some(caller) = answered {
            scheduler::make_ready(caller);
        }
        receive_now(endpoint, server);
    }
    Ok(())
}

/// RECEIVE. Sets the registers itself on success.
pub fn receive(server: Ref<Thread>, handle: u32, flags: u64) -> Result<()> {
    if flags & !RECEIVE_POLL != 0 {
        return Err(Error::Inval);
    }
    let endpoint = served_endpoint(server.process, handle)?;
    if endpoint.bits.get() == 0 && endpoint.callers.is_empty() && flags & RECEIVE_POLL != 0 {
        return Err(Error::Again);
    }
    receive_now(endpoint, server);
    Ok(())
}

/// NOTIFY.
pub fn notify(sender: Ref<Thread>, handle: u32, bits: u64) -> Result<u64> {
    let (endpoint, _) = endpoint_of(sender.process, handle, Rights::NOTIFY.bits())?;
    if bits & !bits::OF_PEERS != 0 {
        // Only a server and its maker say what ends it.
        endpoint_of(sender.process, handle, RECEIVE)?;
    }
    if !endpoint.alive.get() {
        return Err(Error::ServerDied);
    }
    endpoint::notify(endpoint, bits);
    Ok(0)
}

/// NOTIFY_WAIT. Sets the registers itself on success.
pub fn notify_wait(server: Ref<Thread>, handle: u32, bits: u64, target: u64) -> Result<()> {
    let endpoint = served_endpoint(server.process, handle)?;
    if let Ok(target) = u32::try_from(target) {
        // Its death is told to who watches it; here it is nothing to do.
        let _ = notify(server, target, bits);
    }
    receive_now(endpoint, server);
    Ok(())
}

#[inline(always)]
fn wait(endpoint: Ref<Endpoint>, server: Ref<Thread>) {
    server.state.set(State::Receiving);
    server.endpoint.set(Some(endpoint));
    endpoint.add_receiver(server);
}

/// Takes what waits, or waits.
fn receive_now(endpoint: Ref<Endpoint>, server: Ref<Thread>) {
    if endpoint.bits.get() != 0 {
        deliver_bits(endpoint, server);
        return;
    }
    while let Some(caller) = endpoint.callers.pop_front() {
        match deliver(endpoint, caller, caller.badge.get(), server) {
            Ok(()) => return,
            Err(error) => fail(caller, encode(Err(error))),
        }
    }
    wait(endpoint, server);
    scheduler::give_up();
}
