//! Rules of AHCI.

use super::machine::{HBA, Machine};
use xinim_abi::hw::ahci::{self as hw, CommandHeader, PortCmd, Prd, table};
use xinim_abi::hw::ata::command;
use xinim_abi::hw::sata::RegisterH2d;
use zerocopy::IntoBytes;

const LIST: u64 = 0x1_0000;
const FIS: u64 = 0x2_0000;
const TABLES: u64 = 0x3_0000;
const DATA: u64 = 0x8_0000;
const HR: u64 = 1;

fn get(m: &Machine, register: usize) -> u64 {
    m.read(m.bar(HBA, 5) + register as u64, 4)
}

fn set(m: &Machine, register: usize, value: u64) {
    m.write(m.bar(HBA, 5) + register as u64, 4, value);
}

fn px(register: usize) -> usize {
    hw::PORT_BASE + register
}

fn cmd(bits: PortCmd) -> u64 {
    u64::from((bits | PortCmd::SUD | PortCmd::POD).bits())
}

fn reset(m: &Machine) {
    m.enable(HBA);
    get(m, hw::CAP);
    set(m, hw::GHC, HR | 1 << 31);
    while get(m, hw::GHC) & HR != 0 {}
    set(m, hw::GHC, 1 << 31 | 2);
}

fn bases(m: &Machine) {
    for (register, value) in
        [(hw::PX_CLB, LIST), (hw::PX_CLBU, 0), (hw::PX_FB, FIS), (hw::PX_FBU, 0)]
    {
        set(m, px(register), value);
    }
}

fn wait_ready(m: &Machine) {
    for _ in 0..100 {
        get(m, px(hw::PX_SSTS));
        if get(m, px(hw::PX_TFD)) & 0x88 == 0 {
            return;
        }
    }
    panic!("the drive stays busy");
}

/// A driver that does everything right.
fn started(m: &Machine) {
    reset(m);
    bases(m);
    get(m, px(hw::PX_CMD));
    set(m, px(hw::PX_CMD), cmd(PortCmd::FRE));
    wait_ready(m);
    set(m, px(hw::PX_SERR), 0x07FF_0F03);
    set(m, px(hw::PX_CMD), cmd(PortCmd::FRE | PortCmd::ST));
    assert_eq!(m.broken(), [""; 0]);
}

struct Twist {
    flags: u16,
    table: u64,
    region: Prd,
}

impl Default for Twist {
    fn default() -> Self {
        let region = Prd::new(DATA, 512);
        Self { flags: RegisterH2d::DWORDS, table: 0, region }
    }
}

fn prepare(m: &Machine, slot: u8, code: u8, twist: &Twist) {
    let at = TABLES + 0x1000 * u64::from(slot);
    let mut fis = RegisterH2d::command(code);
    fis.device = 0x40;
    fis.set_lba48(1);
    if code == command::READ_FPDMA_QUEUED {
        fis.features = 1;
        fis.count = [slot << 3, 0];
    } else {
        fis.count = [1, 0];
    }
    m.poke(at, fis.as_bytes());
    m.poke(at + table::PRDT as u64, twist.region.as_bytes());
    let header = CommandHeader {
        flags: twist.flags,
        prdtl: 1,
        ctba: (at + twist.table) as u32,
        ..CommandHeader::default()
    };
    m.poke(LIST + 32 * u64::from(slot), header.as_bytes());
}

fn issue(m: &Machine, slot: u8, code: u8, twist: &Twist) {
    prepare(m, slot, code, twist);
    if code == command::READ_FPDMA_QUEUED {
        set(m, px(hw::PX_SACT), 1 << slot);
    }
    set(m, px(hw::PX_CI), 1 << slot);
}

fn acknowledge(m: &Machine) {
    let status = get(m, px(hw::PX_IS));
    set(m, px(hw::PX_IS), status);
    set(m, hw::IS, 1);
}

#[test]
fn a_good_driver_is_clean() {
    let m = Machine::new();
    started(&m);
    for round in 0..100 {
        let code = [command::READ_DMA_EXT, command::READ_FPDMA_QUEUED][round / 8 % 2];
        issue(&m, (round % 8) as u8, code, &Twist::default());
        acknowledge(&m);
    }
    assert_eq!(m.broken(), [""; 0]);
    // Stopped in order, and started by a successor.
    set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE));
    assert_eq!(get(&m, px(hw::PX_CMD)) & u64::from(PortCmd::CR.bits()), 0);
    set(&m, px(hw::PX_CMD), cmd(PortCmd::empty()));
    started(&m);
}

#[test]
fn resets_are_awaited() {
    let m = Machine::new();
    m.enable(HBA);
    set(&m, hw::GHC, HR | 1 << 31);
    bases(&m);
    assert_eq!(m.broken(), ["ahci-reset-unawaited"]);
}

#[test]
fn bases_are_aligned_and_stay() {
    let m = Machine::new();
    reset(&m);
    set(&m, px(hw::PX_CLB), LIST + 0x200);
    assert_eq!(m.broken(), ["ahci-base-alignment"]);
    set(&m, px(hw::PX_FB), FIS + 0x80);
    assert_eq!(m.broken(), ["ahci-base-alignment"]);
    let m = Machine::new();
    started(&m);
    set(&m, px(hw::PX_CLB), LIST + 0x400);
    set(&m, px(hw::PX_FB), FIS + 0x100);
    assert_eq!(m.broken(), ["ahci-base-live"]);
}

#[test]
fn ports_start_and_stop_in_order() {
    let m = Machine::new();
    reset(&m);
    bases(&m);
    wait_ready(&m);
    set(&m, px(hw::PX_CMD), cmd(PortCmd::ST));
    assert_eq!(m.broken(), ["ahci-start-no-fre"]);

    let m = Machine::new();
    started(&m);
    set(&m, px(hw::PX_CMD), cmd(PortCmd::empty()));
    assert_eq!(m.broken(), ["ahci-fre-live"]);

    let m = Machine::new();
    started(&m);
    m.disk.lock().unwrap().held = true;
    issue(&m, 0, command::READ_DMA_EXT, &Twist::default());
    set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE));
    assert_ne!(get(&m, px(hw::PX_CMD)) & u64::from(PortCmd::CR.bits()), 0);
    set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE | PortCmd::ST));
    assert_eq!(m.broken(), ["ahci-start-running"]);

    let m = Machine::new();
    reset(&m);
    bases(&m);
    get(&m, px(hw::PX_CMD));
    set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE));
    if get(&m, px(hw::PX_TFD)) & 0x88 == 0 {
        // The drive was ready at once: make it busy with a command that does not end.
        set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE | PortCmd::ST));
        m.disk.lock().unwrap().held = true;
        issue(&m, 0, command::READ_DMA_EXT, &Twist::default());
        get(&m, px(hw::PX_TFD));
        set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE));
    }
    set(&m, px(hw::PX_CMD), cmd(PortCmd::FRE | PortCmd::ST));
    assert_eq!(m.broken(), ["ahci-start-busy"]);
}

#[test]
fn commands_go_to_started_ports_and_slots_that_exist() {
    let m = Machine::new();
    reset(&m);
    set(&m, px(hw::PX_CI), 1);
    assert_eq!(m.broken(), ["ahci-issue-stopped"]);
}

#[test]
fn slots_are_as_many_as_the_controller_says() {
    let mut found = crate::strict::Found { list: Vec::new() };
    crate::strict::ahci::issued(0, 1 << 7, true, Some(7 << 8), &mut found);
    assert!(found.is_empty());
    crate::strict::ahci::issued(0, 1 << 8, true, Some(7 << 8), &mut found);
    assert_eq!(found.list[0].0, "ahci-slot-beyond");
}

#[test]
fn queued_commands_have_tags_and_company_of_their_own() {
    let m = Machine::new();
    started(&m);
    prepare(&m, 0, command::READ_FPDMA_QUEUED, &Twist::default());
    set(&m, px(hw::PX_CI), 1);
    assert_eq!(m.broken(), ["ahci-ncq-no-tag"]);
    let m = Machine::new();
    started(&m);
    m.disk.lock().unwrap().held = true;
    issue(&m, 0, command::READ_FPDMA_QUEUED, &Twist::default());
    issue(&m, 1, command::READ_DMA_EXT, &Twist::default());
    assert!(m.broken().contains(&"ahci-ncq-mixed"));
}

#[test]
fn headers_and_tables_make_sense() {
    for (twist, rule) in [
        (Twist { flags: RegisterH2d::DWORDS + 20, ..Twist::default() }, "ahci-cfl"),
        (Twist { table: 0x40, ..Twist::default() }, "ahci-table-alignment"),
        (
            Twist {
                region: Prd { dba: DATA as u32, dbc: 510, ..Prd::default() },
                ..Twist::default()
            },
            "ahci-prd-odd",
        ),
    ] {
        let m = Machine::new();
        started(&m);
        issue(&m, 0, command::READ_DMA_EXT, &twist);
        assert!(m.broken().contains(&rule), "{rule}");
    }
}

#[test]
fn what_the_device_owns_stays() {
    let m = Machine::new();
    started(&m);
    m.disk.lock().unwrap().held = true;
    issue(&m, 0, command::READ_FPDMA_QUEUED, &Twist::default());
    m.poke(TABLES + table::PRDT as u64, Prd::new(DATA, 1024).as_bytes());
    assert!(m.disk.lock().unwrap().finish(0, &*m.memory));
    issue(&m, 1, command::READ_FPDMA_QUEUED, &Twist::default());
    assert_eq!(m.broken(), ["ahci-command-changed"]);
}

#[test]
fn interrupts_are_cleared_from_the_port_up() {
    let m = Machine::new();
    started(&m);
    set(&m, px(hw::PX_IE), 1);
    issue(&m, 0, command::READ_DMA_EXT, &Twist::default());
    assert_ne!(get(&m, px(hw::PX_IS)), 0);
    set(&m, hw::IS, 1);
    assert_eq!(m.broken(), ["ahci-interrupt-order"]);
}
