//! The same device as QEMU's.

use super::peer::{Far, PeerError, SLOT, Sockets};
use super::steps::Survey;
use crate::entry::{Description, DiskInfo, DriveSpec, Kind};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where q35's memory below 4 GiB ends at most when there is a lot of it.
const MEMORY_MAX: u64 = 0x8000_0000;
const MEMORY_MIN: u64 = 64 << 20;
/// Of what was read of an image, so much is filled with a pattern; the rest stays zero.
const PATTERN_MAX: u64 = 256 << 20;
/// AHCI ports of QEMU's controller.
const PORTS: u16 = 6;

/// QEMU's arguments, and what goes with them.
pub struct Machine {
    pub args: Vec<String>,
    pub far: Far,
    /// End of the memory; the last page is ours.
    pub memory: u64,
}

/// Why there is no such device.
#[derive(Debug)]
pub enum NoDevice {
    /// In words.
    Unsupported(String),
    Failed(PeerError),
}

pub fn machine(
    description: &Description,
    survey: &Survey,
    sockets: &Sockets,
) -> Result<Machine, NoDevice> {
    let memory = survey.memory.max(MEMORY_MIN).next_multiple_of(1 << 20) + (1 << 20);
    if memory > MEMORY_MAX {
        let text = format!("it used memory up to {:#x}, more than can be made", survey.memory);
        return Err(NoDevice::Unsupported(text));
    }
    let path = |name: &str| sockets.path(name).to_string_lossy().replace(',', ",,");
    let mut args: Vec<String> =
        "-nodefaults -no-user-config -display none -accel tcg -machine q35,memory-backend=ram"
            .split(' ')
            .map(str::to_owned)
            .collect();
    let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
    add("-m", format!("{}M", memory >> 20));
    let ram = path("ram");
    add(
        "-object",
        format!("memory-backend-file,id=ram,size={}M,mem-path={ram},share=on", memory >> 20),
    );
    add("-bios", firmware(sockets)?);
    add("-qtest", format!("unix:{}", path("qtest")));
    add("-qtest-log", "none".into());
    add("-chardev", format!("socket,id=qmp,path={}", path("monitor")));
    add("-mon", "chardev=qmp,mode=control".into());
    let place = format!("addr={SLOT}");
    let far = path("far");
    let stream = format!("stream,id=net,server=off,addr.type=unix,addr.path={far}");
    let name = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut far_side = Far::None;
    match &description.kind {
        Kind::Block { id, queues, queue_size } => {
            let disk = survey.disks.get(&0).copied().unwrap_or_default();
            add("-blockdev", image(sockets, survey, 0, &disk, false)?);
            let serial = id.replace(',', ",,");
            add(
                "-device",
                format!(
                    "virtio-blk-pci,{place},disable-legacy=on,drive=disk0,serial={serial},\
                     num-queues={queues},queue-size={queue_size},logical_block_size={},\
                     physical_block_size={},write-cache={},werror=report,rerror=report",
                    disk.logical_block.max(512),
                    disk.physical_block.max(512),
                    if disk.write_cache { "on" } else { "off" },
                ),
            );
        }
        Kind::Console { .. } => {
            far_side = Far::Stream;
            add("-chardev", format!("socket,id=far,path={far}"));
            add(
                "-device",
                format!("virtio-serial-pci,id=serial,{place},disable-legacy=on,max_ports=1"),
            );
            add("-device", "virtconsole,bus=serial.0,chardev=far".into());
        }
        Kind::Net { mac, queue_size, mtu, pairs, .. } => {
            if *pairs != 1 {
                let text = format!("it has {pairs} pairs of queues; QEMU's back end has one");
                return Err(NoDevice::Unsupported(text));
            }
            far_side = Far::Network;
            add("-netdev", stream);
            add(
                "-device",
                format!(
                    "virtio-net-pci,id=card,{place},disable-legacy=on,netdev=net,mac={},\
                     rx_queue_size={size},tx_queue_size={size},host_mtu={mtu},speed=10000,duplex=full,romfile=",
                    name(mac),
                    size = queue_size.clamp(&256, &1024),
                ),
            );
        }
        Kind::E1000 { model, mac, .. } => {
            let device = match *model {
                0x100E => "e1000",
                0x100F => "e1000-82545em",
                0x10D3 => "e1000e",
                other => {
                    let text = format!("there is no QEMU device for model {other:#x}");
                    return Err(NoDevice::Unsupported(text));
                }
            };
            far_side = Far::Network;
            add("-netdev", stream);
            add(
                "-device",
                format!("{device},id=card,{place},netdev=net,mac={},romfile=", name(mac)),
            );
        }
        Kind::Ahci { drives, .. } => {
            add("-device", format!("ich9-ahci,id=ahci,{place}"));
            for drive in drives {
                add_drive(&mut add, sockets, survey, drive)?;
            }
        }
    }
    Ok(Machine { args, far: far_side, memory })
}

/// Instead of a BIOS: a processor that does nothing. (`-accel qtest` has none, but QEMU as Debian
/// builds it has not that.)
fn firmware(sockets: &Sockets) -> Result<String, NoDevice> {
    /// At the reset vector, 16 bytes before the end: `cli`, `hlt`, and back to it.
    const HALT: [u8; 4] = [0xFA, 0xF4, 0xEB, 0xFD];
    let path = sockets.path("firmware");
    let mut bytes = vec![0; 1 << 16];
    bytes[(1 << 16) - 16..][..HALT.len()].copy_from_slice(&HALT);
    std::fs::write(&path, bytes)
        .map_err(|source| NoDevice::Failed(PeerError::Io { context: "making firmware", source }))?;
    Ok(path.to_string_lossy().replace(',', ",,"))
}

fn add_drive(
    add: &mut impl FnMut(&str, String),
    sockets: &Sockets,
    survey: &Survey,
    drive: &DriveSpec,
) -> Result<(), NoDevice> {
    let DriveSpec { unit, cd_rom, medium, serial } = drive;
    if *unit >= PORTS {
        let text = format!("it has a drive at port {unit}; QEMU's controller has {PORTS} ports");
        return Err(NoDevice::Unsupported(text));
    }
    let disk = survey.disks.get(unit).copied().unwrap_or_default();
    let mut device = format!("{},bus=ahci.{unit}", if *cd_rom { "ide-cd" } else { "ide-hd" });
    if *medium {
        add("-blockdev", image(sockets, survey, *unit, &disk, *cd_rom)?);
        device.push_str(&format!(",drive=disk{unit}"));
    }
    if !serial.is_empty() {
        device.push_str(&format!(",serial={}", serial.replace(',', ",,")));
    }
    if !cd_rom {
        device.push_str(&format!(
            ",logical_block_size={},physical_block_size={},write-cache={},werror=report,\
             rerror=report",
            disk.logical_block.max(512),
            disk.physical_block.max(512),
            if disk.write_cache { "on" } else { "off" },
        ));
    }
    add("-device", device);
    Ok(())
}

/// Makes an image: as long as the disk, and what was read of it full of numbers that say where they
/// are. Its `-blockdev` value.
fn image(
    sockets: &Sockets,
    survey: &Survey,
    unit: u16,
    disk: &DiskInfo,
    cd_rom: bool,
) -> Result<String, NoDevice> {
    let path = sockets.path(&format!("disk{unit}"));
    let fill = || -> io::Result<()> {
        let file = File::create(&path)?;
        file.set_len(disk.length)?;
        let mut left = PATTERN_MAX;
        for (_, offset, length) in survey.places.iter().filter(|(of, ..)| *of == unit) {
            let end = offset.saturating_add(*length).min(disk.length);
            if end <= *offset || end - offset > left {
                continue;
            }
            left -= end - offset;
            file.write_all_at(&pattern(u64::from(unit) << 56, *offset, end - offset), *offset)?;
        }
        Ok(())
    };
    fill()
        .map_err(|source| NoDevice::Failed(PeerError::Io { context: "making an image", source }))?;
    let path = path.to_string_lossy().replace(',', ",,");
    // A host that is slow to flush a file nobody will read again is not waited for.
    let read_only = if disk.read_only || cd_rom { "on" } else { "off" };
    Ok(format!(
        "raw,node-name=disk{unit},read-only={read_only},cache.no-flush=on,file.driver=file,\
         file.filename={path}"
    ))
}

/// Bytes that are like no others: each eight are a mixture of `seed` and their place.
pub fn pattern(seed: u64, offset: u64, length: u64) -> Vec<u8> {
    let word = |at: u64| (seed ^ at).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let words = (offset / 8..=(offset + length) / 8).flat_map(|at| word(at * 8).to_le_bytes());
    words.skip((offset % 8) as usize).take(length as usize).collect()
}
