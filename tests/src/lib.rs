//! What the tests that cross rooms share: driver logic face to face with device models
//! ([`pair`], [`ahci`], [`virtio_blk`], [`block`]), `xinim-vmm` on each engine ([`machine`]), the
//! host's own tools ([`host`]).

pub mod ahci;
pub mod block;
pub mod host;
pub mod machine;
pub mod pair;
pub mod virtio_blk;
