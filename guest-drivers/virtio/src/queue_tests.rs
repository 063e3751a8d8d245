//! The queue against a small device side written from the specification, honest and lying.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use xinim_driver_kit::SharedMemory;
use xinim_driver_kit::testing::{FakeBuffer, FakeDma};

type TestQueue = Queue<Slice<FakeBuffer>>;

fn make(dma: &FakeDma, size: u16, options: QueueOptions) -> Result<TestQueue> {
    Queue::new(&mut Carver::new(dma, bytes(size, options))?, size, options)
}

/// An honest device end: takes chains, returns them in the order the test chooses.
struct Device {
    dma: FakeDma,
    addresses: QueueAddresses,
    size: u16,
    event_idx: bool,
    avail: u16,
    used: u16,
    taken: VecDeque<(u16, Vec<Segment>, Vec<Segment>)>,
    interrupts: u32,
}

impl Device {
    fn u16(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        assert!(self.dma.device_read(address, &mut bytes));
        u16::from_le_bytes(bytes)
    }

    fn desc(&self, address: u64) -> Desc {
        let mut desc = Desc::default();
        assert!(self.dma.device_read(address, zerocopy::IntoBytes::as_mut_bytes(&mut desc)));
        desc
    }

    /// Takes in everything available; asks for a doorbell at the next.
    fn take(&mut self) {
        while self.avail != self.u16(self.addresses.driver + 2) {
            let slot = u64::from(self.avail % self.size);
            let head = self.u16(self.addresses.driver + 4 + 2 * slot);
            let (mut table, mut limit) = (self.addresses.descriptors, self.size);
            let mut desc = self.desc(table + 16 * u64::from(head));
            if desc.flags & DescFlags::INDIRECT.bits() != 0 {
                assert_eq!(desc.flags, DescFlags::INDIRECT.bits());
                (table, limit) = (desc.addr, (desc.len / 16) as u16);
                desc = self.desc(table);
            }
            let (mut readable, mut writable) = (Vec::new(), Vec::new());
            loop {
                let segment = Segment { address: desc.addr, len: desc.len };
                if desc.flags & DescFlags::WRITE.bits() != 0 {
                    writable.push(segment);
                } else {
                    assert!(writable.is_empty(), "readable behind writable");
                    readable.push(segment);
                }
                if desc.flags & DescFlags::NEXT.bits() == 0 {
                    break;
                }
                assert!(desc.next < limit && readable.len() + writable.len() < usize::from(limit));
                desc = self.desc(table + 16 * u64::from(desc.next));
            }
            self.taken.push_back((head, readable, writable));
            self.avail = self.avail.wrapping_add(1);
        }
        let event = self.addresses.device + split::avail_event(self.size) as u64;
        self.dma.device_write(event, &self.avail.to_le_bytes());
    }

    fn put(&mut self, id: u32, len: u32) {
        let slot = self.addresses.device + 4 + 8 * u64::from(self.used % self.size);
        self.dma.device_write(slot, &id.to_le_bytes());
        self.dma.device_write(slot + 4, &len.to_le_bytes());
        let old = self.used;
        self.used = self.used.wrapping_add(1);
        self.dma.device_write(self.addresses.device + 2, &self.used.to_le_bytes());
        let wanted = if self.event_idx {
            let event = self.addresses.driver + split::used_event(self.size) as u64;
            need_event(self.u16(event), self.used, old)
        } else {
            self.u16(self.addresses.driver) & split::AVAIL_NO_INTERRUPT == 0
        };
        self.interrupts += u32::from(wanted);
    }
}

fn pair(size: u16, options: QueueOptions) -> (TestQueue, Device) {
    let dma = FakeDma::new(1 << 20);
    let queue = make(&dma, size, options).unwrap();
    let device = Device {
        addresses: queue.addresses(),
        dma,
        size,
        event_idx: options.event_idx,
        avail: 0,
        used: 0,
        taken: VecDeque::new(),
        interrupts: 0,
    };
    (queue, device)
}

fn segments(seed: u32, count: usize) -> Vec<Segment> {
    (0..count as u64)
        .map(|i| Segment { address: u64::from(seed) << 16 | i << 8, len: 16 + i as u32 })
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        count: usize,
        readable: usize,
    },
    Publish,
    Take,
    /// Returns the taken chain at this place (modulo) of the waiting ones.
    Return(usize),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..8, 0usize..8)
            .prop_map(|(count, readable)| Step::Add { count, readable: readable.min(count) }),
        2 => Just(Step::Publish),
        2 => Just(Step::Take),
        4 => any::<usize>().prop_map(Step::Return),
        2 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any interleaving: chains arrive as they were added, completions as they were returned, no
    /// descriptor is lost, and neither side ever sleeps while the other has news for it.
    #[test]
    fn every_chain_arrives_and_returns_once(
        steps in prop::collection::vec(step(), 1..400),
        size in prop_oneof![Just(1u16), Just(4), Just(16), Just(256)],
        event_idx: bool,
        indirect in prop_oneof![Just(0u16), Just(4), Just(16)],
    ) {
        let (mut queue, mut device) = pair(size, QueueOptions { event_idx, indirect });
        let mut expected = VecDeque::new();
        let mut out = std::collections::BTreeMap::new();
        let mut returned = VecDeque::new();
        let mut cookie = 0;
        let mut device_awake = true;
        prop_assert!(!queue.arm());
        let mut heard = 0;
        for step in steps {
            match step {
                Step::Add { count, readable } => {
                    let list = segments(cookie, count);
                    match queue.add(&list, readable, cookie) {
                        Ok(_) => {
                            expected.push_back((cookie, list, readable));
                            cookie += 1;
                        }
                        Err(Error::Again) => prop_assert!(queue.in_flight() > 0),
                        Err(error) => {
                            prop_assert_eq!(error, Error::Inval);
                            prop_assert!(count > usize::from(size));
                        }
                    }
                }
                Step::Publish => device_awake |= queue.publish(),
                Step::Take => {
                    // A device that was not told does not look.
                    if device_awake {
                        let before = device.taken.len();
                        device.take();
                        device_awake = false;
                        for (head, readable, writable) in device.taken.iter().skip(before) {
                            let (cookie, list, split) = expected.pop_front().unwrap();
                            prop_assert_eq!(&readable[..], &list[..split]);
                            prop_assert_eq!(&writable[..], &list[split..]);
                            let room: u32 = writable.iter().map(|s| s.len).sum();
                            prop_assert!(out.insert(*head, (cookie, room)).is_none());
                        }
                    } else {
                        prop_assert_eq!(device.u16(device.addresses.driver + 2), device.avail);
                    }
                }
                Step::Return(which) => {
                    if !device.taken.is_empty() {
                        let which = which % device.taken.len();
                        let (head, ..) = device.taken.remove(which).unwrap();
                        let (cookie, room) = out.remove(&head).unwrap();
                        let len = room / 2;
                        device.put(u32::from(head), len);
                        returned.push_back(Used { cookie, len });
                    }
                }
                Step::Drain => {
                    let told = device.interrupts > heard;
                    if !told {
                        // Nothing can be there that we were not told of.
                        prop_assert!(returned.is_empty());
                    }
                    queue.disarm();
                    loop {
                        while let Some(used) = queue.pop().unwrap() {
                            prop_assert_eq!(Some(used), returned.pop_front());
                        }
                        if !queue.arm() {
                            break;
                        }
                    }
                    heard = device.interrupts;
                    prop_assert!(returned.is_empty());
                }
            }
        }
        // Wind down: everything comes home and the whole table is free again.
        queue.publish();
        device.take();
        while let Some((head, ..)) = device.taken.pop_front() {
            device.put(u32::from(head), 0);
        }
        while queue.pop().unwrap().is_some() {}
        prop_assert_eq!(queue.in_flight(), 0);
        prop_assert!(queue.fits(usize::from(size)));
    }

    /// Whatever a device writes into the used ring: an error or a chain that was in flight, each at
    /// most once.
    #[test]
    fn lies_are_told_apart(
        lies in prop::collection::vec((any::<u16>(), 0u32..20, any::<u32>()), 1..60),
        indirect in prop_oneof![Just(0u16), Just(8)],
    ) {
        let (mut queue, mut device) = pair(16, QueueOptions { event_idx: true, indirect });
        let mut waiting = std::collections::BTreeSet::new();
        let mut cookie = 0;
        for (index, id, len) in lies {
            while queue.add(&segments(cookie, 3), 1, cookie).is_ok() {
                waiting.insert(cookie);
                cookie += 1;
            }
            queue.publish();
            device.used = index;
            device.put(id, len);
            let mut pops = 0;
            let broken = loop {
                match queue.pop() {
                    Ok(None) => break false,
                    Ok(Some(used)) => {
                        prop_assert!(waiting.remove(&used.cookie));
                        prop_assert!(used.len <= 17 + 18);
                    }
                    Err(_) => break true,
                }
                pops += 1;
                prop_assert!(pops <= 16);
            };
            if broken {
                // What a driver does: the device is reset, the queue starts afresh.
                queue.clear();
                waiting.clear();
                prop_assert!(queue.fits(16));
            }
        }
    }
}

#[test]
fn a_doorbell_is_rung_once_for_many_requests() {
    let (mut queue, mut device) = pair(16, QueueOptions { event_idx: true, indirect: 0 });
    for cookie in 0..3 {
        queue.add(&segments(cookie, 1), 1, cookie).unwrap();
    }
    assert!(queue.publish());
    assert!(!queue.publish());
    queue.add(&segments(3, 1), 1, 3).unwrap();
    assert!(!queue.publish(), "the device has not asked again");
    device.take();
    queue.add(&segments(4, 1), 1, 4).unwrap();
    assert!(queue.publish());
}

#[test]
fn an_index_ahead_of_what_is_in_flight_is_an_error() {
    let (mut queue, mut device) = pair(4, QueueOptions::default());
    queue.add(&segments(0, 1), 1, 0).unwrap();
    device.put(0, 0);
    let jumped = DeviceError::UsedIndex { seen: 0, used: 1 };
    assert_eq!(queue.pop(), Err(jumped), "not published yet");
    queue.publish();
    assert_eq!(queue.pop(), Ok(Some(Used { cookie: 0, len: 0 })));
    device.put(0, 0);
    assert_eq!(queue.pop(), Err(DeviceError::UsedIndex { seen: 1, used: 2 }));
}

#[test]
fn a_device_cannot_write_more_than_fits() {
    let (mut queue, mut device) = pair(4, QueueOptions::default());
    queue.add(&segments(0, 2), 1, 7).unwrap();
    queue.publish();
    device.put(0, 18);
    assert_eq!(queue.pop(), Err(DeviceError::UsedLength { length: 18, writable: 17 }));
}

#[test]
fn a_disarmed_queue_is_quiet_until_it_is_armed() {
    for event_idx in [false, true] {
        let (mut queue, mut device) = pair(16, QueueOptions { event_idx, indirect: 0 });
        queue.disarm();
        for cookie in 0..6 {
            queue.add(&segments(cookie, 1), 1, cookie).unwrap();
        }
        queue.publish();
        device.take();
        device.put(0, 0);
        device.put(1, 0);
        assert_eq!(device.interrupts, 0);
        assert!(queue.arm(), "two are there");
        while queue.pop().unwrap().is_some() {}
        assert!(!queue.arm());
        device.put(2, 0);
        assert_eq!(device.interrupts, 1);
        assert_eq!(queue.pop().unwrap().map(|used| used.cookie), Some(2));
        queue.arm();
        queue.disarm();
        device.put(3, 0);
        assert_eq!(device.interrupts, 1);
    }
}

#[test]
fn the_three_parts_are_aligned_and_apart() {
    for size in [1u16, 2, 64, 256] {
        let (queue, _) = pair(size, QueueOptions::default());
        let at = queue.addresses();
        assert_eq!(at.descriptors % split::DESC_ALIGN, 0);
        assert_eq!(at.driver % split::AVAIL_ALIGN, 0);
        assert_eq!(at.device % split::USED_ALIGN, 0);
        assert!(at.driver >= at.descriptors + split::desc_bytes(size) as u64);
        assert!(at.device >= at.driver + split::avail_bytes(size) as u64);
        assert!(queue.rings.len() >= used_at(size) + split::used_bytes(size));
    }
    let dma = FakeDma::new(1 << 20);
    for size in [0, 3, 2048] {
        assert!(make(&dma, size, QueueOptions::default()).is_err());
    }
}
