//! Hashes of names for indexed directories: legacy, half MD4 and TEA, each with signed or unsigned
//! characters (which depends on the machine that made the file system; the superblock says which).

/// Hash functions, as the index's root numbers them; the unsigned ones are 3 higher.
pub const LEGACY: u8 = 0;
pub const HALF_MD4: u8 = 1;
pub const TEA: u8 = 2;

/// The largest major hash stands for the end of the directory and is moved down.
const END: u32 = 0x7FFF_FFFF << 1;

/// Major hash (lowest bit clear) and minor hash of a name. `None`: no such function.
pub fn hash(version: u8, seed: &[u32; 4], name: &[u8]) -> Option<(u32, u32)> {
    let (kind, signed) = if version >= 3 { (version - 3, false) } else { (version, true) };
    let mut state = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    if seed.iter().any(|&word| word != 0) {
        state = *seed;
    }
    let (major, minor) = match kind {
        LEGACY => (legacy(name, signed), 0),
        HALF_MD4 => {
            for at in (0..name.len()).step_by(32) {
                half_md4(&mut state, &words(&name[at..], signed));
            }
            (state[1], state[2])
        }
        TEA => {
            for at in (0..name.len()).step_by(16) {
                let [a, b, c, d] = words(&name[at..], signed);
                tea(&mut state, [a, b, c, d]);
            }
            (state[0], state[1])
        }
        _ => return None,
    };
    let major = major & !1;
    Some((if major == END { END - 2 } else { major }, minor))
}

fn character(byte: u8, signed: bool) -> u32 {
    if signed { byte as i8 as u32 } else { u32::from(byte) }
}

fn legacy(name: &[u8], signed: bool) -> u32 {
    let (mut current, mut previous) = (0x12A3_FE2D_u32, 0x37AB_E8F9_u32);
    for &byte in name {
        let product = character(byte, signed).wrapping_mul(7_152_373);
        let mixed = previous.wrapping_add(current ^ product);
        let next = if mixed & 0x8000_0000 != 0 { mixed.wrapping_sub(0x7FFF_FFFF) } else { mixed };
        (previous, current) = (current, next);
    }
    current << 1
}

/// Packs up to `4 * N` characters into words; what is missing is filled with the length.
fn words<const N: usize>(name: &[u8], signed: bool) -> [u32; N] {
    let len = name.len() as u32;
    let pad = len | len << 8;
    let pad = pad | pad << 16;
    let mut packed = [pad; N];
    let name = &name[..name.len().min(N * 4)];
    for (index, chunk) in name.chunks(4).enumerate() {
        let start = if chunk.len() == 4 { 0 } else { pad };
        packed[index] =
            chunk.iter().fold(start, |word, &byte| character(byte, signed).wrapping_add(word << 8));
    }
    packed
}

fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    const K2: u32 = 0x5A82_7999;
    const K3: u32 = 0x6ED9_EBA1;
    fn choose(x: u32, y: u32, z: u32) -> u32 {
        z ^ (x & (y ^ z))
    }
    fn majority(x: u32, y: u32, z: u32) -> u32 {
        (x & y).wrapping_add((x ^ y) & z)
    }
    fn parity(x: u32, y: u32, z: u32) -> u32 {
        x ^ y ^ z
    }
    type Round = (fn(u32, u32, u32) -> u32, u32, [usize; 8], [u32; 4]);
    const ROUNDS: [Round; 3] = [
        (choose, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (majority, K2, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (parity, K3, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in ROUNDS {
        for (step, &index) in order.iter().enumerate() {
            let sum = a
                .wrapping_add(mix(b, c, d))
                .wrapping_add(input[index])
                .wrapping_add(constant)
                .rotate_left(shifts[step % 4]);
            (a, b, c, d) = (d, sum, b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

fn tea(state: &mut [u32; 4], input: [u32; 4]) {
    const DELTA: u32 = 0x9E37_79B9;
    let [mut x, mut y] = [state[0], state[1]];
    let [a, b, c, d] = input;
    let mut sum = 0_u32;
    for _ in 0..16 {
        sum = sum.wrapping_add(DELTA);
        x = x.wrapping_add(
            (y << 4).wrapping_add(a) ^ y.wrapping_add(sum) ^ (y >> 5).wrapping_add(b),
        );
        y = y.wrapping_add(
            (x << 4).wrapping_add(c) ^ x.wrapping_add(sum) ^ (x >> 5).wrapping_add(d),
        );
    }
    state[0] = state[0].wrapping_add(x);
    state[1] = state[1].wrapping_add(y);
}
