//! What the CD-ROM drive answers with: data of packet commands, numbers big-endian.

use super::Sense;
use xinim_abi::hw::atapi::{BLOCK_SIZE, sense};

/// Media events (MMC-6 6.5.6).
pub const EVENT_NONE: u8 = 0;
pub const EVENT_NEW_MEDIUM: u8 = 2;
pub const EVENT_REMOVED: u8 = 3;
/// Notification class of media events.
const CLASS_MEDIA: u8 = 4;
/// Profiles (MMC-6 5.3): none, CD-ROM.
const PROFILE_NONE: u16 = 0;
const PROFILE_CD_ROM: u16 = 0x0008;
/// Frames before block 0 of a CD: two seconds.
const LEAD: u32 = 150;
const FRAMES_PER_SECOND: u32 = 75;
/// Track number of the lead-out.
const LEAD_OUT: u8 = 0xAA;

/// Fixed-format sense data (SPC-3 4.5.3).
pub fn sense(sense: Sense) -> Vec<u8> {
    let mut data = vec![0; sense::SIZE];
    data[0] = sense::CURRENT_FIXED;
    data[2] = sense.key;
    data[7] = (sense::SIZE - 8) as u8;
    data[12..14].copy_from_slice(&sense.code);
    data
}

fn padded(data: &mut [u8], text: &str) {
    data.fill(b' ');
    let printable = |byte: u8| if (0x20..0x7F).contains(&byte) { byte } else { b'?' };
    for (to, from) in data.iter_mut().zip(text.bytes()) {
        *to = printable(from);
    }
}

/// Standard INQUIRY data (SPC-3 6.4.2): CD-ROM, removable, MMC.
pub fn inquiry(model: &str, revision: &str) -> Vec<u8> {
    let mut data = vec![0; 36];
    data[0] = 0x05;
    data[1] = 0x80;
    data[2] = 0x05;
    data[3] = 0x02;
    data[4] = (data.len() - 5) as u8;
    let (vendor, product) = model.split_once(' ').unwrap_or(("XINIM", model));
    padded(&mut data[8..16], vendor);
    padded(&mut data[16..32], product);
    padded(&mut data[32..36], revision);
    data
}

/// Vital product data: the list of pages, the serial number.
pub fn vital_page(page: u8, serial: &str) -> Option<Vec<u8>> {
    let mut data = vec![0x05, page, 0, 0];
    match page {
        0x00 => data.extend([0x00, 0x80]),
        0x80 => data.extend(serial.bytes()),
        _ => return None,
    }
    data[3] = (data.len() - 4) as u8;
    Some(data)
}

/// Mode parameters (MMC-6 7): error recovery, capabilities; page 3Fh is all of them. `header` is
/// 4 or 8, for the 6- and 10-byte commands.
pub fn mode_pages(page: u8, changeable: bool, locked: bool, header: usize) -> Option<Vec<u8>> {
    let mut data = vec![0; header];
    let wanted = |number: u8| page == number || page == 0x3F;
    if wanted(0x01) {
        data.extend([0x01, 6, 0, 5, 0, 0, 0, 0]);
    }
    if wanted(0x2A) {
        let mut capabilities = vec![0x2A, 20];
        capabilities.resize(22, 0);
        // Reads CD-R and CD-RW; mode 2; lock, eject, tray.
        capabilities[2] = 0x03;
        capabilities[4] = 0x70;
        capabilities[6] = 0x29 | u8::from(locked) << 1;
        // 50-fold in kB/s, 512 kB of buffer.
        capabilities[8..10].copy_from_slice(&8467u16.to_be_bytes());
        capabilities[12..14].copy_from_slice(&512u16.to_be_bytes());
        capabilities[14..16].copy_from_slice(&8467u16.to_be_bytes());
        data.extend(capabilities);
    }
    if data.len() == header {
        return None;
    }
    if changeable {
        // Only page codes and lengths stay.
        let mut at = header;
        while at + 1 < data.len() {
            let length = usize::from(data[at + 1]);
            data[at + 2..at + 2 + length].fill(0);
            at += 2 + length;
        }
    }
    if header == 4 {
        data[0] = (data.len() - 1) as u8;
    } else {
        let length = (data.len() - 2) as u16;
        data[..2].copy_from_slice(&length.to_be_bytes());
    }
    Some(data)
}

/// GET CONFIGURATION (MMC-6 6.6): profile list, core, removable medium, random readable, CD read.
/// `kind` 0: all from `first` on, 1: current ones, 2: `first` alone.
pub fn configuration(kind: u8, first: u16, disc: bool) -> Vec<u8> {
    let current = u8::from(disc);
    let features: [(u16, u8, &[u8]); 5] = [
        (0x0000, 0x03, &[0x00, 0x08, current, 0]),
        (0x0001, 0x0B, &[0, 0, 0, 2, 1, 0, 0, 0]),
        // Eject, lock, tray.
        (0x0003, 0x03, &[0x29, 0, 0, 0]),
        (0x0010, current, &[0, 0, 8, 0, 0, 1, 0, 0]),
        (0x001E, 0x08 | current, &[0, 0, 0, 0]),
    ];
    let mut data = vec![0; 8];
    for (code, flags, body) in features {
        let wanted = match kind {
            0 => code >= first,
            1 => code >= first && flags & 1 != 0,
            _ => code == first,
        };
        if wanted {
            data.extend(code.to_be_bytes());
            data.extend([flags, body.len() as u8]);
            data.extend(body);
        }
    }
    let profile = if disc { PROFILE_CD_ROM } else { PROFILE_NONE };
    data[6..8].copy_from_slice(&profile.to_be_bytes());
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

/// GET EVENT STATUS NOTIFICATION (MMC-6 6.5): media events or "no such class".
pub fn event(classes: u8, event: u8, open: bool, disc: bool) -> Vec<u8> {
    if classes & (1 << CLASS_MEDIA) == 0 {
        return vec![0, 2, 0x80, 1 << CLASS_MEDIA];
    }
    let status = u8::from(open) | u8::from(disc && !open) << 1;
    vec![0, 6, CLASS_MEDIA, 1 << CLASS_MEDIA, event, status, 0, 0]
}

/// MECHANISM STATUS (MMC-6 6.11): door, nothing else.
pub fn mechanism(open: bool) -> Vec<u8> {
    let mut data = vec![0; 8];
    data[1] = u8::from(open) << 4;
    data
}

/// READ CAPACITY (MMC-6 6.24): last block, block size.
pub fn capacity(blocks: u32) -> Vec<u8> {
    let mut data = blocks.saturating_sub(1).to_be_bytes().to_vec();
    data.extend((BLOCK_SIZE as u32).to_be_bytes());
    data
}

/// A block's place in minutes, seconds and frames, as numbers below 100.
fn minutes(block: u32) -> [u8; 3] {
    let frames = block.saturating_add(LEAD);
    let seconds = frames / FRAMES_PER_SECOND;
    let minute = (seconds / 60).min(99);
    [minute as u8, (seconds % 60) as u8, (frames % FRAMES_PER_SECOND) as u8]
}

fn place(block: u32, as_time: bool) -> [u8; 4] {
    let [minute, second, frame] = minutes(block);
    if as_time { [0, minute, second, frame] } else { block.to_be_bytes() }
}

/// READ TOC (MMC-6 6.30): one data track. Format 0 tracks, 1 sessions, 2 everything.
pub fn toc(blocks: u32, format: u8, as_time: bool, first: u8) -> Option<Vec<u8>> {
    let mut data = vec![0, 0, 1, 1];
    match format {
        0 => {
            if first > 1 && first != LEAD_OUT {
                return None;
            }
            if first <= 1 {
                data.extend([0, 0x14, 1, 0]);
                data.extend(place(0, as_time));
            }
            data.extend([0, 0x14, LEAD_OUT, 0]);
            data.extend(place(blocks, as_time));
        }
        1 => {
            data.extend([0, 0x14, 1, 0]);
            data.extend(place(0, as_time));
        }
        2 => {
            let [minute, second, frame] = minutes(blocks);
            for (point, time) in [
                (0xA0, [1, 0, 0]),
                (0xA1, [1, 0, 0]),
                (0xA2, [minute, second, frame]),
                (0x01, minutes(0)),
            ] {
                data.extend([1, 0x14, 0, point, 0, 0, 0, 0]);
                data.extend(time);
            }
        }
        _ => return None,
    }
    let length = (data.len() - 2) as u16;
    data[..2].copy_from_slice(&length.to_be_bytes());
    Some(data)
}

/// READ DISC INFORMATION (MMC-6 6.22): finalised, one session with one track.
pub fn disc_information() -> Vec<u8> {
    let mut data = vec![0; 34];
    data[1] = 32;
    data[2] = 0x0E;
    data[3..7].copy_from_slice(&[1, 1, 1, 1]);
    data[7] = 0x20;
    data[16..24].fill(0xFF);
    data
}

/// READ TRACK INFORMATION (MMC-6 6.27): the one data track.
pub fn track_information(blocks: u32) -> Vec<u8> {
    let mut data = vec![0; 36];
    data[1] = 34;
    data[2] = 1;
    data[3] = 1;
    data[5] = 0x04;
    data[6] = 0x01;
    data[24..28].copy_from_slice(&blocks.to_be_bytes());
    data
}

/// A raw mode 1 sector (ECMA-130 14) around block `block` with its data left out: sync and header.
/// Error correction is of no use here and reads as zeros.
pub fn raw_frame(block: u32) -> Vec<u8> {
    let decimal = |value: u8| ((value / 10) << 4) | (value % 10);
    let mut frame = vec![0; 2352];
    frame[1..11].fill(0xFF);
    for (to, part) in frame[12..15].iter_mut().zip(minutes(block)) {
        *to = decimal(part);
    }
    frame[15] = 1;
    frame
}
