//! A bounded, seeded run of each target, and what the coverage-guided fuzzer found.

use xinim_fs_testing::{Random, campaign};

#[global_allocator]
static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;

type Target = fn(&[u8]);
const TARGETS: [(&str, Target); 5] = [
    ("ext", crate::ext),
    ("fat", crate::fat),
    ("minix", crate::minix),
    ("iso", crate::iso),
    ("partitions", crate::partitions),
];

fn recipe(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let len = random.below(160);
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// Random recipes; a failure names its input.
fn random(target: Target, short: u64) {
    for seed in campaign(short) {
        let data = recipe(seed);
        let result = std::panic::catch_unwind(|| target(&data));
        assert!(result.is_ok(), "seed {seed}: input {data:?}");
    }
}

#[test]
fn ext_survives_random_damage() {
    random(crate::ext, 150);
}

#[test]
fn fat_survives_random_damage() {
    random(crate::fat, 60);
}

/// What longer campaigns found. 81: a directory in itself, in which look-ups from the root made four
/// million accesses; 381: a first cluster beyond all volumes, with which lamfat multiplies.
#[test]
fn fat_survives_what_once_was_too_much() {
    for seed in [81, 381] {
        crate::fat(&recipe(seed));
    }
}

#[test]
fn minix_survives_random_damage() {
    random(crate::minix, 200);
}

#[test]
fn iso_survives_random_damage() {
    random(crate::iso, 300);
}

#[test]
fn partition_tables_survive_random_damage() {
    random(crate::partitions, 2000);
}

#[test]
fn inputs_that_reached_something_new_stay_harmless() {
    for (name, target) in TARGETS {
        let seeds = format!("{}/../fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for input in std::fs::read_dir(&seeds).expect("seeds") {
            let path = input.expect("entry").path();
            let data = std::fs::read(&path).expect("input");
            let result = std::panic::catch_unwind(|| target(&data));
            assert!(result.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 20, "{name}: {count} seeds");
    }
}

#[test]
fn sound_images_are_opened_by_every_target() {
    for (_, target) in TARGETS {
        for which in 0..5 {
            target(&[which]);
        }
    }
    for base in crate::bases::ext() {
        assert_eq!(base.bytes[1080..1082], [0x53, 0xEF], "the magic number of ext");
    }
}
