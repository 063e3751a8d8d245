use super::*;

#[test]
fn each_kind_changes_what_it_says() {
    assert_eq!(branch(&[0x74, 5], 0), Some((vec![0x75], "branch inverted")));
    assert_eq!(branch(&[0x0F, 0x8C, 1, 0, 0, 0], 0), Some((vec![0x0F, 0x8D], "branch inverted")));
    assert_eq!(
        register(&[0x48, 0x8B, 0xC3], 0),
        Some((vec![0x48, 0x8B, 0xCB], "another register"))
    );
    let cmp = [0x48, 0x83, 0xF8, 9];
    assert_eq!(off_by_one(&cmp, 0), Some((vec![0x48, 0x83, 0xF8, 10], "off by one")));
    assert_eq!(no_call(&[0xE8, 1, 2, 0, 0], 0), Some((vec![NOP; 5], "call left out")));
    assert_eq!(nothing(&[0x4C, 0x89, 0xC0], 0), Some((vec![NOP; 3], "move left out")));
    assert_eq!(branch(&[0x90, 0x90], 0), None);
}

#[test]
fn the_same_seed_makes_the_same_change() {
    let text: Vec<u8> = (0..4096u32).map(|i| (i * 37 % 251) as u8).collect();
    for seed in 0..50 {
        let (mut a, mut b) = (seed, seed);
        let change = mutate(&text, 100, &mut a);
        assert_eq!(change, mutate(&text, 100, &mut b));
        let (at, new, _) = change.unwrap();
        assert_ne!(text[at..at + new.len()], new);
    }
    assert_eq!(mutate(&[0; 64], 3, &mut 1), None);
}
