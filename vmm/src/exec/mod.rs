//! The host's side of `--exec`: the host link protocol of `xinim_abi::hostlink` over the stream
//! of virtio-console port 0.
//!
//! [`frame`] cuts the stream into frames, [`protocol`] knows which frame may come when, [`link`]
//! runs both on threads between the machine and our standard streams. The guest is not trusted:
//! whatever it sends, memory stays bounded and the worst outcome is an ended run.

pub mod frame;
pub mod link;
pub mod protocol;
