//! Random numbers that a seed repeats: for rules, wires, faults and fuzzed input.

/// The next number of splitmix64 (Steele, Lea, Flood 2014); any state is a seed.
pub fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    /// The first numbers from seed 0, as the authors' own code gives them.
    #[test]
    fn as_published() {
        let mut state = 0;
        let found = [super::draw(&mut state), super::draw(&mut state)];
        assert_eq!(found, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    }
}
