//! What the tests that cross rooms share: driver logic face to face with device models
//! ([`pair`], [`ahci`], [`virtio_blk`], [`block`]), `xinim-vmm` on each engine ([`machine`]), the
//! host's own tools ([`host`]), the other end of its network ([`net`]).

pub mod ahci;
pub mod block;
pub mod gdb;
pub mod host;
pub mod machine;
pub mod net;
pub mod net_stack;
pub mod pair;
pub mod virtio_blk;
