//! Endpoints: where a server receives calls and notification bits.
//!
//! ```text
//!            call                 receive                reply
//! caller ----------> callers ---------------> awaiting ---------> (runs)
//!                    (Sending)                (AwaitingReply)
//! server   receive: bits first, then callers, else it waits (Receiving)
//! ```
//! An endpoint dies with the process that serves it, or when no handle is left that could
//! receive; whoever waits on it gets `ServerDied`.

use core::cell::Cell;

use xinim_abi::error::{Error, encode};
use xinim_abi::event::Obituary;
use xinim_abi::ipc::bits;
use xinim_kernel_logic::list::{Link, Linked, List};
use xinim_kernel_logic::refs::{Ref, Slab};
use xinim_kernel_logic::timers::{Node, Timed};

use crate::global::Global;
use crate::interrupt::{self, Interrupt};
use crate::ipc;
use crate::physical;
use crate::process::Process;
use crate::scheduler;
use crate::thread::{self, QUEUE, State, Thread};
use crate::trace;

#[repr(C, align(16))]
pub struct Endpoint {
    pub alive: Cell<bool>,
    /// Handles with the RECEIVE right.
    pub receivers_possible: Cell<u32>,
    /// The process that serves it.
    pub owner: Cell<Option<Ref<Process>>>,
    pub bits: Cell<u64>,
    /// The thread that receives; further ones are on `more_receivers`.
    receiver: Cell<Option<Ref<Thread>>>,
    more_receivers: List<Thread, QUEUE>,
    pub callers: List<Thread, QUEUE>,
    /// Callers that were received and wait for the reply. They are on no list: their tokens lead
    /// to them, and the endpoint's death looks through all threads.
    pub awaiting: Cell<u32>,
    pub references: Cell<u32>,
    owned: Link<Endpoint>,
    timer: Node<Endpoint>,
    /// Obituaries not fetched yet.
    pub events: List<Watch, 0>,
    /// A supervisor's obituary that was fetched last: it is heard of when the next is asked for.
    fetched: Cell<Option<Ref<Watch>>>,
    /// Watches on living processes that will report here.
    pub watches: List<Watch, 1>,
    pub interrupts: List<Interrupt, 0>,
}

impl Linked<0> for Endpoint {
    fn link(&self) -> &Link<Self> {
        &self.owned
    }
}

impl Timed for Endpoint {
    fn timer(&self) -> &Node<Self> {
        &self.timer
    }
}

/// Somebody's wish to hear of a process's end. Made when the wish is uttered, so that the end
/// needs no memory. On its process's list and on `watches` until then; on `events` after it.
#[repr(C, align(16))]
pub struct Watch {
    pub cookie: u64,
    endpoint: Cell<Ref<Endpoint>>,
    pub process: Ref<Process>,
    /// The supervisor's: it outlives its endpoint, see [`adopt`].
    supervises: bool,
    pub obituary: Cell<Obituary>,
    main: Link<Watch>,
    by_endpoint: Link<Watch>,
}

impl Linked<0> for Watch {
    fn link(&self) -> &Link<Self> {
        &self.main
    }
}

impl Linked<1> for Watch {
    fn link(&self) -> &Link<Self> {
        &self.by_endpoint
    }
}

static ENDPOINTS: Global<Slab<Endpoint>> = Global::new(Slab::new());
static WATCHES: Global<Slab<Watch>> = Global::new(Slab::new());
/// Where the watches of supervisors go whose endpoints have died: nobody receives there.
static LIMBO: Global<Cell<Option<Ref<Endpoint>>>> = Global::new(Cell::new(None));
/// Obituaries there.
static UNHEARD: Global<Cell<u32>> = Global::new(Cell::new(0));
/// Most of these; then the oldest goes.
const MAX_UNHEARD: u32 = 256;

/// An endpoint served by `owner`; the caller owns the one reference.
pub fn create(owner: Ref<Process>) -> Result<Ref<Endpoint>, Error> {
    let endpoint = allocate(Some(owner)).ok_or(Error::NoMem)?;
    owner.endpoints.push_back(endpoint);
    Ok(endpoint)
}

fn allocate(owner: Option<Ref<Process>>) -> Option<Ref<Endpoint>> {
    let endpoint = Endpoint {
        alive: Cell::new(true),
        receivers_possible: Cell::new(0),
        owner: Cell::new(owner),
        bits: Cell::new(0),
        receiver: Cell::new(None),
        more_receivers: List::new(),
        callers: List::new(),
        awaiting: Cell::new(0),
        references: Cell::new(1),
        owned: Link::new(),
        timer: Node::new(),
        events: List::new(),
        fetched: Cell::new(None),
        watches: List::new(),
        interrupts: List::new(),
    };
    ENDPOINTS.allocate(endpoint, physical::slab_page)
}

fn limbo() -> Option<Ref<Endpoint>> {
    if LIMBO.get().is_none() {
        LIMBO.set(allocate(None));
    }
    LIMBO.get()
}

/// Makes `process` the server.
pub fn set_owner(endpoint: Ref<Endpoint>, process: Ref<Process>) {
    if let Some(old) = endpoint.owner.replace(Some(process)) {
        old.endpoints.remove(endpoint);
    }
    process.endpoints.push_back(endpoint);
}

impl Endpoint {
    /// The thread that would receive next.
    #[inline(always)]
    pub fn receiver(&self) -> Option<Ref<Thread>> {
        self.receiver.get()
    }

    /// It received.
    #[inline(always)]
    pub fn take_receiver(&self) {
        self.receiver.set(None);
        if !self.more_receivers.is_empty() {
            self.receiver.set(self.more_receivers.pop_front());
        }
    }

    /// One more thread receives.
    #[inline(always)]
    pub fn add_receiver(&self, thread: Ref<Thread>) {
        if self.receiver.get().is_none() {
            self.receiver.set(Some(thread));
        } else {
            self.more_receivers.push_back(thread);
        }
    }

    /// Takes a thread that is being ended out of whatever queue it waits in.
    pub fn forget_waiter(&self, thread: Ref<Thread>) {
        match thread.state.get() {
            State::Receiving if self.receiver.get() == Some(thread) => self.take_receiver(),
            State::Receiving => self.more_receivers.remove(thread),
            State::Sending => self.callers.remove(thread),
            State::AwaitingReply => self.awaiting.set(self.awaiting.get() - 1),
            _ => (),
        }
    }
}

/// Sets notification bits; a waiting receiver gets them at once.
#[inline]
pub fn notify(endpoint: Ref<Endpoint>, new: u64) {
    if !endpoint.alive.get() {
        return;
    }
    endpoint.bits.set(endpoint.bits.get() | new);
    if trace::on() {
        let owner = endpoint.owner.get().map_or(0, |owner| owner.pid);
        trace::event(trace::kind::NOTIFY, 0, new, owner.into());
    }
    if endpoint.bits.get() != 0
        && let Some(receiver) = endpoint.receiver()
    {
        endpoint.take_receiver();
        ipc::deliver_bits(endpoint, receiver);
        scheduler::make_ready(receiver);
    }
}

/// Registers a wish to hear of the end of `process`.
pub fn watch(
    endpoint: Ref<Endpoint>,
    process: Ref<Process>,
    cookie: u64,
    supervises: bool,
) -> Result<(), Error> {
    let watch = Watch {
        cookie,
        endpoint: Cell::new(endpoint),
        process,
        supervises,
        obituary: Cell::new(Obituary::default()),
        main: Link::new(),
        by_endpoint: Link::new(),
    };
    let watch = WATCHES.allocate(watch, physical::slab_page).ok_or(Error::NoMem)?;
    process.watches.push_back(watch);
    process.watch_count.set(process.watch_count.get() + 1);
    endpoint.watches.push_back(watch);
    Ok(())
}

/// Makes `endpoint` hear of an orphan's end; the process, or `None` if the end has come already.
pub fn adopt(
    endpoint: Ref<Endpoint>,
    pid: u32,
    cookie: u64,
) -> Result<Option<Ref<Process>>, Error> {
    let limbo = LIMBO.get().ok_or(Error::Srch)?;
    if let Some(old) = limbo.watches.iter().find(|watch| watch.process.pid == pid) {
        let process = old.process;
        watch(endpoint, process, cookie, true)?;
        unwatch(old);
        return Ok(Some(process));
    }
    let unheard = limbo.events.iter().find(|watch| watch.obituary.get().pid == pid);
    let watch = unheard.ok_or(Error::Srch)?;
    limbo.events.remove(watch);
    UNHEARD.set(UNHEARD.get() - 1);
    watch.obituary.set(Obituary { cookie, ..watch.obituary.get() });
    endpoint.events.push_back(watch);
    notify(endpoint, bits::OBITUARY);
    Ok(None)
}

/// Keeps an obituary for whoever adopts its process.
fn keep_unheard(limbo: Ref<Endpoint>, watch: Ref<Watch>) {
    limbo.events.push_back(watch);
    UNHEARD.set(UNHEARD.get() + 1);
    if UNHEARD.get() > MAX_UNHEARD {
        if let Some(oldest) = limbo.events.pop_front() {
            WATCHES.release(oldest);
        }
        UNHEARD.set(MAX_UNHEARD);
    }
}

/// The endpoint dies, but not what supervisors wanted to know.
fn orphan(endpoint: Ref<Endpoint>) {
    let Some(limbo) = limbo() else { return };
    for watch in endpoint.watches.iter().filter(|watch| watch.supervises) {
        endpoint.watches.remove(watch);
        watch.endpoint.set(limbo);
        limbo.watches.push_back(watch);
    }
    if let Some(watch) = endpoint.fetched.take() {
        keep_unheard(limbo, watch);
    }
    for watch in endpoint.events.iter().filter(|watch| watch.supervises) {
        endpoint.events.remove(watch);
        keep_unheard(limbo, watch);
    }
}

/// Withdraws a watch on a living process.
fn unwatch(watch: Ref<Watch>) {
    watch.process.watches.remove(watch);
    watch.process.watch_count.set(watch.process.watch_count.get() - 1);
    watch.endpoint.get().watches.remove(watch);
    WATCHES.release(watch);
}

/// Turns all watches of a process that ended into events.
pub fn publish(process: Ref<Process>, obituary: Obituary) {
    while let Some(watch) = process.watches.pop_front() {
        let endpoint = watch.endpoint.get();
        endpoint.watches.remove(watch);
        watch.obituary.set(Obituary { cookie: watch.cookie, ..obituary });
        if LIMBO.get() == Some(endpoint) {
            keep_unheard(endpoint, watch);
            continue;
        }
        endpoint.events.push_back(watch);
        notify(endpoint, bits::OBITUARY);
    }
    process.watch_count.set(0);
}

/// Withdraws all watches of a process that comes to nothing.
pub fn withdraw_all(process: Ref<Process>) {
    process.watches.iter().for_each(unwatch);
}

/// Takes the next obituary, if one waits. A supervisor's is kept until it asks again: one that dies of what
/// it does with it, or before it has written it down, leaves it to whoever adopts.
pub fn next_event(endpoint: Ref<Endpoint>) -> Option<Obituary> {
    if let Some(heard) = endpoint.fetched.take() {
        WATCHES.release(heard);
    }
    let watch = endpoint.events.pop_front()?;
    let obituary = watch.obituary.get();
    match watch.supervises {
        true => endpoint.fetched.set(Some(watch)),
        false => WATCHES.release(watch),
    }
    Some(obituary)
}

/// Nobody serves it any more.
pub fn die(endpoint: Ref<Endpoint>) {
    if !endpoint.alive.replace(false) {
        return;
    }
    while let Some(interrupt) = endpoint.interrupts.first() {
        interrupt::unbind(interrupt);
    }
    scheduler::cancel_timer(endpoint);
    if let Some(owner) = endpoint.owner.take() {
        owner.endpoints.remove(endpoint);
    }
    endpoint.bits.set(0);
    let died = encode(Err(Error::ServerDied));
    while let Some(thread) = endpoint.callers.pop_front() {
        ipc::fail(thread, died);
    }
    if endpoint.awaiting.replace(0) > 0 {
        thread::awaiting(endpoint).for_each(|thread| ipc::fail(thread, died));
    }
    while let Some(thread) = endpoint.receiver() {
        endpoint.take_receiver();
        ipc::fail(thread, encode(Err(Error::BadHandle)));
    }
    orphan(endpoint);
    endpoint.watches.iter().for_each(unwatch);
    while next_event(endpoint).is_some() {}
}

/// The last handle is gone.
pub fn destroy(endpoint: Ref<Endpoint>) {
    die(endpoint);
    ENDPOINTS.release(endpoint);
}

/// Endpoints but the kernel's own.
pub fn live() -> u32 {
    ENDPOINTS.live() - u32::from(LIMBO.get().is_some())
}
