//! The rings against a driver played by the test: honest, dying, lying.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::link::{
    Buffer, RX_CQ_OFFSET, RX_ENTRIES, RX_SQ_OFFSET, Received, TX_CQ_OFFSET, TX_ENTRIES,
    TX_SQ_OFFSET, Transmit, index, received,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::link::Offload;
use crate::rings::{LEN_LARGE, Rings, SharedMemory};

struct Memory(RefCell<Vec<u8>>);

impl SharedMemory for Memory {
    fn load_u32(&self, at: usize) -> Result<u32> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
    fn store_u32(&self, at: usize, value: u32) -> Result<()> {
        self.write(at, &value.to_le_bytes())
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let memory = self.0.borrow();
        let end = at.checked_add(out.len()).ok_or(Error::Fault)?;
        out.copy_from_slice(memory.get(at..end).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        let mut memory = self.0.borrow_mut();
        let end = at.checked_add(data.len()).ok_or(Error::Fault)?;
        memory.get_mut(at..end).ok_or(Error::Fault)?.copy_from_slice(data);
        Ok(())
    }
}

/// What nobody knows.
const CANARY: u64 = 0x1122_3344_5566_7788;

fn memory() -> Memory {
    Memory(RefCell::new(vec![0; LEN_LARGE]))
}

/// A driver that loops what it is given back.
#[derive(Default)]
struct Driver {
    tx: u32,
    rx: u32,
    done: u32,
    filled: u32,
}

impl Driver {
    fn take(&mut self, m: &Memory) -> Option<(Transmit, Vec<u8>)> {
        if self.tx == m.load_u32(index::TX_SQ_TAIL).unwrap() {
            return None;
        }
        let mut transmit = Transmit::new_zeroed();
        let at = TX_SQ_OFFSET + (self.tx % TX_ENTRIES) as usize * 32;
        m.read(at, transmit.as_mut_bytes()).unwrap();
        self.tx += 1;
        let mut data = vec![0; transmit.len as usize];
        m.read(transmit.offset as usize, &mut data).unwrap();
        Some((transmit, data))
    }

    fn complete(&mut self, m: &Memory, id: u32) {
        let at = TX_CQ_OFFSET + (self.done % TX_ENTRIES) as usize * 4;
        m.write(at, &id.to_le_bytes()).unwrap();
        self.done += 1;
        m.store_u32(index::TX_CQ_TAIL, self.done).unwrap();
    }

    /// Puts a frame into as many buffers as it needs; false without buffers.
    fn deliver(&mut self, m: &Memory, data: &[u8]) -> bool {
        let parts: Vec<&[u8]> = data.chunks(2048).collect();
        let there = m.load_u32(index::RX_SQ_TAIL).unwrap().wrapping_sub(self.rx);
        if (there as usize) < parts.len() {
            return false;
        }
        for (i, part) in parts.iter().enumerate() {
            let more = if i + 1 < parts.len() { received::MORE } else { 0 };
            let flags = more | if i > 0 { received::CONTINUED } else { 0 };
            self.deliver_part(m, part, flags);
        }
        true
    }

    /// Where the next part goes.
    fn place(&self, m: &Memory) -> usize {
        let mut buffer = Buffer::new_zeroed();
        let at = RX_SQ_OFFSET + (self.rx % RX_ENTRIES) as usize * 8;
        m.read(at, buffer.as_mut_bytes()).unwrap();
        buffer.offset as usize
    }

    fn deliver_part(&mut self, m: &Memory, part: &[u8], flags: u16) {
        let place = self.place(m);
        self.rx += 1;
        m.write(place, part).unwrap();
        let head = Received { offset: place as u32, len: part.len() as u16, flags };
        let at = RX_CQ_OFFSET + (self.filled % RX_ENTRIES) as usize * 8;
        m.write(at, head.as_bytes()).unwrap();
        self.filled += 1;
        m.store_u32(index::RX_CQ_TAIL, self.filled).unwrap();
    }
}

proptest! {
    /// Whatever is sent comes back in order, though the driver dies now and then.
    #[test]
    fn everything_comes_round(
        lens in prop::collection::vec(1usize..9000, 1..120),
        deaths in prop::collection::vec(any::<bool>(), 120),
    ) {
        let m = memory();
        let mut rings = Rings::new(&m, true, CANARY).unwrap();
        let mut driver = Driver::default();
        let mut frame = Vec::new();
        for (i, &len) in lens.iter().enumerate() {
            let data: Vec<u8> = (0..len).map(|at| (at + i) as u8).collect();
            rings.transmit(&m, &data, &Offload::default()).unwrap();
            rings.publish_and_ask(&m).unwrap();
            if deaths[i] {
                // It took the frame and died before saying so: its successor gets it again.
                driver.take(&m).unwrap();
                driver = Driver::default();
                rings.restart(&m).unwrap();
            }
            let (transmit, sent) = driver.take(&m).unwrap();
            driver.complete(&m, transmit.id);
            prop_assert!(driver.deliver(&m, &sent));
            prop_assert_eq!(rings.receive(&m, &mut frame).unwrap(), Some(false));
            prop_assert_eq!(&frame, &data);
            prop_assert_eq!(rings.receive(&m, &mut frame).unwrap(), None);
            rings.reap(&m).unwrap();
            rings.publish_and_ask(&m).unwrap();
            prop_assert_eq!(rings.in_flight(), 0);
        }
    }

    /// A driver that writes anything anywhere: errors, nothing else.
    #[test]
    fn lies(
        words in prop::collection::vec((0usize..8192, any::<u32>()), 1..200),
        steps in prop::collection::vec(0u8..4, 1..100),
    ) {
        let m = memory();
        let mut rings = Rings::new(&m, true, CANARY).unwrap();
        let mut words = words.into_iter().cycle();
        let mut frame = Vec::new();
        for step in steps {
            let (at, value) = words.next().unwrap();
            m.store_u32((at * 4 % 32768) & !3, value).unwrap();
            m.store_u32([128, 384, 0, 256][step as usize], value % 700).unwrap();
            match step {
                0 => drop(rings.reap(&m)),
                1 => drop(rings.receive(&m, &mut frame)),
                2 => drop(rings.transmit(&m, &[1; 100], &Offload::default())),
                _ => drop(rings.publish_and_ask(&m)),
            }
            prop_assert!(frame.len() <= 65536 + 64);
            if rings.is_broken() {
                rings.restart(&m).unwrap();
                prop_assert!(!rings.is_broken());
            }
        }
    }
}

/// The word that a checksum is right may stand in any part of a frame.
#[test]
fn one_part_speaks_for_the_frame() {
    for speaker in 0..3usize {
        let m = memory();
        let mut rings = Rings::new(&m, true, CANARY).unwrap();
        let mut driver = Driver::default();
        let mut frame = Vec::new();
        for (speaks, expected) in [(true, true), (false, false)] {
            let first = driver.filled;
            assert!(driver.deliver(&m, &[7; 5000]));
            if speaks {
                let at = RX_CQ_OFFSET + ((first as usize + speaker) % RX_ENTRIES as usize) * 8 + 6;
                let mut flags = [0; 2];
                m.read(at, &mut flags).unwrap();
                let flags = u16::from_le_bytes(flags) | received::CHECKSUM_GOOD;
                m.write(at, &flags.to_le_bytes()).unwrap();
            }
            assert_eq!(rings.receive(&m, &mut frame), Ok(Some(expected)), "{speaker}");
            assert_eq!(frame, [7; 5000]);
        }
    }
}

/// A completion that names another buffer, or one for which nothing was written.
#[test]
fn what_was_not_written_is_not_received() {
    let m = memory();
    let mut rings = Rings::new(&m, true, CANARY).unwrap();
    let mut driver = Driver::default();
    let mut frame = Vec::new();
    assert!(driver.deliver(&m, &[1; 100]));
    assert_eq!(rings.receive(&m, &mut frame), Ok(Some(false)));
    driver.deliver_part(&m, &[2; 2048], received::MORE);
    driver.deliver_part(&m, &[3; 3], received::CONTINUED);
    assert_eq!(rings.receive(&m, &mut frame), Ok(Some(false)), "a short end proves nothing");
    let place = driver.place(&m);
    driver.deliver_part(&m, &[4; 2048], received::MORE | received::CHECKSUM_GOOD);
    m.write(place, &CANARY.to_le_bytes()).unwrap();
    assert_eq!(rings.receive(&m, &mut frame), Err(Error::Proto));
    assert!(rings.is_broken());
}

/// A driver that resets its device in the middle of a frame goes on with another one.
#[test]
fn no_frame_is_made_of_two() {
    let m = memory();
    let mut rings = Rings::new(&m, true, CANARY).unwrap();
    let mut driver = Driver::default();
    let mut frame = Vec::new();
    driver.deliver_part(&m, &[1; 2000], received::MORE | received::CHECKSUM_GOOD);
    driver.deliver_part(&m, &[2; 2000], received::MORE | received::CONTINUED);
    assert_eq!(rings.receive(&m, &mut frame), Ok(None));
    assert!(driver.deliver(&m, &[3; 5000]));
    assert_eq!(rings.receive(&m, &mut frame), Ok(Some(false)));
    assert_eq!((frame.as_slice(), rings.rx_dropped), (&[3; 5000][..], 1));
    // What is left of one whose beginning was lost.
    driver.deliver_part(&m, &[4; 2000], received::MORE | received::CONTINUED);
    driver.deliver_part(&m, &[5; 500], received::CONTINUED);
    driver.deliver_part(&m, &[6; 60], 0);
    assert_eq!(rings.receive(&m, &mut frame), Ok(Some(false)));
    assert_eq!(frame, [6; 60]);
    assert_eq!(rings.receive(&m, &mut frame), Ok(None));
    // One that never ends takes the rest of it along, and nothing of the next.
    for part in 0..40 {
        let flags = if part == 0 { 0 } else { received::CONTINUED };
        driver.deliver_part(&m, &[7; 2048], flags | received::MORE);
        assert_eq!(rings.receive(&m, &mut frame), Ok(None));
    }
    driver.deliver_part(&m, &[8; 100], received::CONTINUED);
    driver.deliver_part(&m, &[9; 70], 0);
    assert_eq!(rings.receive(&m, &mut frame), Ok(Some(false)));
    assert_eq!((frame.as_slice(), rings.rx_dropped), (&[9; 70][..], 2));
}

#[test]
fn room_and_limits() {
    let m = memory();
    let mut rings = Rings::new(&m, true, CANARY).unwrap();
    let mut count = 0;
    while rings.has_room() {
        rings.transmit(&m, &[0; 1500], &Offload::default()).unwrap();
        count += 1;
    }
    assert!(count >= 200);
    assert_eq!(rings.transmit(&m, &[0; 70_000], &Offload::default()), Err(Error::MsgSize));
    let mut small = Rings::new(&m, false, CANARY).unwrap();
    assert_eq!(small.transmit(&m, &[0; 4000], &Offload::default()), Err(Error::MsgSize));
}
