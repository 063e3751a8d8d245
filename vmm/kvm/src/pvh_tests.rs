use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::{elf_image, xen_note};

const MIB: u64 = 1 << 20;

fn read<T: vm_memory::ByteValued>(ram: &GuestRam, at: u64) -> T {
    ram.map().read_obj(GuestAddress(at)).unwrap()
}

#[test]
fn a_kernel_and_its_bundle_are_placed() {
    let ram = GuestRam::new(8 * MIB).unwrap();
    let image = elf_image(MIB, &[0xF4; 100], Some(&xen_note(MIB as u32)));
    let kernel = Kernel::parse(&image).unwrap();
    assert_eq!(kernel.extent(), MIB..MIB + 100);
    let entry = load(&ram, &kernel, Some(&[7; 5000]), "klog=on", 0xE0000).unwrap();
    assert_eq!(entry.rip, MIB);
    assert_eq!(read::<u8>(&ram, MIB), 0xF4);

    let info: hvm_start_info = read(&ram, entry.start_info);
    assert_eq!((info.magic, info.version, info.nr_modules), (0x336E_C578, 1, 1));
    assert_eq!(info.rsdp_paddr, 0xE0000);
    let mut text = [0; 8];
    ram.map().read_slice(&mut text, GuestAddress(info.cmdline_paddr)).unwrap();
    assert_eq!(&text, b"klog=on\0");
    let module: hvm_modlist_entry = read(&ram, info.modlist_paddr);
    assert_eq!((module.paddr, module.size), (6 * MIB, 5000));
    assert_eq!(read::<u8>(&ram, 6 * MIB + 4999), 7);

    let ranges: Vec<(u64, u64, u32)> = (0..u64::from(info.memmap_entries))
        .map(|index| {
            let entry: hvm_memmap_table_entry = read(&ram, info.memmap_paddr + index * 24);
            (entry.addr, entry.size, entry.type_)
        })
        .collect();
    assert!(ranges.contains(&(MIB, 7 * MIB, MEMMAP_RAM)));
    assert!(ranges.contains(&(ECAM_BASE, 256 * MIB, MEMMAP_RESERVED)));
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
}

#[test]
fn the_bundle_is_page_aligned_where_2_mib_do_not_fit() {
    assert_eq!(place_bundle(8 * MIB, 2 * MIB, 3 * MIB), Ok(4 * MIB));
    assert_eq!(place_bundle(8 * MIB, 5 * MIB, 3 * MIB - 1), Ok(5 * MIB));
    assert!(place_bundle(8 * MIB, 5 * MIB + 1, 3 * MIB).is_err());
    assert!(place_bundle(8 * MIB, MIB, 9 * MIB).is_err());
}

#[test]
fn high_ram_is_in_the_map() {
    let ram = GuestRam::new((2 << 30) + 64 * MIB).unwrap();
    let map = memory_map(&ram);
    let last = map.last().unwrap();
    assert_eq!((last.addr, last.size, last.type_), (4 << 30, 64 * MIB, MEMMAP_RAM));
}

#[test]
fn too_little_memory_says_how_much_is_needed() {
    let ram = GuestRam::new(2 * MIB).unwrap();
    let image = elf_image(MIB, &[0; 2 << 20], Some(&xen_note(MIB as u32)));
    let kernel = Kernel::parse(&image).unwrap();
    let error = load(&ram, &kernel, None, "", 0).unwrap_err();
    assert!(error.contains("too little") && error.contains("3 MiB"), "{error}");
}

#[test]
fn the_firmware_area_is_not_for_kernels() {
    let ram = GuestRam::new(8 * MIB).unwrap();
    let image = elf_image(0x9_F000, &[0; 8192], Some(&xen_note(0x9_F000)));
    let kernel = Kernel::parse(&image).unwrap();
    assert!(load(&ram, &kernel, None, "", 0).unwrap_err().contains("firmware area"));
}

#[test]
fn bad_command_lines_are_refused() {
    let ram = GuestRam::new(8 * MIB).unwrap();
    let image = elf_image(MIB, &[0xF4], Some(&xen_note(MIB as u32)));
    let kernel = Kernel::parse(&image).unwrap();
    assert!(load(&ram, &kernel, None, "a\0b", 0).is_err());
    assert!(load(&ram, &kernel, None, &"x".repeat(layout::CMDLINE_MAX), 0).is_ok());
    assert!(load(&ram, &kernel, None, &"x".repeat(layout::CMDLINE_MAX + 1), 0).is_err());
}

#[test]
fn other_files_are_told_apart() {
    let message = |image: &[u8]| Kernel::parse(image).unwrap_err();
    assert!(message(b"").contains("not an ELF"));
    assert!(message(b"MZ\x90\0").contains("not an ELF"));
    let good = elf_image(MIB, &[0xF4], Some(&xen_note(MIB as u32)));
    let mut narrow = good.clone();
    narrow[4] = 1;
    assert!(message(&narrow).contains("32-bit"));
    let mut arm = good.clone();
    arm[18] = 183;
    assert!(message(&arm).contains("x86-64"));
    assert!(message(&elf_image(MIB, &[0xF4], None)).contains("PVH"));
}

#[test]
fn no_truncation_or_flip_panics() {
    let ram = GuestRam::new(4 * MIB).unwrap();
    let good = elf_image(MIB, &[0xF4; 64], Some(&xen_note(MIB as u32)));
    for length in 0..good.len() {
        // Truncations up to the last byte of a segment are all found.
        assert!(Kernel::parse(&good[..length]).is_err(), "{length}");
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7F, 0x80, 0xFF] {
            let mut image = good.clone();
            image[at] = value;
            if let Ok(kernel) = Kernel::parse(&image) {
                // Either outcome is right; a panic or a write outside RAM is not.
                let _ = load(&ram, &kernel, None, "", 0);
            }
        }
    }
}
