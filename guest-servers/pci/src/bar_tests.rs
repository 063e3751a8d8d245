use super::*;
use crate::testing::FakeConfig;

fn function(config: &FakeConfig) -> Found {
    let bdf = Bdf::new(0, 1, 0);
    config.add(bdf, 0x1042_1AF4, 0x01_00_00, 0);
    Found { bdf, id: 0x1042_1AF4, class: 0x01_00_00, header: 0 }
}

#[test]
fn all_kinds_are_sized_and_put_back() {
    let config = FakeConfig::default();
    let f = function(&config);
    config.set_bar(f.bdf, 0, 0xC000_0004, 0xFFFF_C000);
    config.set_bar(f.bdf, 1, 0x1, 0xFFFF_FFFF);
    config.set_bar(f.bdf, 2, 0xC100_0000, 0xFFFF_F000);
    config.set_bar(f.bdf, 3, 0xE001, 0xFFE0);
    config.set(f.bdf, 4, 7);
    let before = config.dump(f.bdf);
    let memory = Bar { space: Space::Memory64, address: 0x1_C000_0000, len: 0x4000 };
    assert_eq!(size(&config, &f, 0), Ok(memory));
    assert_eq!(size(&config, &f, 1), Err(Error::NoEnt), "upper half");
    let small = Bar { space: Space::Memory32, address: 0xC100_0000, len: 0x1000 };
    assert_eq!(size(&config, &f, 2), Ok(small));
    assert_eq!(size(&config, &f, 3), Ok(Bar { space: Space::Ports, address: 0xE000, len: 32 }));
    assert_eq!(size(&config, &f, 4), Err(Error::NoEnt));
    assert_eq!(size(&config, &f, 6), Err(Error::NoEnt));
    assert_eq!(config.dump(f.bdf), before);
    assert!(!config.sized_while_decoding(), "BAR written while it was decoded");
}

#[test]
fn an_unassigned_bar_is_placed_clear_of_the_others() {
    let config = FakeConfig::default();
    let f = function(&config);
    config.set_bar(f.bdf, 0, 4, 0xFFFF_C000);
    config.set_bar(f.bdf, 1, 0, 0xFFFF_FFFF);
    let neighbour = Found { bdf: Bdf::new(0, 2, 0), ..f };
    config.add(neighbour.bdf, 0x1042_1AF4, 0x01_00_00, 0);
    let top = MMIO32_END as u32 - 0x2000;
    config.set_bar(neighbour.bdf, 0, top, 0xFFFF_E000);
    let bar = size(&config, &f, 0).unwrap();
    assert_eq!(bar.address, 0);
    let placed = assign(&config, &f, 0, bar, &[f, neighbour]).unwrap();
    assert_eq!(placed.address % placed.len, 0);
    assert!(placed.address + placed.len <= u64::from(top));
    assert_eq!(size(&config, &f, 0), Ok(placed));
}

#[test]
fn small_bars_in_one_page_are_found() {
    let config = FakeConfig::default();
    let f = function(&config);
    config.set_bar(f.bdf, 0, 0xC100_0000, 0xFFFF_FF00);
    config.set_bar(f.bdf, 1, 0xC200_0000, 0xFFFF_FF00);
    let neighbour = Found { bdf: Bdf::new(0, 2, 0), ..f };
    config.add(neighbour.bdf, 0x1042_1AF4, 0x01_00_00, 0);
    config.set_bar(neighbour.bdf, 3, 0xC100_0100, 0xFFFF_FF00);
    let all = [f, neighbour];
    let shares = |index| {
        let bar = size(&config, &f, index).unwrap();
        shares_page(&config, &f, index, bar, &all)
    };
    assert!(shares(0));
    assert!(!shares(1));
}

#[test]
fn pages_with_the_message_table_are_left_out() {
    assert_eq!(visible(0x4000, &[]), Some(0x4000));
    assert_eq!(visible(0x4000, &[(0x2010, 0x40), (0x3000, 8)]), Some(0x2000));
    assert_eq!(visible(0x1000, &[(0x800, 0x10)]), None);
    assert_eq!(visible(0x4000, &[(0x9000, 8)]), Some(0x4000));
}
