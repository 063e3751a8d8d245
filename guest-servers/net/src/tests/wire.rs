//! A wire between two stacks that can lose, double and reorder frames, and a world of both.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, Ipv4Address};
use xinim_abi::error::{Error, Result};
use xinim_keep::Journal;

use crate::Stack;
use crate::address;
use crate::configure::configure;
use crate::lasting::{Lasting, Vault};
use crate::link::{Capabilities, Link, Offload};
use crate::reassembly::tests::fragments;
use crate::stack::Random;
use crate::tests::vault::Shelf;

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// What becomes of one frame in 256.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub lost: u8,
    pub doubled: u8,
    pub late: u8,
}

pub struct End {
    mac: [u8; 6],
    out: Queue,
    input: Queue,
    up: Rc<Cell<bool>>,
    weather: Weather,
    fragment: Rc<Cell<usize>>,
    random: Random,
}

impl Link for End {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mac: self.mac, mtu: 1500, ..Capabilities::default() }
    }
    fn is_up(&self) -> bool {
        self.up.get()
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> Option<bool> {
        *frame = self.input.borrow_mut().pop_front()?;
        Some(false)
    }
    fn has_room(&self) -> bool {
        self.out.borrow().len() < 256
    }
    fn driver(&self) -> String {
        "wire".to_string()
    }
    fn transmit(&mut self, frame: &[u8], _offload: &Offload) {
        for frame in fragments(frame, self.fragment.get(), 0) {
            self.put(&frame);
        }
    }
}

impl End {
    fn put(&mut self, frame: &[u8]) {
        let dice = self.random.draw().to_le_bytes();
        let mut out = self.out.borrow_mut();
        if dice[0] < self.weather.lost {
            return;
        }
        if dice[1] < self.weather.doubled {
            out.push_back(frame.to_vec());
        }
        out.push_back(frame.to_vec());
        if dice[2] < self.weather.late {
            let last = out.len() - 1;
            out.swap(last, last.saturating_sub(2));
        }
    }
}

/// Stack `a` has 10.0.0.1, stack `b` 10.0.0.2.
pub struct World {
    pub a: Stack,
    pub b: Stack,
    pub now: Instant,
    pub up: Rc<Cell<bool>>,
    wire: [Queue; 2],
    weather: Weather,
    /// IPv4 payloads are cut into fragments of so many bytes, all with the same identification.
    pub fragment: Rc<Cell<usize>>,
    /// What outlives `a` and `b`.
    pub shelves: [Shelf; 2],
    /// Stacks made.
    born: u64,
}

pub const A: [u8; 4] = [10, 0, 0, 1];
pub const B: [u8; 4] = [10, 0, 0, 2];

/// Length of a journal.
const JOURNAL: usize = 256 * 1024;

impl World {
    pub fn new(weather: Weather) -> Self {
        let now = Instant::from_millis(1000);
        let nothing = || Stack::new([1; 4], now);
        let (a, b, up) = (nothing(), nothing(), Rc::new(Cell::new(true)));
        let (wire, shelves, born) = (Default::default(), Default::default(), 0);
        let fragment = Rc::new(Cell::new(usize::MAX));
        let mut world = Self { a, b, now, up, wire, weather, fragment, shelves, born };
        world.a = world.make(0);
        world.b = world.make(1);
        world
    }

    /// A stack that takes up what the last one on its side left.
    fn make(&mut self, side: usize) -> Stack {
        self.born += 1;
        let seed = self.born;
        let mut shelf = self.shelves[side].clone();
        let (journal, _) = Journal::open(shelf.open(1, JOURNAL).unwrap()).unwrap();
        // Neighbouring seeds would draw the same ports.
        let spread = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut stack = Stack::new([seed, spread, 3, 4], self.now);
        stack.net.lasting = Lasting::new(journal, Box::new(shelf));
        let (_, bad) = stack.take_up();
        assert_eq!(bad, 0);
        let end = End {
            mac: [2, 0, 0, 0, 0, side as u8 + 1],
            out: self.wire[side].clone(),
            input: self.wire[1 - side].clone(),
            up: self.up.clone(),
            weather: self.weather,
            fragment: self.fragment.clone(),
            random: Random::new([seed, 5, 6, 7]),
        };
        stack.add_interface("eth0", Box::new(end), false).unwrap();
        let line = alloc::format!("addr add 10.0.0.{}/24 dev eth0", side + 1);
        configure(&mut stack, &line).unwrap();
        stack.refresh();
        stack
    }

    /// What is on the wire to one side is lost.
    pub fn lose(&mut self, side: usize) {
        self.wire[1 - side].borrow_mut().clear();
    }

    /// Changes a frame on the wire to one side, the first for which `change` says that it has.
    pub fn edit(&mut self, side: usize, change: impl FnMut(&mut Vec<u8>) -> bool) -> Option<()> {
        self.wire[1 - side].borrow_mut().iter_mut().any(change).then_some(())
    }

    pub fn side(&mut self, side: usize) -> &mut Stack {
        if side == 0 { &mut self.a } else { &mut self.b }
    }

    /// One dies, and what it has not committed with it; another comes.
    pub fn dies(&mut self, side: usize) {
        let next = self.make(side);
        *self.side(side) = next;
    }

    /// Frames are under way.
    pub fn is_busy(&self) -> bool {
        self.up.get() && self.wire.iter().any(|queue| !queue.borrow().is_empty())
    }

    /// Lets both work; time goes on by what they wait for, at most 20 ms.
    pub fn step(&mut self) {
        let due = [self.a.turn(self.now), self.b.turn(self.now)];
        let next = due.into_iter().flatten().min().unwrap_or(self.now + Duration::from_millis(20));
        let soon = self.now + Duration::from_micros(100);
        self.now = next.clamp(soon, self.now + Duration::from_millis(20));
    }

    /// Steps until `done` answers something; panics after `seconds` of the world's time.
    pub fn until<T>(&mut self, seconds: u64, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            assert!(self.now < end, "nothing in {seconds} s");
            self.step();
        }
    }

    pub fn run(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while self.now < end {
            self.step();
        }
    }

    /// A connection from `a` to a listener of `b`: both ends and the listener.
    pub fn connection(&mut self, port: u16) -> (u64, u64, u64) {
        let listener = self.b.open(2, 1, 0, 1).unwrap();
        self.b.bind(listener, &v4([0; 4], port)).unwrap();
        self.b.listen(listener, 8).unwrap();
        let client = self.a.open(2, 1, 0, 1).unwrap();
        assert_eq!(self.a.connect(client, &v4(B, port)), Err(Error::InProgress));
        self.until(60, |w| w.a.connected(client)).unwrap();
        let (server, _) = self.until(60, |w| ready(w.b.accept(listener, 1)));
        (client, server, listener)
    }
}

pub fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
    let [a, b, c, d] = ip;
    address::bytes(IpAddress::Ipv4(Ipv4Address::new(a, b, c, d)), port)
}

/// `None` for `Again`.
pub fn ready<T>(result: Result<T>) -> Option<T> {
    match result {
        Err(Error::Again) => None,
        other => Some(other.unwrap()),
    }
}

pub fn receive(stack: &mut Stack, cookie: u64, len: usize) -> Result<Vec<u8>> {
    let mut data = vec![0; len];
    let incoming = stack.receive(cookie, &mut data, 0)?;
    data.truncate(incoming.count);
    Ok(data)
}
