//! The network server's rings on one side, a device that is a cable back to itself on the other.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::link::{DATA_OFFSET, TX_SQ_OFFSET, Transmit, index, info, received};
use xinim_driver_kit::dma::DmaBuffer;
use xinim_driver_kit::{Segment, SharedMemory};
use xinim_net::link::Offload;
use xinim_net::rings::{self, LEN_LARGE, Rings};

use crate::device::{Events, Filter, Frame, LinkDevice, LinkInfo, Peek};
use crate::service::{Notify, Pumped, Service};

/// Memory both sides have; device addresses are offsets.
#[derive(Clone)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl Memory {
    fn get(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.0.borrow()[at..at + out.len()]);
    }
    fn set(&self, at: usize, data: &[u8]) {
        self.0.borrow_mut()[at..at + data.len()].copy_from_slice(data);
    }
    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.get(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

impl SharedMemory for Memory {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.get(at, out);
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.set(at, data);
    }
    fn load_u16(&self, at: usize) -> u16 {
        self.word(at & !3) as u16
    }
    fn load_u32(&self, at: usize) -> u32 {
        self.word(at)
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.set(at, &value.to_le_bytes());
    }
    fn store_u32(&self, at: usize, value: u32) {
        self.set(at, &value.to_le_bytes());
    }
}

impl DmaBuffer for Memory {
    fn device_address(&self, at: usize) -> Segment {
        // Pages of their own.
        Segment { address: at as u64, len: (4096 - at % 4096) as u32 }
    }
}

impl rings::SharedMemory for Memory {
    fn load_u32(&self, at: usize) -> Result<u32> {
        Ok(self.word(at))
    }
    fn store_u32(&self, at: usize, value: u32) -> Result<()> {
        self.set(at, &value.to_le_bytes());
        Ok(())
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        if at + out.len() > SharedMemory::len(self) {
            return Err(Error::Fault);
        }
        self.get(at, out);
        Ok(())
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        self.set(at, data);
        Ok(())
    }
}

/// Sends to itself, in buffers of 1000 bytes behind a header of 8.
struct Cable {
    memory: Memory,
    sent: Vec<u32>,
    wire: VecDeque<Vec<u8>>,
    buffers: VecDeque<u32>,
    room: usize,
}

impl LinkDevice for Cable {
    type Error = &'static str;

    fn info(&self) -> LinkInfo {
        let flags = info::LINK_UP | info::TX_CHECKSUM | info::TSO4;
        LinkInfo { flags, mtu: 1500, queues: 1, ..LinkInfo::default() }
    }
    fn send(
        &mut self,
        _memory: &dyn Peek,
        data: &[Segment],
        _how: &Transmit,
        cookie: u32,
    ) -> Result<()> {
        if self.sent.len() >= self.room {
            return Err(Error::Again);
        }
        let mut frame = Vec::new();
        for piece in data {
            let mut bytes = vec![0; piece.len as usize];
            self.memory.get(piece.address as usize, &mut bytes);
            frame.extend(bytes);
        }
        self.wire.push_back(frame);
        self.sent.push(cookie);
        Ok(())
    }
    fn give(&mut self, buffer: Segment, cookie: u32) -> Result<()> {
        assert_eq!(buffer, Segment { address: cookie.into(), len: 2048 });
        self.buffers.push_back(cookie);
        Ok(())
    }
    fn kick(&mut self) {}
    fn poll(
        &mut self,
        _memory: &dyn Peek,
        events: &mut Events,
    ) -> core::result::Result<(), &'static str> {
        events.sent.append(&mut self.sent);
        while let Some(frame) = self.wire.front() {
            let parts: Vec<&[u8]> = frame.chunks(1000).collect();
            if self.buffers.len() < parts.len() {
                break;
            }
            for (i, part) in parts.iter().enumerate() {
                let cookie = self.buffers.pop_front().unwrap();
                // The device's own header, then the frame.
                self.memory.set(cookie as usize, &[0xEE; 8]);
                self.memory.set(cookie as usize + 8, part);
                let more = if i + 1 < parts.len() { received::MORE } else { 0 };
                let flags = more | if i > 0 { received::CONTINUED } else { 0 };
                events.received.push(Frame { cookie, start: 8, len: part.len() as u16, flags });
            }
            self.wire.pop_front();
        }
        Ok(())
    }
    fn arm(&mut self, _sent: bool) -> bool {
        false
    }
    fn disarm(&mut self) {}
    fn attend(&mut self) {}
    fn wake_at(&self) -> Option<u64> {
        None
    }
    fn forget_all(&mut self) -> core::result::Result<(), &'static str> {
        self.sent.clear();
        self.wire.clear();
        self.buffers.clear();
        Ok(())
    }
    fn set_filter(&mut self, _filter: &Filter) -> Result<()> {
        Ok(())
    }
    fn set_up(&mut self, _up: bool) -> Result<()> {
        Ok(())
    }
    fn statistics(&mut self) -> String {
        String::new()
    }
    fn stop(&mut self) -> core::result::Result<(), &'static str> {
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Told(Rc<Cell<u32>>);

impl Notify for Told {
    fn work(&self) {
        self.0.set(self.0.get() + 1);
    }
    fn state_changed(&self) {}
}

type CableService = Service<Cable, Memory, Told>;

fn set_up(room: usize) -> (Memory, Rings, CableService, Told) {
    let memory = Memory(Rc::new(RefCell::new(vec![0; LEN_LARGE])));
    let rings = Rings::new(&memory, true, 0x0C0F_FEE0_DEAD_BEE5).unwrap();
    let (sent, wire, buffers) = (Vec::new(), VecDeque::new(), VecDeque::new());
    let cable = Cable { memory: memory.clone(), sent, wire, buffers, room };
    let mut service = Service::new(cable);
    let told = Told::default();
    service.attach(7, memory.clone(), told.clone()).unwrap().unwrap();
    (memory, rings, service, told)
}

proptest! {
    #[test]
    fn frames_go_round(
        lens in prop::collection::vec(60usize..1514, 1..200),
        room in 1usize..20,
        deaths in prop::collection::vec(0u8..40, 200),
    ) {
        let (memory, mut rings, mut service, told) = set_up(room);
        let (mut expected, mut frame) = (VecDeque::new(), Vec::new());
        for (i, &len) in lens.iter().enumerate() {
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + i) as u8).collect();
            rings.transmit(&memory, &data, &Offload::default()).unwrap();
            rings.publish_and_ask(&memory).unwrap();
            expected.push_back(data);
            if deaths[i] == 0 {
                // The driver dies with whatever it had; the next instance gets it again.
                let (sent, wire, buffers) = (Vec::new(), VecDeque::new(), VecDeque::new());
                service = Service::new(Cable { memory: memory.clone(), sent, wire, buffers, room });
                rings.restart(&memory).unwrap();
                service.attach(7, memory.clone(), told.clone()).unwrap().unwrap();
            }
            while service.pump().unwrap() == Pumped::Again {}
            while let Some(good) = rings.receive(&memory, &mut frame).unwrap() {
                prop_assert!(!good);
                let wanted: Option<Vec<u8>> = expected.pop_front();
                prop_assert_eq!(Some(&frame), wanted.as_ref());
            }
            rings.reap(&memory).unwrap();
            rings.publish_and_ask(&memory).unwrap();
        }
        prop_assert!(expected.is_empty());
        prop_assert!(told.0.get() > 0);
        prop_assert_eq!(rings.in_flight(), 0);
    }

    /// A server that writes anything into its memory breaks its own rings and nothing else.
    #[test]
    fn hostile_rings(words in prop::collection::vec((0usize..8192, any::<u32>()), 1..100)) {
        let (memory, _, mut service, told) = set_up(8);
        for (at, value) in words {
            memory.set(at * 4 % DATA_OFFSET, &value.to_le_bytes());
            memory.set(index::TX_SQ_TAIL, &(value % 300).to_le_bytes());
            prop_assert!(service.pump().is_ok());
            if service.counters().broken > 0 {
                service = set_up(8).2;
                service.attach(7, memory.clone(), told.clone()).unwrap().unwrap();
            }
        }
    }
}

#[test]
fn what_is_asked_is_checked() {
    let (memory, mut rings, mut service, _) = set_up(8);
    let frame = [0; 100];
    for offload in [
        Offload { flags: 8, ..Offload::default() },
        Offload { flags: 1, checksum_start: 90, checksum_offset: 9, ..Offload::default() },
        Offload { flags: 2, segment_size: 1000, header_len: 54, ..Offload::default() },
        Offload { flags: 7, segment_size: 1000, header_len: 54, ..Offload::default() },
        Offload { flags: 3, segment_size: 9000, header_len: 54, ..Offload::default() },
        Offload { flags: 3, segment_size: 1000, header_len: 100, ..Offload::default() },
    ] {
        rings.transmit(&memory, &frame, &offload).unwrap();
    }
    rings.transmit(&memory, &[0; 1600], &Offload::default()).unwrap();
    rings.transmit(&memory, &[0; 10], &Offload::default()).unwrap();
    rings.publish_and_ask(&memory).unwrap();
    service.pump().unwrap();
    assert_eq!(service.counters().refused, 8);
    rings.reap(&memory).unwrap();
    assert_eq!(rings.in_flight(), 0, "refused is given back");
    // A frame outside the memory.
    rings.transmit(&memory, &frame, &Offload::default()).unwrap();
    let at = TX_SQ_OFFSET + 8 * 32;
    memory.set(at + 4, &(LEN_LARGE as u32 - 50).to_le_bytes());
    rings.publish_and_ask(&memory).unwrap();
    service.pump().unwrap();
    assert_eq!(service.counters().refused, 9);
}

fn mac([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

#[test]
fn one_server_at_a_time() {
    let (memory, _, mut service, told) = set_up(8);
    assert_eq!(service.attach(8, memory.clone(), told.clone()).unwrap(), Err(Error::Busy));
    service.forget(8).unwrap();
    service.forget(7).unwrap();
    assert_eq!(service.attach(8, memory, told.clone()).unwrap(), Ok(()));
    assert_eq!(service.multicast(mac([2, 0, 0x5E, 0, 0, 1]), true), Err(Error::Inval));
    assert_eq!(service.multicast(mac([1, 0, 0x5E, 0, 0, 1]), true), Ok(()));
    assert_eq!(service.set_filter(4), Err(Error::Inval));
}
