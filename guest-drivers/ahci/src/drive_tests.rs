use super::*;
use proptest::prelude::*;

/// An answer in the making.
struct Answer([u8; 512]);

impl Answer {
    /// A modern disk: LBA48, DMA, NCQ 32, cache, FUA, TRIM, 1000 sectors.
    fn disk() -> Self {
        let mut answer = Self([0; 512]);
        for (word, value) in [
            (identify::CAPABILITIES, 0x0300),
            (identify::SECTORS_28, 1000),
            (identify::QUEUE_DEPTH, 31),
            (identify::SATA_CAPABILITIES, 0x0102),
            (identify::SUPPORTED, 0x0020),
            (identify::SUPPORTED + 1, 0x4000 | 0x3400),
            (identify::SUPPORTED + 2, 0x4040),
            (identify::ENABLED, 0x0020),
            (identify::SECTORS_48, 1000),
            (identify::TRIM, 1),
            (identify::ROTATION, 1),
        ] {
            answer.set(word, value);
        }
        answer.text(identify::MODEL, "XINIM DISK");
        answer.text(identify::SERIAL, "  SN-1");
        answer
    }

    fn set(&mut self, word: usize, value: u16) {
        self.0[2 * word..2 * word + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn with(mut self, word: usize, value: u16) -> Self {
        self.set(word, value);
        self
    }

    fn text(&mut self, word: usize, text: &str) {
        for (i, byte) in text.bytes().enumerate() {
            self.0[2 * word + (i ^ 1)] = byte;
        }
    }

    fn judged(&self) -> (Drive, Unit) {
        disk(&self.0, 32, true).unwrap()
    }
}

#[test]
fn a_modern_disk() {
    let (drive, unit) = Answer::disk().judged();
    assert_eq!(drive.mode, Mode::Queued(32));
    assert!(drive.lba48 && drive.flush_ext && drive.fua);
    assert_eq!((unit.sectors, unit.block_size, unit.depth), (1000, 512, 32));
    assert_eq!(unit.flags, info::WRITE_CACHE | info::FUA);
    assert_eq!((unit.model.as_str(), unit.serial.as_str()), ("XINIM DISK", "SN-1"));
    assert_eq!(unit.limits.max_discard, 64 * 65_535 * 512);
    assert_eq!((unit.limits.max_zeroes, unit.limits.rotation), (0, 1));
}

#[test]
fn less_able_disks_fall_back() {
    let depth = |answer: Answer| disk(&answer.0, 8, true).unwrap().0.mode;
    assert_eq!(depth(Answer::disk()), Mode::Queued(8), "the HBA has fewer slots");
    let no_hba = disk(&Answer::disk().0, 32, false).unwrap();
    assert_eq!((no_hba.0.mode, no_hba.1.depth), (Mode::Dma, 32));
    assert_eq!(depth(Answer::disk().with(identify::SATA_CAPABILITIES, 0)), Mode::Dma);
    assert_eq!(depth(Answer::disk().with(identify::SATA_CAPABILITIES, 0xFFFF)), Mode::Dma);
    let old = Answer::disk()
        .with(identify::SUPPORTED + 1, 0x5000)
        .with(identify::CAPABILITIES, 0x0200)
        .judged();
    assert_eq!(old.0.mode, Mode::Pio);
    assert!(!old.0.lba48 && !old.0.fua && old.0.flush && !old.0.flush_ext);
    assert_eq!(old.1.limits.max_discard, 0);
    assert_eq!(old.1.max_bytes, 256 * 512);
    // A word whose bits 15:14 are not 01 is not valid.
    assert!(!Answer::disk().with(identify::SUPPORTED + 1, 0xFFFF).judged().0.lba48);
}

#[test]
fn sectors_of_4096_bytes() {
    let (drive, unit) =
        Answer::disk().with(identify::SECTOR_SIZE, 0x5000).with(word::LOGICAL_WORDS, 2048).judged();
    assert_eq!((drive.sector_size, unit.block_size, unit.sectors), (4096, 4096, 8000));
    let (_, unit) = Answer::disk().with(identify::SECTOR_SIZE, 0x6003).judged();
    assert_eq!((unit.block_size, unit.limits.physical_block), (512, 4096));
}

#[test]
fn what_is_no_disk_is_refused() {
    let refused = |answer: Answer| disk(&answer.0, 32, true).is_err();
    assert!(refused(Answer([0; 512])));
    assert!(refused(Answer::disk().with(identify::GENERAL, 0x8580)));
    assert!(refused(Answer::disk().with(identify::GENERAL, 0x0004)));
    assert!(refused(
        Answer::disk().with(identify::SECTOR_SIZE, 0x5000).with(word::LOGICAL_WORDS, 260)
    ));
    assert!(refused(Answer::disk().with(identify::SECTORS_48 + 3, 0xFFFF)));
}

#[test]
fn a_cd_rom_and_its_medium() {
    let drive = Answer([0; 512])
        .with(identify::GENERAL, 0x8580)
        .with(identify::CAPABILITIES, 0x0300)
        .with(word::PACKET_DMA, 0x8000);
    let (drive, unit) = cd_rom(&drive.0).unwrap();
    assert!(drive.dmadir && drive.mode == Mode::Packet);
    assert_eq!(unit.flags, info::READ_ONLY | info::REMOVABLE | info::CD_ROM);
    assert_eq!((unit.sectors, unit.block_size), (0, 2048));
    // A tape, and packets of 16 bytes.
    for general in [0x8180, 0x8581] {
        let answer = Answer([0; 512]).with(identify::GENERAL, general);
        assert!(cd_rom(&answer.with(identify::CAPABILITIES, 0x0300).0).is_err());
    }
    assert_eq!(capacity(&[0, 0, 0, 9, 0, 0, 8, 0]), Some(40));
    assert_eq!(capacity(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 8, 0]), Some(1 << 34));
    assert_eq!(capacity(&[0, 0, 0, 9, 0, 0, 2, 0]), None);
}

proptest! {
    /// Whatever a drive says, a unit made of it is one that `Unit::check` can live with.
    #[test]
    fn any_answer_is_judged(
        bytes in prop::collection::vec(any::<u8>(), 512), changes in prop::collection::vec(
            (0usize..256, any::<u16>()), 0..20), plausible: bool, slots in 1u32..=32)
    {
        let mut answer = if plausible { Answer::disk() } else {
            Answer(bytes.try_into().unwrap())
        };
        for (word, value) in changes {
            answer.set(word, value);
        }
        if let Ok((drive, unit)) = disk(&answer.0, slots, true) {
            prop_assert!(unit.block_size.is_power_of_two() && unit.block_size >= 512);
            prop_assert!(unit.depth >= 1 && unit.depth <= slots);
            prop_assert!(unit.sectors.checked_mul(512).is_some());
            prop_assert_eq!(unit.limits.max_discard % unit.block_size, 0);
            prop_assert_eq!(drive.sector_size, unit.block_size);
        }
        let _ = cd_rom(&answer.0);
    }
}
