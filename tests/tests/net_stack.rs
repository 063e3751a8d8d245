//! The guest's TCP/IP stack on a hostile network: it goes on, rests, and takes no more than its share of
//! memory. `XINIM_LONG=n` for n times as many rounds.

use xinim_fs_testing::campaign;
use xinim_fs_testing::memory::{Counting, peak_of};
use xinim_tests::host::noise;
use xinim_tests::net_stack::hostile_network;

#[global_allocator]
static MEMORY: Counting = Counting;

/// What all sockets of the harness may come to: buffers of a listener's backlog on two interfaces and of a
/// few connections, captures, reassembly.
const MEMORY_MAX: usize = 48 << 20;

#[test]
fn hostile_frames() {
    for seed in campaign(300) {
        let mut input = noise(seed + 1, 16 * 1024);
        if seed.is_multiple_of(3) {
            // Short frames of few kinds go deeper than any mixture: one connection, answered again and again.
            input.chunks_mut(10).for_each(|part| {
                part[0] = [4, 14, 15, 14, 0x8E][usize::from(part[0]) % 5];
                part[1] = 8;
            });
        }
        let ((), peak) = peak_of(|| hostile_network(&input));
        assert!(peak < MEMORY_MAX, "seed {seed}: {peak} bytes");
    }
}
