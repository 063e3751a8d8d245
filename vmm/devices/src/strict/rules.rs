//! The rules as data: stable ids, where the specification says so, and what to do about it.
//!
//! An id is never given to another rule, and a rule that goes takes its id with it.

/// Something that a driver must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable; lower case with hyphens.
    pub id: &'static str,
    pub title: &'static str,
    /// Specification and section.
    pub section: &'static str,
    /// Why it is wrong, what happens on hardware, what to do instead.
    pub explanation: &'static str,
}

/// The rule of this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

const fn rule(
    id: &'static str,
    title: &'static str,
    section: &'static str,
    explanation: &'static str,
) -> Rule {
    Rule { id, title, section, explanation }
}

/// All rules, by device.
pub const RULES: &[Rule] = &[
    // Every device
    rule(
        "dma-not-granted",
        "DMA to memory that the driver was not granted",
        "the guest's own: DEVICE_PIN",
        "The device was told to read or write memory that the kernel has not pinned for it: another \
         process's, the kernel's, or the driver's own, which may be somebody else's tomorrow. Pin the \
         memory before the device hears of it, and unpin it after the device is done. Known only of \
         guests that tell of their grants, as XINIM does; an IOMMU (--iommu) refuses such a transfer.",
    ),
    rule(
        "iommu-refused",
        "DMA that the IOMMU refused",
        "VIRTIO 5.13.6.9",
        "The device was told to reach an address that is not mapped for it, or not for writing. The \
         transfer did not take place. Map memory before the device hears of it, and unmap it after the \
         device is done.",
    ),
    rule(
        "iommu-request",
        "request to the IOMMU that it cannot take",
        "VIRTIO 5.13.6",
        "The request failed with the status in the report: what the driver thinks is mapped or attached \
         is not what is.",
    ),
    rule(
        "access-size",
        "access of a width the register does not take",
        "the register's own",
        "Many devices answer only accesses of a register's own width; on hardware a part of a register \
         reads as anything, and a partial write may be dropped or take the whole word. Use the width \
         that the register table gives.",
    ),
    rule(
        "access-alignment",
        "access that is not aligned to its width",
        "PCI 3.2.2",
        "An unaligned access is split by the bus into pieces, in an order nobody promises, and devices \
         with side effects see each piece. Align it.",
    ),
    rule(
        "access-unclaimed",
        "access to a place where no device is",
        "PCI 3.3.3.1",
        "Nobody answers: reads give all ones, writes vanish (on hardware after a time-out or a master \
         abort). The BAR is not where the driver thinks, decoding is off, or the offset is beyond it.",
    ),
    rule(
        "register-none",
        "access to an offset without a register",
        "the register's own",
        "Reserved offsets may do anything on the next revision of the device. The offset is wrong, or \
         the register belongs to another model.",
    ),
    rule(
        "register-read-only",
        "write to a read-only register",
        "the register's own",
        "The write does nothing here; the driver must have meant another register.",
    ),
    rule(
        "register-write-only",
        "read of a write-only register",
        "the register's own",
        "What comes back means nothing. Keep a copy of what was written.",
    ),
    rule(
        "register-reserved",
        "write of reserved bits",
        "the register's own",
        "Bits that the specification reserves must be written as they were read, or as zero: they may \
         get a meaning. A bit is reported when the table does not name it writable and the driver has \
         not read it as one.",
    ),
    rule(
        "register-value",
        "value that the register does not take",
        "the register's own",
        "The device keeps its old value or a default; the driver goes on as if it had been taken. Read \
         it back.",
    ),
    rule(
        "register-state",
        "access that the device's state forbids",
        "the register's own",
        "The register may be written only before, or only after, something else (a queue that is \
         enabled, a port that is started). See the history for what came before.",
    ),
    rule(
        "device-broken",
        "use of a device that needs a reset",
        "VIRTIO 2.1.2",
        "The device has set DEVICE_NEEDS_RESET and does nothing any more. Only a reset helps.",
    ),
    rule(
        "dma-bus-master",
        "work for a device that may not master the bus",
        "PCI 6.2.2",
        "With the bus-master bit off a device cannot read its rings or write results; the request hangs \
         until it is turned on, or is lost. Set it before the device is started.",
    ),
    rule(
        "dma-no-memory",
        "DMA to an address without memory",
        "PCI 3.3.3",
        "The device was given an address outside RAM (a virtual address? one not yet filled in? a \
         length too large?). On hardware that is a master abort, or somebody else's registers.",
    ),
    // PCI
    rule(
        "pci-bar-live",
        "BAR written while memory decoding is on",
        "PCI 6.2.5.1",
        "Between two halves, and while it is being sized, the BAR claims addresses that belong to \
         others. Turn off the memory bit of the command register first.",
    ),
    rule(
        "pci-msix-live",
        "MSI-X entry changed while unmasked",
        "PCI 6.8.2",
        "The function may send a message made of half the old and half the new entry. Mask the vector \
         while address or data change.",
    ),
    // virtio
    rule(
        "virtio-reset-unawaited",
        "device used before its reset was seen to end",
        "VIRTIO 4.1.4.3.2",
        "After writing 0 to device_status the driver must read it until it is 0: the device may still \
         be writing to the old rings.",
    ),
    rule(
        "virtio-status-order",
        "status bit set too early",
        "VIRTIO 3.1.1",
        "The bits are set in the order ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK.",
    ),
    rule(
        "virtio-status-cleared",
        "status bit cleared without a reset",
        "VIRTIO 2.1.1",
        "The driver must not clear a bit of device_status. Write what was there with the new bit added, \
         or 0 to reset.",
    ),
    rule(
        "virtio-feature-unoffered",
        "feature accepted that was not offered",
        "VIRTIO 2.2.1",
        "The driver must not accept a feature that the device did not offer, so it must read the offer \
         first. The device will refuse FEATURES_OK.",
    ),
    rule(
        "virtio-features-late",
        "features written after FEATURES_OK",
        "VIRTIO 3.1.1",
        "No new feature may be accepted after FEATURES_OK: the device has made up its mind.",
    ),
    rule(
        "virtio-version-1",
        "VERSION_1 not accepted",
        "VIRTIO 6.1",
        "A driver of the modern interface must accept VERSION_1 if it is offered; a device may refuse to \
         work without.",
    ),
    rule(
        "virtio-features-unconfirmed",
        "FEATURES_OK not read back",
        "VIRTIO 3.1.1, step 6",
        "Only by reading device_status once more does the driver learn whether the device took the set \
         of features. A device that did not is unusable.",
    ),
    rule(
        "virtio-feature-unused",
        "use of a feature that was not negotiated",
        "VIRTIO 2.2.1",
        "The device need not understand it, and a device that offers less will answer with an error or \
         break. Negotiate it, or do without.",
    ),
    rule(
        "virtio-queue-size",
        "impossible queue size",
        "VIRTIO 4.1.4.3.2, 2.7",
        "A split virtqueue has a power of two of entries, at most as many as queue_size read before it \
         was written.",
    ),
    rule(
        "virtio-queue-alignment",
        "part of a virtqueue misaligned",
        "VIRTIO 2.7",
        "The descriptor table is aligned to 16 bytes, the available ring to 2, the used ring to 4.",
    ),
    rule(
        "virtio-queue-live",
        "queue register written while the queue is enabled",
        "VIRTIO 4.1.4.3.2",
        "Size and addresses are set before queue_enable; afterwards the device works with them.",
    ),
    rule(
        "virtio-queue-early",
        "queue enabled before FEATURES_OK",
        "VIRTIO 3.1.1",
        "What a queue looks like depends on the features; the device knows them only after FEATURES_OK.",
    ),
    rule(
        "virtio-vector-unchecked",
        "vector not read back",
        "VIRTIO 4.1.5.1.2.2",
        "A device that cannot give a vector answers NO_VECTOR; a driver that does not look waits for an \
         interrupt that never comes.",
    ),
    rule(
        "virtio-doorbell-early",
        "doorbell before DRIVER_OK",
        "VIRTIO 2.1.1",
        "The driver must not notify the device before DRIVER_OK. The notification is lost, and with it \
         the request.",
    ),
    rule(
        "virtio-doorbell-queue",
        "doorbell of a queue that is not there",
        "VIRTIO 4.1.5.2",
        "The queue does not exist or was not enabled. Look at queue_notify_off and its multiplier.",
    ),
    rule(
        "virtio-avail-index",
        "avail.idx runs away",
        "VIRTIO 2.7.13.3",
        "The driver made more chains available than the queue has entries: the index was not initialised, \
         went backwards, or memory was overwritten.",
    ),
    rule(
        "virtio-chain",
        "malformed descriptor chain",
        "VIRTIO 2.7.5",
        "Indices stay inside the table, a chain does not loop, readable descriptors come before writable \
         ones, an indirect table is a positive number of descriptors and stands alone.",
    ),
    rule(
        "virtio-descriptor-changed",
        "descriptor changed while the device owned it",
        "VIRTIO 2.7.13.1",
        "A chain is the device's from avail.idx to the used ring. The device may read it at any time in \
         between, so it may work with half of each version. Usually a free list that gives a descriptor \
         out twice.",
    ),
    rule(
        "virtio-head-reused",
        "chain made available twice",
        "VIRTIO 2.7.13",
        "The same head is on the available ring again before the device gave it back: completions can \
         no longer be told apart.",
    ),
    rule(
        "virtio-request",
        "request without its fixed parts",
        "VIRTIO 5.2.6",
        "Every request has its header, and room for its status or answer.",
    ),
    // E1000
    rule(
        "e1000-reset-pause",
        "register touched during a reset",
        "8254x 13.4.1",
        "After CTRL.RST the controller needs at least a microsecond before it may be touched; later \
         ones may hang the bus.",
    ),
    rule(
        "e1000-ring-alignment",
        "ring misaligned",
        "8254x 13.4.25",
        "A ring starts on a multiple of 16 bytes; the low bits are dropped, and the device works somewhere \
         else.",
    ),
    rule(
        "e1000-ring-length",
        "impossible ring length",
        "8254x 13.4.27",
        "The length is a multiple of 128 bytes (8 descriptors).",
    ),
    rule(
        "e1000-ring-live",
        "ring moved while in use",
        "8254x 14.4",
        "Base and length may change only while the unit is off and owns no descriptors; its own copy \
         of the pointers goes wrong.",
    ),
    rule(
        "e1000-no-ring",
        "unit enabled without a ring",
        "8254x 14.4, 14.5",
        "RCTL.EN and TCTL.EN come last, after base, length, head and tail.",
    ),
    rule(
        "e1000-tail-beyond",
        "tail beyond the ring",
        "8254x 3.2.6, 3.4",
        "The tail is an index below the number of descriptors. Beyond it the device runs through \
         whatever memory follows.",
    ),
    rule(
        "e1000-tail-passes-head",
        "descriptor given twice",
        "8254x 3.2.6, 3.4",
        "The tail went over descriptors that the device still has: it passes the head. The ring then \
         looks empty when it is full. Leave one descriptor free, and count what came back.",
    ),
    rule(
        "e1000-descriptor-changed",
        "descriptor changed while the device owned it",
        "8254x 3.2.6, 3.4",
        "From the write of the tail until DD is set the descriptor is the device's, which may have \
         fetched it or not.",
    ),
    rule(
        "e1000-operation-busy",
        "PHY or EEPROM operation begun before the last ended",
        "8254x 13.4.4, 13.4.6",
        "MDIC and EERD hold one operation. Poll ready or done, with a limit, before the next.",
    ),
    rule(
        "e1000-interrupt-unread",
        "interrupts opened again without a look at their causes",
        "8254x 13.4.17",
        "ICR holds the causes until it is read; while it is not, the same interrupt comes at once, or \
         never again.",
    ),
    // AHCI
    rule(
        "ahci-reset-unawaited",
        "controller used before its reset was seen to end",
        "AHCI 10.4.3",
        "GHC.HR reads as one until the reset is over (a second at most); what is written before is lost.",
    ),
    rule(
        "ahci-base-alignment",
        "command list or received FIS area misaligned",
        "AHCI 3.3.1, 3.3.3",
        "The command list is aligned to 1024 bytes, the received FIS area to 256; the low bits are \
         dropped.",
    ),
    rule(
        "ahci-base-live",
        "base address written while in use",
        "AHCI 3.3.1, 3.3.3",
        "PxCLB may change only while PxCMD.ST is clear, PxFB only while FRE is.",
    ),
    rule(
        "ahci-start-no-fre",
        "port started without FRE",
        "AHCI 10.3.1",
        "Without FRE the frames that end commands go nowhere. Set FRE first.",
    ),
    rule(
        "ahci-start-running",
        "port started before it had stopped",
        "AHCI 10.3.1",
        "After ST was cleared CR must be read as zero before ST is set again.",
    ),
    rule(
        "ahci-start-busy",
        "port started while its drive is busy",
        "AHCI 10.3.1",
        "PxTFD.BSY and DRQ must be clear before ST is set; wait, or use PxCMD.CLO.",
    ),
    rule(
        "ahci-fre-live",
        "FRE cleared while the command list runs",
        "AHCI 10.3.2",
        "First clear ST and wait for CR to clear, then FRE.",
    ),
    rule(
        "ahci-issue-stopped",
        "command issued to a stopped port",
        "AHCI 3.3.14",
        "PxCI may be written only while ST is set; the bits are not taken.",
    ),
    rule(
        "ahci-slot-beyond",
        "command slot beyond CAP.NCS",
        "AHCI 3.1.1",
        "The controller has fewer command slots than the driver uses.",
    ),
    rule(
        "ahci-ncq-no-tag",
        "queued command without its bit in PxSACT",
        "AHCI 5.6.4",
        "The bit in PxSACT is set before that in PxCI: it is how the end of a queued command is seen.",
    ),
    rule(
        "ahci-ncq-mixed",
        "queued and unqueued commands at the same time",
        "ACS-3 4.16.1, AHCI 5.6.4",
        "A drive aborts all queued commands when it gets an unqueued one. Let one kind drain before the \
         other begins.",
    ),
    rule("ahci-cfl", "impossible length of a command FIS", "AHCI 4.2.2", "CFL is 2 to 16 dwords."),
    rule(
        "ahci-table-alignment",
        "command table misaligned",
        "AHCI 4.2.2",
        "A command table starts on a multiple of 128 bytes; the low bits are dropped.",
    ),
    rule(
        "ahci-prd-odd",
        "odd address or length in a PRDT",
        "AHCI 4.2.3.3",
        "Regions are of whole words: even addresses, and bit 0 of the byte count (less one) is set.",
    ),
    rule(
        "ahci-command-changed",
        "command changed while the controller owned it",
        "AHCI 5.5",
        "Header, table and PRDT are the controller's from PxCI to the end of the command; it fetches \
         them when it likes.",
    ),
    rule(
        "ahci-interrupt-order",
        "IS cleared before PxIS",
        "AHCI 10.7.2.1",
        "IS follows PxIS: cleared first, it is set again at once, or with MSI the next interrupt is lost. \
         Clear PxIS, then IS.",
    ),
];
