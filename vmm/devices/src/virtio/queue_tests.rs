use super::*;
use crate::device::Origin;
use crate::dma::Dma;
use crate::testing::FlatMemory;
use crate::testing::driver::Ring;
use crate::trace::{Owner, Tracer};
use proptest::prelude::*;
use std::sync::Arc;

const INDIRECT: u64 = feature::INDIRECT_DESC;
const EVENT_IDX: u64 = feature::EVENT_IDX;

struct Rig {
    memory: Arc<FlatMemory>,
    ring: Ring,
    queue: Queue,
    tracer: Tracer,
    origin: Origin,
}

impl Rig {
    fn new(size: u16, features: u64) -> Self {
        let memory = FlatMemory::new(0, 0x8000);
        let ring = Ring::new(&memory, 0, size);
        let mut queue = Queue::new(0, 256);
        (queue.size, queue.desc, queue.avail, queue.used) =
            (size, ring.desc, ring.avail, ring.used);
        assert!(queue.can_enable());
        queue.enable(features);
        Self { memory, ring, queue, tracer: Tracer::off(), origin: Origin::default() }
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Queue, &Context<'_>) -> T) -> T {
        let Self { memory, queue, tracer, origin, .. } = self;
        work(queue, &Context { dma: &**memory, tracer, origin, owner: Owner::Unknown })
    }

    fn pop(&mut self) -> Result<Option<Chain>, RingError> {
        self.with(|queue, context| queue.pop(context))
    }

    fn push(&mut self, head: u16, written: u32) -> Result<(), RingError> {
        self.with(|queue, context| queue.push(context, head, written))
    }

    fn interrupt(&mut self) -> bool {
        self.with(|queue, context| queue.wants_interrupt(context)) == Ok(true)
    }

    fn desc(&self, table: u64, index: u16, desc: (u64, u32, u16, u16)) {
        let (addr, len, flags, next) = desc;
        self.ring.set_desc(table, index, Desc { addr, len, flags, next });
    }
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const TABLE: u16 = 4;

#[test]
fn chains_come_out_as_they_went_in_past_the_wrap() {
    let mut rig = Rig::new(4, 0);
    for round in 0..70_000u32 {
        let head = rig.ring.offer(&[(0x4000, 16, false), (0x5000, round % 512, true)]);
        let chain = rig.pop().expect("a sound ring").expect("a chain");
        assert_eq!(chain.head, head);
        assert_eq!((chain.readable().len(), chain.writable().len()), (16, u64::from(round % 512)));
        assert_eq!(rig.pop(), Ok(None));
        assert_eq!(rig.push(chain.head, round), Ok(()));
        assert_eq!(rig.ring.completions(), [(u32::from(head), round)]);
    }
}

#[test]
fn indirect_tables_are_followed() {
    let mut rig = Rig::new(4, INDIRECT);
    rig.desc(0x4000, 0, (0x5000, 10, NEXT, 2));
    rig.desc(0x4000, 2, (0x6000, 20, WRITE, 0));
    rig.desc(0, 0, (0x4000, 48, TABLE, 0));
    rig.ring.offer_head(0);
    let chain = rig.pop().expect("a sound ring").expect("a chain");
    let lengths: Vec<_> = chain.segments().iter().map(|s| (s.address, s.length)).collect();
    assert_eq!(lengths, [(0x5000, 10), (0x6000, 20)]);
}

/// Each lie is answered with the error that names it.
#[test]
fn lies_are_errors() {
    type Setup = fn(&mut Rig);
    let cases: [(&str, u64, RingError, Setup); 11] = [
        ("index too far", 0, RingError::AvailIndex { seen: 5, expected: 0 }, |r| {
            r.ring.set_avail_index(5);
        }),
        ("head out of range", 0, RingError::DescriptorIndex(4), |r| r.ring.offer_head(4)),
        ("next out of range", 0, RingError::DescriptorIndex(9), |r| {
            r.desc(0, 0, (0x4000, 1, NEXT, 9));
            r.ring.offer_head(0);
        }),
        ("loop of one", 0, RingError::ChainTooLong, |r| {
            r.desc(0, 0, (0x4000, 1, NEXT, 0));
            r.ring.offer_head(0);
        }),
        ("loop in a table", INDIRECT, RingError::ChainTooLong, |r| {
            r.desc(0x4000, 0, (0x5000, 1, NEXT, 1));
            r.desc(0x4000, 1, (0x5000, 1, NEXT, 0));
            r.desc(0, 0, (0x4000, 32, TABLE, 0));
            r.ring.offer_head(0);
        }),
        ("table not negotiated", 0, RingError::BadIndirect, |r| {
            r.desc(0, 0, (0x4000, 16, TABLE, 0));
            r.ring.offer_head(0);
        }),
        ("table in a table", INDIRECT, RingError::BadIndirect, |r| {
            r.desc(0x4000, 0, (0x4000, 16, TABLE, 0));
            r.desc(0, 0, (0x4000, 16, TABLE, 0));
            r.ring.offer_head(0);
        }),
        ("table with odd length", INDIRECT, RingError::BadIndirect, |r| {
            r.desc(0, 0, (0x4000, 17, TABLE, 0));
            r.ring.offer_head(0);
        }),
        ("huge table", INDIRECT, RingError::BadIndirect, |r| {
            r.desc(0, 0, (0x4000, 0xFFFF_FFF0, TABLE, 0));
            r.ring.offer_head(0);
        }),
        ("readable after writable", 0, RingError::ReadableAfterWritable, |r| {
            r.desc(0, 0, (0x4000, 1, NEXT | WRITE, 1));
            r.desc(0, 1, (0x4000, 1, 0, 0));
            r.ring.offer_head(0);
        }),
        ("more than 4 GiB", 0, RingError::ChainTooLarge, |r| {
            r.desc(0, 0, (0x4000, 0xFFFF_FFFF, NEXT, 1));
            r.desc(0, 1, (0x4000, 1, 0, 0));
            r.ring.offer_head(0);
        }),
    ];
    for (name, features, error, setup) in cases {
        let mut rig = Rig::new(4, features);
        setup(&mut rig);
        assert_eq!(rig.pop(), Err(error), "{name}");
    }
}

#[test]
fn a_queue_in_qemus_dialect_takes_chains_of_any_length() {
    let mut rig = Rig::new(4, 0);
    let queue = rig.queue.clone().with_any_length(true);
    rig.queue = queue;
    rig.desc(0, 0, (0x4000, 0xFFFF_FFFF, NEXT, 1));
    rig.desc(0, 1, (0x4000, 1, 0, 0));
    rig.ring.offer_head(0);
    let chain = rig.pop().unwrap().unwrap();
    assert_eq!(chain.readable().len(), 1 << 32);
    rig.queue.reset();
    assert!(rig.queue.any_length, "it is what the machine said, not the driver");
}

#[test]
fn a_table_outside_memory_is_a_dma_error() {
    let mut rig = Rig::new(4, INDIRECT);
    rig.desc(0, 0, (0x7FF8, 16, TABLE, 0));
    rig.ring.offer_head(0);
    assert!(matches!(rig.pop(), Err(RingError::Dma(_))));
}

#[test]
fn bad_placement_is_not_enabled() {
    let good = Rig::new(4, 0).queue;
    let placed = |change: fn(&mut Queue)| {
        let mut queue = good.clone();
        change(&mut queue);
        queue.can_enable()
    };
    assert!(placed(|_| ()));
    assert!(!placed(|q| q.desc += 8));
    assert!(!placed(|q| q.avail += 1));
    assert!(!placed(|q| q.used += 2));
    assert!(!placed(|q| q.size = 3));
    assert!(!placed(|q| q.desc = u64::MAX - 15));
}

#[test]
fn flags_suppress_interrupts_and_notifications_without_event_idx() {
    let mut rig = Rig::new(4, 0);
    assert_eq!(rig.with(|q, c| q.quiet(c)), Ok(()));
    assert_eq!(rig.ring.used_flags(), Some(split::USED_NO_NOTIFY));
    assert_eq!(rig.with(|q, c| q.rearm(c)), Ok(false));
    assert_eq!(rig.ring.used_flags(), Some(0));
    assert!(!rig.interrupt(), "nothing was pushed");
    assert_eq!(rig.push(0, 0), Ok(()));
    assert!(rig.interrupt());
    assert!(!rig.interrupt(), "already told");
    let at = rig.ring.avail + split::AVAIL_FLAGS as u64;
    assert_eq!(rig.memory.store_u16(at, split::AVAIL_NO_INTERRUPT), Ok(()));
    assert_eq!(rig.push(0, 0), Ok(()));
    assert!(!rig.interrupt());
}

#[test]
fn event_indices_say_when() {
    let mut rig = Rig::new(4, EVENT_IDX);
    rig.ring.set_used_event(2);
    for expected in [false, false, true, false] {
        assert_eq!(rig.push(0, 0), Ok(()));
        assert_eq!(rig.interrupt(), expected);
    }
    rig.desc(0, 0, (0x4000, 1, 0, 0));
    rig.ring.offer_head(0);
    assert_eq!(rig.with(|q, c| q.rearm(c)), Ok(true), "a chain came before arming");
    assert!(rig.pop().is_ok_and(|chain| chain.is_some()));
    assert_eq!(rig.with(|q, c| q.rearm(c)), Ok(false));
    assert_eq!(rig.ring.avail_event(), Some(1));
}

#[test]
fn a_broken_queue_is_left_alone() {
    let mut rig = Rig::new(4, 0);
    rig.ring.offer(&[(0x4000, 1, false)]);
    rig.queue.broken = true;
    assert_eq!(rig.pop(), Ok(None));
    assert_eq!(rig.push(0, 0), Ok(()));
    assert_eq!(rig.ring.completions(), []);
}

proptest! {
    /// A ring full of noise: pop ends, without panic, and what it yields is within bounds.
    #[test]
    fn noise_is_survived(
        noise in proptest::collection::vec(any::<u8>(), 0x800),
        features in prop_oneof![Just(0), Just(INDIRECT), Just(INDIRECT | EVENT_IDX)],
        size in prop_oneof![Just(1u16), Just(4), Just(16)],
        count in 0u16..20,
    ) {
        let mut rig = Rig::new(size, features);
        prop_assert_eq!(rig.memory.write(0, &noise), Ok(()));
        rig.ring.set_avail_index(count);
        for _ in 0..=size {
            match rig.pop() {
                Ok(Some(chain)) => {
                    prop_assert!(chain.segments().len() <= usize::from(size) + INDIRECT_MAX);
                    prop_assert_eq!(rig.push(chain.head, 0), Ok(()));
                }
                Ok(None) | Err(_) => break,
            }
        }
        prop_assert!(rig.with(|q, c| q.wants_interrupt(c)).is_ok());
    }

    /// Direct chains with random links but sound indices: the walk visits at most `size`
    /// descriptors and gives the same chain twice.
    #[test]
    fn any_linking_is_walked_in_bounds(links in proptest::collection::vec((0u16..8, any::<bool>()), 8)) {
        let mut rig = Rig::new(8, 0);
        for (index, (next, more)) in links.iter().enumerate() {
            rig.desc(0, index as u16, (0x4000, 1, u16::from(*more), *next));
        }
        rig.ring.offer_head(0);
        rig.ring.offer_head(0);
        let first = rig.pop();
        match &first {
            Ok(Some(chain)) => prop_assert!(chain.segments().len() <= 8),
            Ok(None) => prop_assert!(false, "two chains were offered"),
            Err(error) => prop_assert_eq!(*error, RingError::ChainTooLong),
        }
        if first.is_ok() {
            prop_assert_eq!(rig.pop(), first);
        }
    }
}
