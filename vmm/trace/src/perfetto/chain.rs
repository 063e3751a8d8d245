//! Which chain a step belongs to.

use std::collections::{HashMap, VecDeque};

use super::tracks::Open;

/// Entries of each table; beyond it, ends are missing from the trace and the table starts anew.
const MAX: usize = 1 << 16;

/// A call between delivery and reply.
pub struct Call {
    pub chain: u64,
    pub caller: u32,
    pub server: u32,
    pub server_thread: u16,
    pub name: String,
    pub calling: Open,
    pub serving: Open,
    /// It started the chain.
    pub first: bool,
}

/// A block request between client and driver.
#[derive(Default)]
pub struct Block {
    pub chain: Option<u64>,
    pub client: Option<Open>,
    pub driver: Option<Open>,
}

/// A received frame on its way up: its length and chain.
type Incoming = VecDeque<(u64, u64)>;

/// Frames under way at one place, at most.
const FRAMES: usize = 1024;
/// So long after a frame arrived a reply may still be its doing, ns.
const SAME_TURN_NS: u64 = 20_000_000;
/// Chains that begin with a received frame have numbers that no reply token has.
const RECEIVED: u64 = 1 << 63;

/// See the module's head.
#[derive(Default)]
pub struct Chains {
    pub calls: HashMap<u64, Call>,
    /// By thread: the tokens it serves, newest last.
    serving: HashMap<u16, Vec<u64>>,
    /// By process, likewise.
    working: HashMap<u32, Vec<u64>>,
    /// By client's pid and its number.
    pub blocks: HashMap<(u32, u64), Block>,
    /// By driver's pid and its cookie: the client's pid and number.
    cookies: HashMap<(u32, u64), (u32, u64)>,
    /// By driver's pid, queue or port, head or slot.
    issued: HashMap<(u32, u32, u32), u64>,
    /// Which processes drive a device.
    drivers: HashMap<std::rc::Rc<str>, Vec<u32>>,
    /// What a device is working on, by queue or port, head or slot.
    requests: HashMap<(std::rc::Rc<str>, u32, u32), u64>,
    /// Finished by a device, not yet told by an interrupt.
    finished: HashMap<std::rc::Rc<str>, Vec<u64>>,
    /// Told to a driver, not yet delivered.
    raised: HashMap<u32, Vec<u64>>,
    /// Frames to be sent, by driver's pid and its number for them.
    frames: HashMap<(u32, u64), FrameOut>,
    /// The chain whose frame a device is sending.
    sending: HashMap<std::rc::Rc<str>, u64>,
    /// Frames that a device received, and that a driver (by its pid) handed up, in order.
    received: HashMap<std::rc::Rc<str>, Incoming>,
    handed_up: HashMap<u32, Incoming>,
    /// By process: chains of the frames that it took in, and when.
    arrived: HashMap<u32, Vec<(u64, u64)>>,
    received_count: u64,
}

/// A frame between its sender and the device.
#[derive(Default)]
pub struct FrameOut {
    pub chain: Option<u64>,
    pub driver: Option<Open>,
}

/// The first of this length, or the first: events are lost, and a device may count a checksum in.
fn take_frame(incoming: &mut Incoming, length: u64) -> Option<u64> {
    let at = incoming.iter().position(|(known, _)| *known == length).unwrap_or(0);
    // What was before it has been forgotten on the way.
    incoming.drain(..at.min(incoming.len()));
    incoming.pop_front().map(|(_, chain)| chain)
}

fn put_frame(incoming: &mut Incoming, length: u64, chain: u64) {
    if incoming.len() == FRAMES {
        incoming.pop_front();
    }
    incoming.push_back((length, chain));
}

fn bound<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MAX {
        map.clear();
    }
}

/// Chains that wait for one interrupt at most.
const WAITING: usize = 64;

fn add(list: &mut Vec<u64>, chain: u64) {
    if list.len() < WAITING && !list.contains(&chain) {
        list.push(chain);
    }
}

impl Chains {
    /// The chain of a call by `thread`, and whether it starts one.
    pub fn of_call(&self, thread: u16, token: u64) -> (u64, bool) {
        let serving = self.serving.get(&thread).and_then(|tokens| tokens.last());
        match serving.and_then(|token| self.calls.get(token)) {
            Some(call) => (call.chain, false),
            None => (token, true),
        }
    }

    pub fn called(&mut self, token: u64, call: Call) {
        bound(&mut self.calls);
        bound(&mut self.serving);
        bound(&mut self.working);
        self.arrived.remove(&call.server);
        self.serving.entry(call.server_thread).or_default().push(token);
        self.working.entry(call.server).or_default().push(token);
        self.calls.insert(token, call);
    }

    pub fn replied(&mut self, token: u64) -> Option<Call> {
        let call = self.calls.remove(&token)?;
        if let Some(tokens) = self.serving.get_mut(&call.server_thread) {
            tokens.retain(|other| *other != token);
        }
        if let Some(tokens) = self.working.get_mut(&call.server) {
            tokens.retain(|other| *other != token);
        }
        Some(call)
    }

    /// The chain a process works on.
    pub fn of_process(&self, pid: u32) -> Option<u64> {
        let token = self.working.get(&pid)?.last()?;
        Some(self.calls.get(token)?.chain)
    }

    pub fn block(&mut self, client: u32, id: u64) -> &mut Block {
        bound(&mut self.blocks);
        self.blocks.entry((client, id)).or_default()
    }

    /// A driver took a block request and calls it by a cookie.
    pub fn taken(&mut self, driver: u32, cookie: u64, client: u32, id: u64) -> &mut Block {
        bound(&mut self.cookies);
        self.cookies.insert((driver, cookie), (client, id));
        self.block(client, id)
    }

    /// The block request of a cookie; `last`: the driver has done with it.
    pub fn by_cookie(&mut self, driver: u32, cookie: u64, last: bool) -> Option<&mut Block> {
        let key = (driver, cookie);
        let (client, id) =
            if last { self.cookies.remove(&key)? } else { *self.cookies.get(&key)? };
        Some(self.block(client, id))
    }

    pub fn issued(&mut self, pid: u32, place: (u32, u32), chain: u64) {
        bound(&mut self.issued);
        self.issued.insert((pid, place.0, place.1), chain);
    }

    pub fn drives(&mut self, device: &std::rc::Rc<str>, pid: u32) {
        let pids = self.drivers.entry(device.clone()).or_default();
        if !pids.contains(&pid) {
            // A restarted driver is another process: the newest counts first.
            pids.insert(0, pid);
            pids.truncate(4);
        }
    }

    /// A device begins with what a driver issued.
    pub fn begun(&mut self, device: &std::rc::Rc<str>, place: (u32, u32)) -> Option<u64> {
        let pids = self.drivers.get(device)?;
        let chain = pids.iter().find_map(|pid| self.issued.remove(&(*pid, place.0, place.1)))?;
        bound(&mut self.requests);
        self.requests.insert((device.clone(), place.0, place.1), chain);
        Some(chain)
    }

    pub fn of_request(&self, device: &std::rc::Rc<str>, place: (u32, u32)) -> Option<u64> {
        self.requests.get(&(device.clone(), place.0, place.1)).copied()
    }

    pub fn ended(&mut self, device: &std::rc::Rc<str>, place: (u32, u32)) -> Option<u64> {
        let chain = self.requests.remove(&(device.clone(), place.0, place.1))?;
        add(self.finished.entry(device.clone()).or_default(), chain);
        Some(chain)
    }

    /// Its driver has found out by itself: no interrupt will have told it.
    pub fn noticed(&mut self, driver: u32, chain: u64) {
        for (device, chains) in &mut self.finished {
            if self.drivers.get(device).is_some_and(|pids| pids.contains(&driver)) {
                chains.retain(|other| *other != chain);
            }
        }
        if let Some(raised) = self.raised.get_mut(&driver) {
            raised.retain(|other| *other != chain);
        }
    }

    /// The device raised an interrupt: for these chains.
    pub fn raise(&mut self, device: &std::rc::Rc<str>) -> Vec<u64> {
        let chains = self.finished.remove(device).unwrap_or_default();
        if let Some(pid) = self.drivers.get(device).and_then(|pids| pids.first()) {
            let raised = self.raised.entry(*pid).or_default();
            chains.iter().for_each(|chain| add(raised, *chain));
        }
        chains
    }

    pub fn frame(&mut self, driver: u32, id: u64) -> &mut FrameOut {
        bound(&mut self.frames);
        self.frames.entry((driver, id)).or_default()
    }

    pub fn frame_done(&mut self, driver: u32, id: u64) -> Option<FrameOut> {
        self.frames.remove(&(driver, id))
    }

    /// The frame that the driver calls by a cookie, if it is a network driver's.
    pub fn frame_of(&self, driver: u32, cookie: u64) -> Option<&FrameOut> {
        self.frames.get(&(driver, cookie))
    }

    /// A device works on what a frame is in, for this chain.
    pub fn sends(&mut self, device: &std::rc::Rc<str>, chain: Option<u64>) {
        match chain {
            Some(chain) => self.sending.insert(device.clone(), chain),
            None => self.sending.remove(device),
        };
    }

    pub fn sending(&self, device: &std::rc::Rc<str>) -> Option<u64> {
        self.sending.get(device).copied()
    }

    /// A device has received a frame: a chain begins.
    pub fn receives(&mut self, device: &std::rc::Rc<str>, length: u64) -> u64 {
        self.received_count += 1;
        let chain = RECEIVED | self.received_count;
        put_frame(self.received.entry(device.clone()).or_default(), length, chain);
        add(self.finished.entry(device.clone()).or_default(), chain);
        chain
    }

    /// A driver handed a received frame up.
    pub fn hands_up(&mut self, driver: u32, length: u64) -> Option<u64> {
        let device = self.drivers.iter().find(|(device, pids)| {
            pids.first() == Some(&driver) && self.received.contains_key(*device)
        });
        let device = device.map(|(device, _)| device.clone())?;
        let chain = take_frame(self.received.get_mut(&device)?, length)?;
        bound(&mut self.handed_up);
        put_frame(self.handed_up.entry(driver).or_default(), length, chain);
        self.noticed(driver, chain);
        Some(chain)
    }

    /// A process took it in.
    pub fn arrives(&mut self, owner: u32, driver: u32, length: u64, time: u64) -> Option<u64> {
        let chain = take_frame(self.handed_up.get_mut(&driver)?, length)?;
        bound(&mut self.arrived);
        let arrived = self.arrived.entry(owner).or_default();
        if arrived.len() < WAITING {
            arrived.push((time, chain));
        }
        Some(chain)
    }

    /// What has just arrived at a process that replies.
    pub fn take_arrived(&mut self, owner: u32, time: u64) -> Vec<u64> {
        let arrived = self.arrived.remove(&owner).unwrap_or_default();
        let recent = arrived.into_iter().filter(|(at, _)| time.saturating_sub(*at) < SAME_TURN_NS);
        recent.map(|(_, chain)| chain).collect()
    }

    /// An interrupt reached a driver.
    pub fn deliver(&mut self, pid: u32) -> Vec<u64> {
        self.raised.remove(&pid).unwrap_or_default()
    }
}
