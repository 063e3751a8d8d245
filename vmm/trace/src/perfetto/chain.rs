//! Which chain a step belongs to.

use std::collections::HashMap;

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

    /// An interrupt reached a driver.
    pub fn deliver(&mut self, pid: u32) -> Vec<u64> {
        self.raised.remove(&pid).unwrap_or_default()
    }
}
