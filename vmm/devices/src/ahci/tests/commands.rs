//! What the disk does when all goes well.

use super::*;
use crate::backend::Operation;
use proptest::prelude::*;
use xinim_abi::hw::ahci::received;
use xinim_abi::hw::ata::{identify, log, set_features, smart, trim};

fn identify(rig: &mut Rig) -> Vec<u8> {
    assert_eq!(rig.ok(&Cmd::new(command::IDENTIFY_DEVICE).region(DATA, 512)), 512);
    rig.data(512)
}

fn text(data: &[u8], at: usize, length: usize) -> String {
    let bytes = data[2 * at..][..length].chunks(2).flat_map(|pair| [pair[1], pair[0]]);
    bytes.map(char::from).collect()
}

#[test]
fn identify_says_what_is_offered() {
    let mut rig = Rig::new();
    let data = identify(&mut rig);
    assert_eq!(data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
    assert_eq!(text(&data, identify::SERIAL, 20), "S1                  ");
    assert_eq!(text(&data, identify::MODEL, 40).trim(), "XINIM SATA disk");
    assert_eq!(word(&data, identify::SECTORS_28), SECTORS as u16);
    assert_eq!(word(&data, identify::SECTORS_48), SECTORS as u16);
    assert_eq!(word(&data, identify::QUEUE_DEPTH), 31);
    assert_ne!(word(&data, identify::SATA_CAPABILITIES) & identify::SATA_NCQ, 0);
    let sets = identify::LBA48 | identify::FLUSH | identify::FLUSH_EXT;
    assert_eq!(word(&data, identify::SUPPORTED + 1) & sets, sets);
    assert_eq!(word(&data, identify::TRIM), 1);
    assert_ne!(word(&data, identify::ENABLED) & identify::WRITE_CACHE, 0);
    assert_eq!(rig.frame(received::PIO_SETUP, 2), [0x5F, 0x60]);
    assert_eq!(rig.frame(received::PIO_SETUP + 15, 3), [0x50, 0, 2], "status, 512 bytes");
    rig.clear();
    rig.ok(&Cmd::new(command::IDENTIFY_DEVICE).region(DATA, 512));
    let seen = rig.is();
    assert_eq!(seen, PortInterrupt::PSS | PortInterrupt::DPS, "PIO data end without D2H");
}

#[test]
fn the_dialect_of_qemu_differs_where_its_tests_insist() {
    let mut rig = Rig::with(|setup| setup.qemu_dialect = true, Medium::Disk);
    assert_eq!(rig.reg(hw::VS), 0x0001_0300);
    rig.ok(&Cmd::new(command::IDENTIFY_DEVICE).region(DATA, 512));
    assert_eq!(rig.is(), PortInterrupt::PSS | PortInterrupt::DHRS);
    let wide = Cmd::at(command::READ_DMA, 0, 0x101);
    assert_eq!(rig.refused(&wide), 0x14, "257 sectors of 256");
    assert_eq!(Rig::new().ok(&wide), 512, "one sector by the specification");
}

#[test]
fn read_only_disks_and_blocks_of_4096_are_said() {
    let mut rig = Rig::new();
    lock(&rig.disk).read_only = true;
    let data = identify(&mut rig);
    assert_eq!(word(&data, identify::TRIM), 0);
    for code in [command::WRITE_DMA, command::WRITE_SECTORS_EXT] {
        assert_eq!(rig.refused(&Cmd::at(code, 0, 1)), 4);
    }
    assert_eq!(rig.refused(&trim_command(&mut Rig::new())), 4);
}

/// Every way to read and to write, with what they may name: (read, write, sectors at most, PIO).
const WAYS: [(u8, u8, u16, bool); 8] = [
    (command::READ_DMA, command::WRITE_DMA, 16, false),
    (command::READ_DMA_EXT, command::WRITE_DMA_EXT, 64, false),
    (command::READ_DMA_EXT, command::WRITE_DMA_FUA_EXT, 64, false),
    (command::READ_SECTORS, command::WRITE_SECTORS, 16, true),
    (command::READ_SECTORS_EXT, command::WRITE_SECTORS_EXT, 64, true),
    (command::READ_MULTIPLE, command::WRITE_MULTIPLE, 16, true),
    (command::READ_MULTIPLE_EXT, command::WRITE_MULTIPLE_EXT, 64, true),
    (command::READ_MULTIPLE_EXT, command::WRITE_MULTIPLE_FUA_EXT, 64, true),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// PIO and DMA, 28 and 48 bits, any length, place and fragmentation: what was written is read.
    #[test]
    fn transfers_of_every_shape(
        way in 0..WAYS.len(),
        lba in 0u64..192,
        count in 1u16..64,
        first in 1u32..300,
        seed: u8,
    ) {
        let mut rig = Rig::new();
        rig.ok(&Cmd::new(command::SET_MULTIPLE_MODE).count(8));
        let (read, write, most, pio) = WAYS[way];
        let count = count.min(most);
        let bytes = u32::from(count) * 512;
        let pattern: Vec<u8> = (0..bytes).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        // A first region of odd size at an odd word, then pieces with gaps.
        let cut = (first * 2).min(bytes - 2);
        let mut regions = vec![(DATA + 2, cut)];
        let (mut at, mut left) = (DATA + 0x1_0000, bytes - cut);
        while left > 0 {
            let take = left.min(1024);
            regions.push((at, take));
            at += u64::from(take) + 6;
            left -= take;
        }
        let spread = |rig: &Rig, data: &[u8]| {
            let mut rest = data;
            for (address, size) in &regions {
                let (now, later) = rest.split_at(*size as usize);
                rig.memory.write(*address, now).unwrap();
                rest = later;
            }
        };
        let mut cmd = Cmd::at(write, lba, count);
        cmd.regions = regions.clone();
        spread(&rig, &pattern);
        rig.clear();
        prop_assert_eq!(rig.ok(&cmd), bytes);
        let seen = rig.is();
        prop_assert!(seen.contains(PortInterrupt::DHRS | PortInterrupt::DPS));
        let on_disk = lock(&rig.disk).data[lba as usize * 512..][..bytes as usize].to_vec();
        prop_assert!(on_disk == pattern);
        spread(&rig, &vec![0; bytes as usize]);
        rig.clear();
        cmd.fis.command = read;
        prop_assert_eq!(rig.ok(&cmd), bytes);
        prop_assert_eq!(rig.is().contains(PortInterrupt::PSS), pio);
        let back: Vec<u8> = regions.iter().flat_map(|(a, n)| rig.memory.dump(*a, *n as usize)).collect();
        prop_assert!(back == pattern);
    }
}

#[test]
fn a_count_of_zero_is_the_most() {
    let mut rig = Rig::new();
    let cmd = Cmd::at(command::READ_DMA, 0, 256).count(0);
    let data = SECTORS * 512;
    assert_eq!(rig.ok(&cmd) as usize, data);
    assert_eq!(rig.data(data), lock(&rig.disk).data);
    assert_eq!(rig.refused(&Cmd::at(command::READ_DMA_EXT, 0, 1).count(0)), 0x14);
}

#[test]
fn slots_are_taken_in_turn_one_after_the_other() {
    let mut rig = Rig::new();
    rig.hold(true);
    for slot in [3, 1, 30] {
        rig.prepare(slot, &Cmd::at(command::READ_DMA, u64::from(slot), 1));
    }
    rig.set_px(hw::PX_CI, 1 << 3 | 1 << 1 | 1 << 30);
    let mut order = Vec::new();
    while let Some(offset) = { lock(&rig.disk).pending.first().map(|r| r.offset / 512) } {
        assert_eq!(lock(&rig.disk).pending.len(), 1, "one at a time");
        assert_eq!(rig.px(hw::PX_TFD), 0x80);
        order.push(offset);
        rig.finish(0);
    }
    assert_eq!((order, rig.px(hw::PX_CI)), (vec![1, 3, 30], 0));
}

#[test]
fn flushes_reach_the_disk() {
    let mut rig = Rig::new();
    rig.ok(&Cmd::new(command::FLUSH_CACHE));
    rig.hold(true);
    rig.issue(0, &Cmd::new(command::FLUSH_CACHE_EXT));
    assert_eq!((rig.px(hw::PX_TFD), rig.px(hw::PX_CI)), (0x80, 1));
    rig.finish(0);
    assert_eq!((rig.px(hw::PX_TFD), rig.px(hw::PX_CI)), (READY_D2H, 0));
    assert_eq!(lock(&rig.disk).flushes, 2);
}

#[test]
fn writes_are_stable_while_the_cache_is_off() {
    let mut rig = Rig::new();
    let feature = |code| Cmd::new(command::SET_FEATURES).features(code);
    rig.ok(&feature(set_features::DISABLE_WRITE_CACHE));
    assert_eq!(word(&identify(&mut rig), identify::ENABLED) & identify::WRITE_CACHE, 0);
    rig.ok(&Cmd::at(command::WRITE_DMA, 0, 1));
    rig.ok(&feature(set_features::ENABLE_WRITE_CACHE));
    rig.ok(&Cmd::at(command::WRITE_DMA, 0, 1));
    let kinds: Vec<_> = lock(&rig.disk).log.iter().map(|entry| entry.0).collect();
    assert_eq!(kinds, [Operation::Write { fua: true }, Operation::Write { fua: false }]);
    assert_eq!(rig.refused(&feature(0x77)), 4);
}

#[test]
fn transfer_modes_are_those_of_identify() {
    let mut rig = Rig::new();
    for (mode, taken) in [(0x45, true), (0x46, true), (0x47, false), (0x22, true), (0x90, false)] {
        let cmd = Cmd::new(command::SET_FEATURES).features(set_features::TRANSFER_MODE).count(mode);
        let error = if taken { rig.ok(&cmd) } else { u32::from(rig.refused(&cmd)) };
        assert_eq!(error, if taken { 0 } else { 4 }, "{mode:#x}");
    }
    let data = identify(&mut rig);
    assert_eq!(word(&data, identify::MULTIWORD_DMA), 0x0407);
    assert_eq!(word(&data, identify::ULTRA_DMA), 0x007F);
}

fn trim_command(rig: &mut Rig) -> Cmd {
    let ranges = [trim::range(10, 4), trim::range(0, 0), trim::range(200, 56)];
    let mut block = [0; 512];
    for (to, range) in block.chunks_mut(8).zip(ranges) {
        to.copy_from_slice(&range.to_le_bytes());
    }
    rig.memory.write(DATA, &block).unwrap();
    Cmd::new(command::DATA_SET_MANAGEMENT).features(trim::FEATURE).count(1).region(DATA, 512)
}

#[test]
fn trim_discards_its_ranges() {
    let mut rig = Rig::new();
    rig.hold(true);
    let cmd = trim_command(&mut rig);
    rig.issue(0, &cmd);
    rig.finish(1);
    assert_eq!(rig.px(hw::PX_TFD), 0x80, "until both ranges are done");
    rig.finish(0);
    assert_eq!(rig.px(hw::PX_TFD), READY_D2H);
    let log = lock(&rig.disk).log.clone();
    let discard = Operation::Discard;
    assert_eq!(log, [(discard, 200 * 512, 56 * 512), (discard, 10 * 512, 4 * 512)]);
    rig.memory.write(DATA, &trim::range(250, 7).to_le_bytes()).unwrap();
    assert_eq!(rig.refused(&cmd), 0x14, "beyond the end");
    assert_eq!(rig.refused(&cmd.clone().features(0)), 4);
    assert_eq!(rig.refused(&cmd.count(9)), 4);
}

#[test]
fn native_maximum_addresses_are_the_last_sector() {
    let mut rig = Rig::new();
    for code in [command::READ_NATIVE_MAX_ADDRESS, command::READ_NATIVE_MAX_ADDRESS_EXT] {
        rig.ok(&Cmd::new(code));
        assert_eq!(rig.frame(received::REGISTER + 4, 3), [(SECTORS - 1) as u8, 0, 0]);
    }
}

#[test]
fn smart_is_well() {
    let mut rig = Rig::new();
    let smart = |code| {
        let mut cmd = Cmd::new(command::SMART).features(code).count(1);
        cmd.fis.lba_low[0] = log::SMART_SELF_TEST;
        cmd.fis.lba_low[1..].copy_from_slice(&smart::SIGNATURE);
        cmd
    };
    rig.ok(&smart(smart::RETURN_STATUS));
    assert_eq!(rig.frame(received::REGISTER + 5, 2), smart::SIGNATURE);
    for code in [smart::READ_DATA, smart::READ_THRESHOLDS, smart::READ_LOG] {
        rig.ok(&smart(code).region(DATA, 512));
        assert_eq!(rig.data(512).iter().fold(0u8, |sum, b| sum.wrapping_add(*b)), 0, "{code:#x}");
    }
    rig.ok(&smart(smart::OFFLINE_IMMEDIATE));
    rig.ok(&smart(smart::DISABLE));
    assert_eq!(word(&identify(&mut rig), identify::ENABLED) & 1, 0);
    assert_eq!(rig.refused(&smart(smart::READ_DATA).region(DATA, 512)), 4);
    rig.ok(&smart(smart::ENABLE));
    assert_eq!(rig.refused(&Cmd::new(command::SMART).features(smart::RETURN_STATUS)), 4);
}

#[test]
fn the_logs_of_the_directory_can_be_read() {
    let mut rig = Rig::new();
    let page = |number: u8, page: u8| {
        let mut cmd = Cmd::new(command::READ_LOG_EXT).region(DATA, 512).count(1);
        cmd.fis.lba_low = [number, page, 0];
        cmd
    };
    rig.ok(&page(log::DIRECTORY, 0));
    let directory = rig.data(512);
    assert_eq!((word(&directory, 0), word(&directory, 0x10)), (1, 1));
    assert_eq!(word(&directory, usize::from(log::IDENTIFY)), 2);
    rig.ok(&page(log::IDENTIFY, 1));
    let copy = rig.data(512);
    assert_eq!(copy, identify(&mut rig));
    assert_eq!(rig.refused(&page(log::IDENTIFY, 2)), 4);
    assert_eq!(rig.refused(&page(0x77, 0)), 4);
}

#[test]
fn power_commands_succeed_and_unknown_ones_do_not() {
    let mut rig = Rig::new();
    for code in [
        command::STANDBY_IMMEDIATE,
        command::IDLE_IMMEDIATE,
        command::STANDBY,
        command::IDLE,
        command::CHECK_POWER_MODE,
        command::SLEEP,
        command::READ_VERIFY,
    ] {
        rig.ok(&Cmd::new(code).count(1));
    }
    for code in [command::NOP, command::PACKET, command::IDENTIFY_PACKET_DEVICE, 0xF1] {
        assert_eq!(rig.refused(&Cmd::new(code).region(DATA, 512)), 4, "{code:#x}");
    }
}
