use super::*;
use xinim_abi::services::block::flags;

fn drive(mode: Mode, lba48: bool) -> Drive {
    Drive {
        mode,
        lba48,
        flush: true,
        flush_ext: lba48,
        fua: lba48,
        dmadir: false,
        sector_size: if mode == Mode::Packet { 2048 } else { 512 },
    }
}

fn sent(drive: &Drive, request: &Request) -> Command {
    command(drive, request, 5).unwrap()
}

#[test]
fn queued_commands_carry_tag_and_count_where_they_belong() {
    let queued = drive(Mode::Queued(32), true);
    let read = sent(&queued, &Request::read(0x1_2345_6789, 3 * 512));
    assert_eq!((read.frame.command, read.class), (command::READ_FPDMA_QUEUED, Class::Queued));
    assert_eq!((read.frame.lba48(), read.frame.features16()), (0x1_2345_6789, 3));
    assert_eq!((read.frame.count16(), read.frame.device), (5 << 3, DEVICE_LBA));
    assert!(!read.write);
    let fua = Request { flags: flags::FUA, ..Request::write(8, 65_536 * 512) };
    let write = sent(&queued, &fua);
    assert_eq!(write.frame.command, command::WRITE_FPDMA_QUEUED);
    assert_eq!((write.frame.features16(), write.frame.device), (0, DEVICE_LBA | DEVICE_FUA));
    assert!(write.write);
}

#[test]
fn other_commands_follow_what_the_drive_can() {
    let read = Request::read(0x0ABC_DEF0, 2 * 512);
    let fua = Request { flags: flags::FUA, ..Request::write(1, 512) };
    for (mode, lba48, request, code, class) in [
        (Mode::Dma, true, read, command::READ_DMA_EXT, Class::Plain),
        (Mode::Dma, true, Request::write(1, 512), command::WRITE_DMA_EXT, Class::Plain),
        (Mode::Dma, true, fua, command::WRITE_DMA_FUA_EXT, Class::Plain),
        (Mode::Dma, false, read, command::READ_DMA, Class::Plain),
        (Mode::Dma, false, Request::write(1, 512), command::WRITE_DMA, Class::Plain),
        (Mode::Pio, true, read, command::READ_SECTORS_EXT, Class::Solo),
        (Mode::Pio, false, Request::write(1, 512), command::WRITE_SECTORS, Class::Solo),
        (Mode::Queued(32), true, Request::flush(), command::FLUSH_CACHE_EXT, Class::Solo),
        (Mode::Dma, false, Request::flush(), command::FLUSH_CACHE, Class::Solo),
    ] {
        let command = sent(&drive(mode, lba48), &request);
        assert_eq!((command.frame.command, command.class), (code, class));
        if request == read {
            let lba = if lba48 { command.frame.lba48() } else { command.frame.lba28() };
            assert_eq!((lba, command.frame.count16()), (0x0ABC_DEF0, 2));
        }
    }
    let most = sent(&drive(Mode::Dma, false), &Request::read(0, 256 * 512));
    assert_eq!(most.frame.count16(), 0, "256 is written 0");
    let none = Drive { flush: false, flush_ext: false, ..drive(Mode::Dma, true) };
    assert_eq!(command(&none, &Request::flush(), 0), None);
}

#[test]
fn sectors_of_the_interface_are_not_those_of_the_drive() {
    let large = Drive { sector_size: 4096, ..drive(Mode::Dma, true) };
    let read = sent(&large, &Request::read(80, 2 * 4096));
    assert_eq!((read.frame.lba48(), read.frame.count16()), (10, 2));
}

#[test]
fn a_packet_reads_blocks_of_2048() {
    let cd = drive(Mode::Packet, false);
    let read = sent(&cd, &Request::read(4 * 0x0102, 3 * 2048));
    assert_eq!(read.frame.command, command::PACKET);
    assert_eq!(read.frame.features, FEATURE_DMA);
    assert_eq!(read.packet, Some([0x28, 0, 0, 0, 1, 2, 0, 0, 3, 0, 0, 0]));
    let directed = Drive { dmadir: true, ..cd };
    assert_eq!(read_capacity(&directed).frame.features, FEATURE_DMA | 4);
}

#[test]
fn ranges_to_trim_are_cut_at_65535_sectors() {
    let sata = drive(Mode::Queued(32), true);
    let sectors = 2 * 65_535 + 7;
    let request =
        Request { operation: Operation::Discard, sector: 100, bytes: sectors * 512, flags: 0 };
    let block = trim_ranges(&sata, &request);
    let range = |i: usize| u64::from_le_bytes(block[8 * i..8 * i + 8].try_into().unwrap());
    assert_eq!(range(0), 65_535 << 48 | 100);
    assert_eq!(range(1), 65_535 << 48 | (100 + 65_535));
    assert_eq!(range(2), 7 << 48 | (100 + 2 * 65_535));
    assert!((3..64).all(|i| range(i) == 0));
    let command = sent(&sata, &request);
    assert_eq!((command.frame.features, command.frame.count16()), (1, 1));
    assert!(command.write && command.class == Class::Solo);
}

#[test]
fn the_error_log_is_believed_only_whole() {
    let mut log = [0; 512];
    log[0] = 17;
    log[2] = 0x41;
    let sum = log.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    log[511] = sum.wrapping_neg();
    assert_eq!(failed_tag(&log), Some(17));
    log[0] |= 0x80;
    log[511] = log[511].wrapping_sub(0x80);
    assert_eq!(failed_tag(&log), None, "not a queued command");
    log[0] = 17;
    assert_eq!(failed_tag(&log), None, "a sum that is not 0");
}
