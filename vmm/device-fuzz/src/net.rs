//! Network devices under a hostile driver and a hostile network.

use std::sync::Arc;
use std::time::Duration;

use xinim_abi::hw::e1000::{BLOCKS, Model, REGISTER_BAR, REGISTERS, reg};
use xinim_abi::hw::pci::{self, Command};
use xinim_abi::hw::virtio::Desc;
use xinim_abi::hw::virtio_net::Header;
use xinim_devices::Outcome;
use xinim_devices::device::{Access, Origin};
use xinim_devices::dma::Dma;
use xinim_devices::e1000::{E1000, E1000Config};
use xinim_devices::net::{Frame, MAX_FRAME, NetDevice, Offloads, Port};
use xinim_devices::pci::PciDevice;
use xinim_devices::testing::ManualClock;
use xinim_devices::testing::driver::{Driver, Ring};
use xinim_devices::testing::net::{Kind, NetPipe, TimerLog, packet};
use xinim_devices::virtio::{Net, NetConfig, VirtioConfig, VirtioPci};
use xinim_record::entry;
use xinim_record::taps::{TapClock, TapTimer};
use zerocopy::FromBytes;

use crate::STEPS;
use crate::input::Input;
use crate::stage::{Function, Stage};

const QUEUE_SIZE: u16 = 256;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A frame from the network: a packet with sound headers or any bytes, with any offload header.
fn frame(input: &mut Input<'_>) -> Frame {
    let length = usize::from(input.u16() % 3000);
    let data = match input.byte() % 4 {
        0 => (0..length).map(|_| input.byte()).collect(),
        n => {
            let kind = if n == 1 { Kind::Udp } else { Kind::Tcp };
            packet(MAC, [2; 6], n == 3, kind, &vec![n; length])
        }
    };
    let mut frame = Frame::plain(data);
    if input.byte().is_multiple_of(4) {
        let bytes: [u8; 12] = std::array::from_fn(|_| input.byte());
        if let Ok(header) = Header::read_from_bytes(&bytes) {
            frame.header = header;
        }
    }
    frame
}

/// Whatever the device sent must be a frame.
fn check(net: &NetPipe) {
    for frame in net.take() {
        assert!(frame.data.len() <= MAX_FRAME, "a frame of {}", frame.data.len());
    }
}

/// A card whose registers, rings and cable do what `data` says.
pub fn e1000(stage: &Stage, input: &mut Input<'_>) {
    let memory = stage.memory.clone();
    let clock = ManualClock::new(Duration::ZERO);
    let timer = TimerLog::new();
    let model = Model::ALL[usize::from(input.byte()) % 3];
    let offloads = if input.byte().is_multiple_of(2) { Offloads::all() } else { Offloads::empty() };
    let net = NetPipe::with_offloads(offloads);
    let kind = entry::Kind::E1000 { model: model.device_id(), mac: MAC, link: true, intx: true };
    let tape = stage.tape("e1000.0", kind);
    let setup = E1000Config {
        name: "e1000.0".into(),
        model,
        mac: MAC,
        link: true,
        dma: stage.dma(&tape),
        msi: stage.msi(&tape),
        intx: Some(stage.line(&tape)),
        clock: Arc::new(TapClock { tape: tape.clone(), real: Some(clock.clone()) }),
        timer: Arc::new(TapTimer { tape: tape.clone(), real: Some(timer.clone()) }),
        tracer: stage.tracer.clone(),
    };
    let Ok(card) = E1000::new(setup, stage.net(&tape, net.clone())) else { return };
    let mut card = stage.function(card, tape);
    let origin = Origin::default();
    let command = Command::MEMORY_SPACE | Command::BUS_MASTER;
    card.config_access(Access::write(pci::COMMAND as u64, 2, u64::from(command.bits())));
    clock.advance(Duration::from_secs(1));
    card.device.timer(&origin);
    let write = |card: &mut Function<E1000>, at: u32, value: u32| -> Outcome {
        card.bar_access(REGISTER_BAR, Access::write(at.into(), 4, value.into()))
    };
    // Usually both directions are on, so that inputs reach deep.
    for (at, value) in [
        (reg::CTRL, 0x40),
        (reg::RDBAL, 0x1000),
        (reg::RDLEN, 256),
        (reg::TDBAL, 0x2000),
        (reg::TDLEN, 256),
        (reg::TCTL, 2),
        (reg::RCTL, 0x0000_803A),
        (reg::RDT, 15),
    ] {
        write(&mut card, at, value);
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 10 {
            0 | 1 => {
                let register = &REGISTERS[usize::from(input.byte()) % REGISTERS.len()];
                write(&mut card, register.offset, input.u64() as u32);
            }
            2 => {
                let block = &BLOCKS[usize::from(input.byte()) % BLOCKS.len()];
                let at = block.first + u32::from(input.u16()) % (block.count * block.stride);
                write(&mut card, at & !3, input.u64() as u32);
            }
            3 => {
                let (at, size) = (u64::from(input.u16()) * 2 % 0x1_FFF8, 1 << (input.byte() % 4));
                let at = at & !(u64::from(size) - 1);
                card.bar_access(REGISTER_BAR, Access::read(at, size));
            }
            // A descriptor, usually in the transmit ring, and the tail behind it.
            4..=6 => {
                let slot = u64::from(input.byte() % 16);
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&input.address().to_le_bytes());
                bytes[8..].copy_from_slice(&input.u64().to_le_bytes());
                let ring = if input.byte().is_multiple_of(4) { 0x1000 } else { 0x2000 };
                let _always_inside = memory.write(ring + slot * 16, &bytes);
                write(&mut card, reg::TDT, (slot as u32 + 1) % 16);
            }
            7 => {
                net.feed(frame(input));
                card.device.input_ready(&origin);
                write(&mut card, reg::RDT, u32::from(input.byte() % 16));
            }
            8 => {
                net.limit(if input.byte().is_multiple_of(4) { Some(1) } else { None });
                card.device.output_ready(&origin);
                card.device.set_link(!input.byte().is_multiple_of(4), &origin);
            }
            _ => {
                clock.advance(Duration::from_micros(input.u16().into()));
                card.device.timer(&origin);
                let (at, value) = (u64::from(input.byte() & !3), input.u64());
                if at != pci::COMMAND as u64 {
                    card.config_access(Access::write(at, 4, value & 0xFFFF_FFFF));
                }
            }
        }
        check(&net);
    }
}

/// A working virtio-net function whose rings, buffers and network do what `data` says.
pub fn virtio_net(stage: &Stage, input: &mut Input<'_>) {
    let memory = stage.memory.clone();
    let net = NetPipe::with_offloads(if input.byte().is_multiple_of(2) {
        Offloads::all()
    } else {
        Offloads::empty()
    });
    let setup = NetConfig { mac: MAC, pairs: 2, ..NetConfig::default() };
    let NetConfig { mac, pairs, mtu, link, .. } = setup;
    let queue_size = QUEUE_SIZE;
    let kind = entry::Kind::Net { mac, pairs, mtu, link, queue_size };
    let tape = stage.tape("virtio-net.0", kind);
    let transport = VirtioConfig {
        queue_size,
        tracer: stage.tracer.clone(),
        ..VirtioConfig::new("virtio-net.0", stage.dma(&tape), stage.msi(&tape))
    };
    let device = Net::new(stage.net(&tape, net.clone()), setup);
    let Ok(function) = VirtioPci::new(device, transport) else { return };
    let mut function = stage.function(function, tape);
    let origin = Origin::default();
    let mut driver = Driver::new(&mut function);
    let offered = driver.offered();
    let refused = input.u64();
    driver.negotiate(if input.byte().is_multiple_of(2) { offered } else { offered & refused });
    let mut rings: Vec<Ring> = (0..5).map(|queue| Ring::new(&memory, queue * 0x400, 16)).collect();
    for (queue, ring) in (0..).zip(&rings) {
        driver.enable_queue(queue, ring);
    }
    driver.driver_ok();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let queue = u16::from(input.byte() % 5);
        let ring = &mut rings[usize::from(queue)];
        match input.byte() % 8 {
            0 | 1 => {
                let (addr, len) = (input.address(), input.length());
                let desc = Desc { addr, len, flags: input.u16() % 8, next: input.u16() % 20 };
                ring.set_desc(ring.desc, input.u16() % 20, desc);
                ring.offer_head(input.u16() % 20);
            }
            2 | 3 => {
                let write = queue % 2 == 0 && queue < 4;
                ring.offer(&[(0x4000 + u64::from(input.byte()) * 64, input.length(), write)]);
                Driver::new(&mut function).notify(queue);
            }
            4 => {
                let _outside = memory.write(input.address(), &input.u64().to_le_bytes());
            }
            5 => {
                net.feed(frame(input));
                function.device.input_ready(&origin);
            }
            6 => {
                net.limit(if input.byte().is_multiple_of(4) { Some(1) } else { None });
                function.device.output_ready(&origin);
                function.device.set_link(!input.byte().is_multiple_of(4), &origin);
            }
            _ => {
                ring.set_avail_index(input.u16());
                Driver::new(&mut function).notify(queue);
            }
        }
        check(&net);
    }
}

/// Offload headers of any content, in front of frames of any content.
pub fn offloads(data: &[u8]) {
    let mut input = Input(data);
    let net = NetPipe::with_offloads(Offloads::empty());
    let mut port = Port::new(Box::new(net.clone()));
    while !input.is_empty() {
        port.send(frame(&mut input));
        net.feed(frame(&mut input));
        while port.receive().is_some() {}
        check(&net);
    }
}
