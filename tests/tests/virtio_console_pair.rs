//! The virtio-console driver's logic against our virtio-console model: frames out, bytes in, a host
//! that is slow both ways, devices that lie.

use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::{HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use xinim_devices::device::Origin;
use xinim_devices::dma::Dma as _;
use xinim_devices::testing::{FlatMemory, MsiLog, Pipe};
use xinim_devices::virtio::{Console, VirtioConfig, VirtioPci};
use xinim_driver_kit::SharedMemory;
use xinim_driver_kit::testing::FakeClock;
use xinim_tests::pair::{BarMmio, Machine, RamDma, ram};
use xinim_virtio_console::link::{Answer, Greeting};
use xinim_virtio_console::{Link, Port, World};

type Model = Arc<Mutex<VirtioPci<Console<Pipe>>>>;
type TestPort = Port<BarMmio, RamDma>;

struct Rig {
    machine: Machine,
    memory: Arc<FlatMemory>,
    model: Model,
    host: Pipe,
    msi: Arc<MsiLog>,
    clock: FakeClock,
}

fn rig(queue_size: u16) -> Rig {
    let memory = ram(1024);
    let (host, msi) = (Pipe::new(), MsiLog::new());
    let mut setup = VirtioConfig::new("virtio-console.0", memory.clone(), msi.clone());
    setup.queue_size = queue_size;
    let model = Arc::new(Mutex::new(VirtioPci::new(Console::new(host.clone()), setup).unwrap()));
    let machine = Machine::new(&memory, model.clone());
    Rig { machine, memory, model, host, msi, clock: FakeClock::default() }
}

impl Rig {
    fn start(&self) -> TestPort {
        self.machine.function.route(0, 0x42).unwrap();
        let (function, ram) = (&self.machine.function, self.machine.ram.clone());
        Port::start(function, ram, &self.clock, Some(0)).unwrap()
    }

    /// The host's side got ready: it wrote bytes, or reads on.
    fn host_ready(&self) {
        let mut model = self.model.lock().unwrap();
        while model.input_ready(&Origin::default()) {}
        while model.output_ready(&Origin::default()) {}
    }
}

fn send(port: &mut TestPort, kind: Kind, payload: &[u8]) -> Result<()> {
    port.send(kind, payload.len(), |buffer, at| {
        buffer.write_bytes(at, payload);
        Ok(())
    })
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header::new(kind, payload.len()).encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn frames_go_out_whole_and_buffers_come_back() {
    let rig = rig(256);
    let mut port = rig.start();
    let big: Vec<u8> = (0..MAX_PAYLOAD).map(|i| (i / 3) as u8).collect();
    let mut expected = Vec::new();
    for round in 0..10u8 {
        for payload in [&big[..], &[round], &[], &big[..5000]] {
            send(&mut port, Kind::Stdout, payload).unwrap();
            expected.extend(frame(Kind::Stdout, payload));
        }
        port.kick();
        assert!(port.poll(|_| panic!("nothing was sent here")).unwrap());
        rig.host_ready();
    }
    port.poll(|_| ()).unwrap();
    assert!(!port.is_sending());
    assert_eq!(rig.host.take(), expected);
    assert_eq!(send(&mut port, Kind::Stdout, &[0; MAX_PAYLOAD + 1]), Err(Error::Inval));
    let refused = port.send(Kind::Stdout, 4, |_, _| Err(Error::Fault));
    assert_eq!(refused, Err(Error::Fault));
    assert!(port.room() > 0);
}

#[test]
fn a_host_that_does_not_read_stops_the_sender_and_nothing_is_lost() {
    let rig = rig(256);
    let mut port = rig.start();
    rig.host.limit(Some(10));
    let mut sent = Vec::new();
    while port.room() > 0 {
        let payload = vec![sent.len() as u8; port.room().min(5000)];
        send(&mut port, Kind::Stderr, &payload).unwrap();
        sent.extend(frame(Kind::Stderr, &payload));
        port.kick();
        port.poll(|_| ()).unwrap();
    }
    assert_eq!(send(&mut port, Kind::Stderr, b"x"), Err(Error::Again));
    assert!(port.is_sending());
    port.arm(true);
    rig.msi.take();
    rig.host.limit(None);
    rig.host_ready();
    assert!(!rig.msi.take().is_empty(), "no interrupt for the buffers that came back");
    port.poll(|_| ()).unwrap();
    assert!(port.room() == MAX_PAYLOAD && !port.is_sending());
    assert_eq!(rig.host.take(), sent);
}

#[test]
fn input_larger_than_all_buffers_arrives_in_order() {
    let rig = rig(256);
    let mut port = rig.start();
    assert!(!port.arm(false));
    let data: Vec<u8> = (0..300_000u32).map(|i| (i * 7 / 5) as u8).collect();
    rig.host.feed(&data);
    rig.msi.take();
    rig.host_ready();
    assert_eq!(rig.msi.take().len(), 1, "one interrupt for all of it");
    let mut got = Vec::new();
    while got.len() < data.len() {
        assert!(port.poll(|bytes| got.extend_from_slice(bytes)).unwrap());
        port.kick();
        rig.host_ready();
    }
    assert_eq!(got, data);
    assert!(!port.poll(|_| ()).unwrap());
}

#[test]
fn a_new_driver_takes_the_device_over() {
    let rig = rig(256);
    let mut old = rig.start();
    rig.host.limit(Some(0));
    send(&mut old, Kind::Stdout, &[1; 100]).unwrap();
    old.kick();
    let function = rig.machine.fresh_function();
    let mut new = Port::start(&function, rig.machine.ram.clone(), &rig.clock, Some(0)).unwrap();
    assert_eq!(rig.machine.resets(), 2);
    rig.host.limit(None);
    rig.host_ready();
    send(&mut new, Kind::Stdout, b"new").unwrap();
    new.kick();
    rig.host_ready();
    assert_eq!(rig.host.take(), frame(Kind::Stdout, b"new"));
}

/// The link's surroundings with a real port, and windows of clients that are numbers.
struct Outside {
    port: TestPort,
    windows: Vec<Vec<u8>>,
    answers: Vec<(usize, Result<Answer>)>,
}

impl World<usize> for Outside {
    fn room(&self) -> usize {
        self.port.room()
    }
    fn is_sending(&self) -> bool {
        self.port.is_sending()
    }
    fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        send(&mut self.port, kind, payload)
    }
    fn send_from(&mut self, kind: Kind, client: &usize, at: u32, len: usize) -> Result<()> {
        let at = at as usize;
        let bytes = self.windows[*client].get(at..at + len).ok_or(Error::Fault)?.to_vec();
        send(&mut self.port, kind, &bytes)
    }
    fn deliver(&mut self, client: &usize, at: u32, bytes: &[u8]) -> Result<()> {
        let at = at as usize;
        self.windows[*client][at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn deliver_command(&mut self, client: &usize, text: &[u8]) -> Result<u64> {
        self.deliver(client, 0, text).map(|()| text.len() as u64)
    }
    fn answer(&mut self, client: usize, result: Result<Answer>) {
        self.answers.push((client, result));
    }
}

/// Takes the frames out of what the host got; the rest stays.
fn frames(bytes: &mut VecDeque<u8>) -> Vec<(Kind, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let head: Vec<u8> = bytes.iter().take(HEADER_LEN).copied().collect();
        let Ok(head) = <[u8; HEADER_LEN]>::try_from(head) else { return found };
        let header = Header::decode(&head).expect("a frame");
        if bytes.len() < HEADER_LEN + header.len {
            return found;
        }
        let frame: Vec<u8> = bytes.drain(..HEADER_LEN + header.len).collect();
        found.push((header.kind, frame[HEADER_LEN..].to_vec()));
    }
}

/// `cat` over the whole stack: a client reads what the host sends and writes it back, both sides
/// slow. Everything arrives, in order, and the exit status comes last.
fn cat(input: &[u8], rooms: &[usize], piece: usize) -> Vec<u8> {
    let rig = rig(16);
    let mut link = Link::new(Greeting::Due);
    let mut world =
        Outside { port: rig.start(), windows: vec![vec![0; 128 * 1024]], answers: Vec::new() };
    let input = Rc::new(RefCell::new(input.iter().copied().collect::<VecDeque<u8>>()));
    let (mut raw, mut output, mut credit, mut eof) = (VecDeque::new(), Vec::new(), 0, false);
    let mut rooms = rooms.iter().cycle();
    let mut exited = false;
    // Of what was read: the part that is still to be written. A write may take less than it is given.
    let (mut from, mut to) = (0, 0);
    link.want_command(0);
    for _ in 0..200_000 {
        rig.host.limit(rooms.next().copied());
        link.pump(&mut world);
        world.port.kick();
        rig.host_ready();
        raw.extend(rig.host.take());
        for (kind, payload) in frames(&mut raw) {
            assert!(!exited, "{kind:?} after Exit");
            match kind {
                Kind::Hello => rig.host.feed(&frame(Kind::Command, b"cat")),
                Kind::WantStdin => credit += u32::from_le_bytes(payload[..].try_into().unwrap()),
                Kind::Stdout => output.extend(payload),
                Kind::Exit => exited = true,
                other => panic!("{other:?}"),
            }
        }
        if credit > 0 && input.borrow().is_empty() && !eof {
            rig.host.feed(&frame(Kind::StdinEof, &[]));
            eof = true;
        }
        let count = (credit as usize).min(piece).min(input.borrow().len());
        if count > 0 {
            let bytes: Vec<u8> = input.borrow_mut().drain(..count).collect();
            rig.host.feed(&frame(Kind::Stdin, &bytes));
            credit -= count as u32;
        }
        rig.host_ready();
        while world.port.poll(|bytes| link.received(bytes)).unwrap() {
            world.port.kick();
        }
        link.pump(&mut world);
        for (client, result) in std::mem::take(&mut world.answers) {
            match result.unwrap() {
                Answer::Command(len) => {
                    assert_eq!(&world.windows[0][..len as usize], b"cat");
                    link.read(client, 0, 100_000);
                }
                Answer::Read(0) => link.exit(client, 0),
                Answer::Read(count) => {
                    (from, to) = (0, count as u32);
                    link.write(client, Kind::Stdout, from, to);
                }
                Answer::Written(count) => {
                    from += count as u32;
                    match from < to {
                        true => link.write(client, Kind::Stdout, from, to - from),
                        false => link.read(client, 0, 100_000),
                    }
                }
                Answer::Exited => return output,
            }
        }
    }
    panic!("no end in sight; {} bytes came", output.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn cat_gives_back_what_it_got(
        input in prop::collection::vec(any::<u8>(), 0..30_000),
        rooms in prop::collection::vec(prop_oneof![Just(0usize), 1usize..64, 1000usize..100_000], 1..8)
            .prop_filter("some room", |rooms| rooms.iter().sum::<usize>() > 500),
        piece in prop_oneof![Just(70_000usize), 100usize..5000],
    ) {
        prop_assert_eq!(cat(&input, &rooms, piece), input);
    }

    /// Anything in the used rings: an error or progress, never a panic.
    #[test]
    fn lies_in_the_used_rings_are_survived(
        lies in prop::collection::vec((any::<bool>(), 0u64..180, any::<u8>()), 1..30)
    ) {
        let rig = rig(16);
        let mut port = rig.start();
        send(&mut port, Kind::Stdout, &[1; 100]).unwrap();
        port.kick();
        for (tx, at, value) in lies {
            use xinim_driver_kit::Mmio;
            use xinim_driver_kit::pci::PciFunction;
            use xinim_abi::hw::virtio::common;
            let registers = rig.machine.fresh_function().bar(0).unwrap();
            registers.write16(common::QUEUE_SELECT, u16::from(tx));
            let used = u64::from(registers.read32(common::QUEUE_DEVICE));
            let _ = rig.memory.write(used + at, &[value]);
            if port.poll(|_| ()).is_err() {
                return Ok(());
            }
            let _ = send(&mut port, Kind::Stdout, b"more");
            port.kick();
        }
    }
}
