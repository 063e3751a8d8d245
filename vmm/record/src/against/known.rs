//! Differences between our devices and QEMU's that are understood.
//!
//! Each has an id, the devices and differences it is about, and whose it is. docs/record-replay.md
//! explains them one by one. What is not here is unknown, and somebody has to look.

use super::report::Difference;

/// Whose doing a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// QEMU does something that the specification has otherwise, or leaves something out.
    Qemu,
    /// Ours leaves something out that the specification allows to be left out, or should have.
    Ours,
    /// Both are right: the specification leaves it to the device.
    Silent,
    /// The other machine is not made like the first: a back end, a number of ports.
    Setup,
}

impl Verdict {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU deviates",
            Self::Ours => "ours leaves it out",
            Self::Silent => "left to the device",
            Self::Setup => "set up otherwise",
        }
    }
}

/// A difference that is understood.
#[derive(Debug)]
pub struct Known {
    pub id: &'static str,
    /// PCI device ids; none: of all.
    devices: &'static [u16],
    /// Names of differences; `*` at the end stands for anything.
    what: &'static [&'static str],
    /// Of registers: bits that may differ.
    bits: u64,
    pub verdict: Verdict,
    pub why: &'static str,
}

/// Anything, or no register.
const ALL: u64 = u64::MAX;
const AHCI: &[u16] = &[0x2922];
const BLOCK: &[u16] = &[0x1042];
const CONSOLE: &[u16] = &[0x1043];
const NET: &[u16] = &[0x1041];
const VIRTIO: &[u16] = &[0x1041, 0x1042, 0x1043];
/// 82540EM, 82545EM.
const E1000: &[u16] = &[0x100E, 0x100F];
const E1000E: &[u16] = &[0x10D3];
const CARDS: &[u16] = &[0x100E, 0x100F, 0x10D3];

const fn entry(
    id: &'static str,
    verdict: Verdict,
    devices: &'static [u16],
    what: &'static [&'static str],
    bits: u64,
    why: &'static str,
) -> Known {
    Known { id, devices, what, bits, verdict, why }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    entry(
        "virtio-features",
        Verdict::Silent,
        VIRTIO,
        &["read device_feature"],
        0xFFFF_FFFF,
        "each device offers what it likes (VIRTIO 2.2); the driver is held to what both have",
    ),
    entry(
        "virtio-vectors",
        Verdict::Silent,
        VIRTIO,
        &["read msix.control", "read msix.id+msix.next+msix.control"],
        0x07FF_07FF,
        "the number of MSI-X vectors is the device's (VIRTIO 4.1.5.1.2)",
    ),
    entry(
        "interrupt-pin",
        Verdict::Silent,
        &[],
        &["read interrupt_line+interrupt_pin", "read interrupt_pin"],
        0xFF00,
        "a function may have no interrupt wire (PCI 6.2.4): ours sends messages only, QEMU's has INTA",
    ),
    entry(
        "virtio-queue-size",
        Verdict::Silent,
        VIRTIO,
        &["read queue_size[*"],
        0xFFFF,
        "the largest size of a queue is the device's (VIRTIO 4.1.4.3); QEMU fixes 128 for a console \
         and 64 for a card's control queue",
    ),
    entry(
        "virtio-first-interrupt",
        Verdict::Silent,
        VIRTIO,
        &["interrupt extra at first completion"],
        ALL,
        "QEMU interrupts for the first completion of a queue whatever used_event says; interrupts \
         that were not asked for are allowed (VIRTIO 2.7.7.1)",
    ),
    entry(
        "console-spurious",
        Verdict::Silent,
        CONSOLE,
        &["interrupt extra at device_status", "interrupt extra at a doorbell"],
        ALL,
        "QEMU's console interrupts after it has looked at a queue, also if nothing was in it",
    ),
    entry(
        "blk-limits",
        Verdict::Silent,
        BLOCK,
        &[
            "read size_max",
            "read seg_max",
            "read max_discard_sectors",
            "read discard_sector_alignment",
            "read max_write_zeroes_sectors",
            "read max_discard_seg",
            "read max_write_zeroes_seg",
        ],
        ALL,
        "limits of a request are the device's (VIRTIO 5.2.4)",
    ),
    entry(
        "net-speed",
        Verdict::Setup,
        NET,
        &["read speed", "read duplex", "read max_virtqueue_pairs"],
        ALL,
        "QEMU's card has what its back end has",
    ),
    entry(
        "ahci-capabilities",
        Verdict::Silent,
        AHCI,
        &["capability 0x12", "read CAP", "read CAP2", "read BOHC", "read VS", "read PxSSTS[*"],
        ALL,
        "what a controller can do (AHCI 3.1.1): 6 Gbit/s, command list override and hand-off from a \
         BIOS are ours; a SATA capability in configuration space is QEMU's",
    ),
    entry(
        "ahci-hot-plug",
        Verdict::Silent,
        AHCI,
        &["read PxCMD[*"],
        1 << 18,
        "our ports are hot-plug capable (PxCMD.HPCP, AHCI 3.3.7)",
    ),
    entry(
        "ahci-link-event",
        Verdict::Qemu,
        AHCI,
        &["interrupt missing at GHC", "interrupt missing at PxSSTS", "interrupt missing at PxCMD"],
        ALL,
        "after a reset a drive's coming up sets PxSERR.DIAG.X and N and so PxIS (AHCI 3.3.5, 10.4.2); \
         QEMU's drives are there without an event",
    ),
    entry(
        "ahci-announcement",
        Verdict::Qemu,
        AHCI,
        &[
            "memory received FIS +0x41",
            "memory received FIS +0x42",
            "memory received FIS +0x47",
            "interrupt extra at PxCMD",
            "read PxTFD[*",
        ],
        0x70,
        "the FIS with which a drive announces itself has no interrupt bit and the status of a drive at \
         rest (0x50, of a packet drive 0), device 0 (ACS-3 6.3); QEMU's interrupts, and has 0x30 or 0x70",
    ),
    entry(
        "ahci-pio-setup",
        Verdict::Qemu,
        AHCI,
        &["memory received FIS +0x21", "memory received FIS +0x2f"],
        ALL,
        "a PIO setup FIS says the direction (D is one to the host) and in E_STATUS the status after the \
         transfer (SATA 10.5.11); QEMU has neither",
    ),
    entry(
        "ahci-register-after-pio",
        Verdict::Qemu,
        AHCI,
        &["read PxIS[*", "interrupt extra at PxCI"],
        1,
        "a PIO read ends with its PIO setup FIS (SATA 11.7); QEMU sends a D2H FIS as well (PxIS.DHRS)",
    ),
    entry(
        "ahci-message-again",
        Verdict::Qemu,
        AHCI,
        &["interrupt extra at PxIS", "interrupt extra at PxIE", "interrupt extra at GHC"],
        ALL,
        "a message goes out when a bit of IS becomes one (AHCI 10.6.2.1); QEMU sends one at every access \
         while one is set",
    ),
    entry(
        "ahci-is-sticky",
        Verdict::Qemu,
        AHCI,
        &["read IS"],
        0xFFFF_FFFF,
        "IS stays set until it is written (AHCI 3.1.3); QEMU's follows the ports by itself",
    ),
    entry(
        "ahci-dma-setup",
        Verdict::Qemu,
        AHCI,
        &["memory received FIS +0x0", "memory received FIS +0x1*", "memory received FIS +0x4"],
        ALL,
        "a drive begins a queued command's data with a DMA setup FIS, which the controller posts \
         (SATA 11.16, AHCI 4.2.1); QEMU sends none",
    ),
    entry(
        "ahci-completions-together",
        Verdict::Silent,
        AHCI,
        &[
            "memory received FIS +0x5c",
            "memory received FIS +0x5d",
            "memory received FIS +0x5e",
            "memory received FIS +0x5f",
        ],
        ALL,
        "how many queued commands a set device bits FIS reports is the drive's; QEMU reports each alone",
    ),
    entry(
        "ata-identity",
        Verdict::Silent,
        AHCI,
        &["memory 512 bytes +*"],
        ALL,
        "what a drive is and can do, in IDENTIFY DEVICE and in logs",
    ),
    entry(
        "e1000-configuration",
        Verdict::Qemu,
        E1000,
        &[
            "capability power management",
            "capability MSI",
            "read revision+prog_if+subclass+class",
            "read command+status",
            "read command",
        ],
        0x0010_0401,
        "the 82540EM has capabilities for power management and messages (8254x 4.2); QEMU's has none, so \
         its wire stands for the messages here, and interrupts by it stay enabled",
    ),
    entry(
        "82574-configuration",
        Verdict::Ours,
        E1000E,
        &["capability PCI Express", "read pm.id+pm.next+pm.pmc", "read pm.pmc"],
        ALL,
        "ours is a function of a conventional bus: no PCI Express capability, and other power states",
    ),
    entry(
        "e1000-status",
        Verdict::Qemu,
        E1000,
        &["read STATUS"],
        0x8008_0D02,
        "the link is up before CTRL.SLU in QEMU, and STATUS has bits of later controllers, and not \
         those of this one (8254x 13.4.2)",
    ),
    entry(
        "82574-status",
        Verdict::Qemu,
        E1000E,
        &["read STATUS"],
        0x0402,
        "the link is up before CTRL.SLU in QEMU, and PHYRA is not set by a reset (82574 10.2.2.2)",
    ),
    entry(
        "e1000-ctrl",
        Verdict::Qemu,
        CARDS,
        &["read CTRL"],
        0x0014_0061,
        "CTRL after a reset: QEMU has it as firmware would leave it (SLU, speed, software pins)",
    ),
    entry(
        "e1000-eeprom",
        Verdict::Silent,
        CARDS,
        &["read EERD word *"],
        0xFFFF_0000,
        "what is in the EEPROM besides the address (words 0 to 2) is the board's",
    ),
    entry(
        "e1000-link-event",
        Verdict::Qemu,
        CARDS,
        &["interrupt missing at IMS", "read ICR"],
        0x6,
        "the link's coming up is an event (ICR.LSC); QEMU's is up from the start. And QEMU sets \
         ICR.TXQE when it looks at an empty ring, not when it has emptied one (8254x 13.4.17)",
    ),
    entry(
        "82574-queue-causes",
        Verdict::Qemu,
        E1000E,
        &["read ICR"],
        0x81,
        "with MSI-X, TXDW and RXT0 are set besides the queues' causes (82574 10.2.4.1); QEMU sets those \
         only",
    ),
    entry(
        "82574-auto-mask",
        Verdict::Silent,
        E1000E,
        &["read ICR", "interrupt extra at IMS", "interrupt missing at TDT"],
        0x01F0_0000,
        "a cause closes itself in IMS with its message (82574 7.4.3); for how many frames that come together \
         one message stands is the device's: QEMU sends one for the first, and the second waits in ICR until \
         the driver writes IMS",
    ),
    entry(
        "e1000-checksum",
        Verdict::Qemu,
        CARDS,
        &["memory receive descriptor +0xa", "memory receive descriptor +0xc"],
        ALL,
        "a legacy descriptor has the packet checksum and what was found of IP's and TCP's (8254x 3.2.3); \
         QEMU leaves the checksum 0, and its 82540EM says that it has not looked (IXSM)",
    ),
    entry(
        "82574-special",
        Verdict::Qemu,
        E1000E,
        &["memory receive descriptor +0xe"],
        ALL,
        "of a frame without a VLAN tag the special field is 0 (8254x 3.2.3.3); QEMU leaves what was there",
    ),
    entry(
        "e1000-padding",
        Verdict::Qemu,
        CARDS,
        &["frame padding"],
        ALL,
        "with TCTL.PSP short frames are filled up to 60 bytes (8254x 13.4.33); QEMU leaves that to whom \
         it sends them to",
    ),
    entry(
        "e1000-reset",
        Verdict::Qemu,
        CARDS,
        &["reset by CTRL.RST"],
        ALL,
        "CTRL.RST resets all registers (8254x 13.4.1); QEMU 7.2 resets none. The comparison resets it \
         from outside and goes on",
    ),
];

const EERD_ADDRESS: [&str; 3] = ["read EERD word 0", "read EERD word 1", "read EERD word 2"];

/// What is known of a difference of the device with that PCI device id. Several entries together may
/// explain the bits of a register; the first that has some of them is named.
pub fn known(device: u16, difference: &Difference) -> Option<&'static Known> {
    // The address has to be the same.
    if EERD_ADDRESS.contains(&difference.what.as_str()) {
        return None;
    }
    let about = |known: &&Known| {
        (known.devices.is_empty() || known.devices.contains(&device))
            && known.what.iter().any(|pattern| matches(pattern, &difference.what))
    };
    let found = || KNOWN.iter().filter(about);
    let bits = found().fold(0, |bits, known| bits | known.bits);
    let explained = difference.bits.is_none_or(|different| different & !bits == 0);
    let part = |known: &&Known| difference.bits.is_none_or(|different| different & known.bits != 0);
    if explained { found().find(part) } else { None }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
