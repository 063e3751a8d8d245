//! What the tests that cross rooms share: driver logic face to face with device models
//! ([`pair`]), `xinim-vmm` on each engine ([`machine`]), the host's own tools ([`host`]).

pub mod block;
pub mod host;
pub mod machine;
pub mod pair;
