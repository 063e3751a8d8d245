//! How a service interface is declared: once, here in this crate, by [`interface!`](crate::interface).
//!
//! ```
//! xinim_abi::interface! {
//!     /// Adds numbers.
//!     pub mod adder = 0x7E {
//!         /// The sum.
//!         1 idempotent Add { a: u32, b: u32 } -> Sum { sum: u64 }
//!         /// Shares memory.
//!         2 once Share { len: u32; memory: handle } -> Shared { }
//!     }
//! }
//! ```
//! Each operation becomes a request struct and a reply struct with plain fields, both turning into
//! a [`Message`](crate::ipc::Message) and back; `Call` is the enum a server matches on. Fields
//! take a word each, at most 6; after `;` come at most two handles, which take words from the end.
//! A `Name` takes four words.
//!
//! *idempotent*: doing it twice is as doing it once, so the client stub repeats it by itself when
//! the server was reincarnated. *once*: the caller gets `ServerDied` and decides.
//!
//! A reply's tag operation is 0 for success; otherwise word 0 is the error's number
//! ([`error_message`]).

use crate::error::{Error, Result};
use crate::ipc::{Message, Tag, WORDS};

/// Operation number of an error reply.
pub const REPLY_ERROR: u16 = 1;

/// A request of some interface: what the generic client stub needs.
pub trait Request: Sized {
    const OP: u16;
    const IDEMPOTENT: bool;
    type Reply: Reply;
    fn encode(&self) -> Message;
}

pub trait Reply: Sized {
    fn encode(&self) -> Message;
    fn decode(message: &Message) -> Result<Self>;
}

pub fn error_message(error: Error) -> Message {
    let mut words = [0; WORDS];
    words[0] = error as u64;
    Message { tag: Tag::new(REPLY_ERROR, 0), words }
}

/// The reply in `message`, or the error it carries.
pub fn decode_reply<R: Reply>(message: &Message) -> Result<R> {
    match message.tag.op() {
        0 => R::decode(message),
        _ => Err(u16::try_from(message.words[0])
            .ok()
            .and_then(Error::from_code)
            .unwrap_or(Error::BadReply)),
    }
}

/// Anything that stands in message words.
pub trait Field: Sized {
    const WORDS: usize;
    fn put(&self, words: &mut [u64]);
    fn get(words: &[u64]) -> Option<Self>;
}

macro_rules! integer_fields {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const WORDS: usize = 1;
            fn put(&self, words: &mut [u64]) {
                words[0] = *self as u64;
            }
            fn get(words: &[u64]) -> Option<Self> {
                Self::try_from(words[0]).ok()
            }
        }
    )*};
}
integer_fields!(u8, u16, u32, u64);

impl Field for i64 {
    const WORDS: usize = 1;
    fn put(&self, words: &mut [u64]) {
        words[0] = *self as u64;
    }
    fn get(words: &[u64]) -> Option<Self> {
        Some(words[0] as i64)
    }
}

impl Field for bool {
    const WORDS: usize = 1;
    fn put(&self, words: &mut [u64]) {
        words[0] = u64::from(*self);
    }
    fn get(words: &[u64]) -> Option<Self> {
        match words[0] {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// A short name in four words: UTF-8, at most 32 bytes, padded with zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name([u8; 32]);

impl Name {
    /// `NameTooLong` over 32 bytes, `Inval` with a NUL in it.
    pub fn new(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > 32 {
            return Err(Error::NameTooLong);
        }
        if bytes.contains(&0) {
            return Err(Error::Inval);
        }
        let mut name = [0; 32];
        name[..bytes.len()].copy_from_slice(bytes);
        Ok(Name(name))
    }

    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(32);
        core::str::from_utf8(&self.0[..len]).unwrap_or("")
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Field for Name {
    const WORDS: usize = 4;
    fn put(&self, words: &mut [u64]) {
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
    fn get(words: &[u64]) -> Option<Self> {
        let mut name = [0; 32];
        for (bytes, word) in name.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        let len = name.iter().position(|&b| b == 0).unwrap_or(32);
        core::str::from_utf8(&name[..len]).ok()?;
        name[len..].iter().all(|&b| b == 0).then_some(Name(name))
    }
}

/// One half of an operation: a struct with its encoding. Used by `interface!` only.
#[doc(hidden)]
#[macro_export]
macro_rules! message_struct {
    ($(#[$doc:meta])* $name:ident { $($field:ident : $ty:ty),* ; $($handle:ident),* } op $op:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $(pub $field: $ty,)*
            $(pub $handle: $crate::object::Handle,)*
        }

        impl $name {
            const HANDLES: usize = 0 $(+ { let _ = stringify!($handle); 1 })*;
            const _FITS: () = assert!(
                0 $(+ <$ty as $crate::interface::Field>::WORDS)* + Self::HANDLES
                    <= $crate::ipc::WORDS,
                "more words than a message has"
            );

            #[allow(unused_mut, unused_variables, unused_assignments)]
            #[allow(clippy::wrong_self_convention)]
            pub fn to_message(&self) -> $crate::ipc::Message {
                let () = Self::_FITS;
                let mut words = [0u64; $crate::ipc::WORDS];
                let mut at = 0;
                $(
                    $crate::interface::Field::put(&self.$field, &mut words[at..]);
                    at += <$ty as $crate::interface::Field>::WORDS;
                )*
                let mut at = $crate::ipc::WORDS - Self::HANDLES;
                $( words[at] = u64::from(self.$handle); at += 1; )*
                $crate::ipc::Message {
                    tag: $crate::ipc::Tag::new($op, Self::HANDLES as u64),
                    words,
                }
            }

            #[allow(unused_mut, unused_variables, unused_assignments)]
            pub fn from_message(message: &$crate::ipc::Message) -> Option<Self> {
                if message.tag.handles() != Self::HANDLES {
                    return None;
                }
                let words = &message.words;
                let mut at = 0;
                $(
                    let $field = <$ty as $crate::interface::Field>::get(&words[at..])?;
                    at += <$ty as $crate::interface::Field>::WORDS;
                )*
                let mut at = $crate::ipc::WORDS - Self::HANDLES;
                $( let $handle = u32::try_from(words[at]).ok()?; at += 1; )*
                Some(Self { $($field,)* $($handle,)* })
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! interface_kind {
    (idempotent) => {
        true
    };
    (once) => {
        false
    };
}

/// Declares a service interface; see the module's documentation.
#[macro_export]
macro_rules! interface {
    (
        $(#[$mod_doc:meta])*
        pub mod $module:ident = $interface:literal {
            $(
                $(#[$doc:meta])*
                $number:literal $kind:ident $request:ident
                    { $($field:ident : $ty:ty),* $(; $($handle:ident : handle),*)? $(,)? }
                -> $reply:ident
                    { $($rfield:ident : $rty:ty),* $(; $($rhandle:ident : handle),*)? $(,)? }
            )*
        }
    ) => {
        $(#[$mod_doc])*
        pub mod $module {
            #[allow(unused_imports)]
            use super::*;

            /// High byte of every operation number.
            #[allow(dead_code)]
            pub const INTERFACE: u16 = $interface;

            /// Operation numbers with their names, for traces.
            #[allow(dead_code)]
            pub const OPERATIONS: &[(u16, &str)] = &[
                $(($interface << 8 | $number,
                    concat!(stringify!($module), ".", stringify!($request)))),*
            ];

            $(
                $crate::message_struct! {
                    $(#[$doc])*
                    $request { $($field: $ty),* ; $($($handle),*)? }
                    op ($interface << 8 | $number)
                }
                $crate::message_struct! {
                    #[doc = concat!("Answer to [`", stringify!($request), "`].")]
                    $reply { $($rfield: $rty),* ; $($($rhandle),*)? }
                    op 0
                }
                impl $crate::interface::Request for $request {
                    const OP: u16 = $interface << 8 | $number;
                    const IDEMPOTENT: bool = $crate::interface_kind!($kind);
                    type Reply = $reply;
                    fn encode(&self) -> $crate::ipc::Message {
                        self.to_message()
                    }
                }
                impl $crate::interface::Reply for $reply {
                    fn encode(&self) -> $crate::ipc::Message {
                        self.to_message()
                    }
                    fn decode(message: &$crate::ipc::Message) -> $crate::error::Result<Self> {
                        Self::from_message(message).ok_or($crate::error::Error::BadReply)
                    }
                }
            )*

            /// Everything a client of this interface can ask.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Call {
                $($request($request),)*
            }

            impl Call {
                /// `BadMessage` for an unknown operation or malformed fields.
                pub fn decode(message: &$crate::ipc::Message) -> $crate::error::Result<Self> {
                    match message.tag.op() {
                        $(
                            op if op == ($interface << 8 | $number) => {
                                $request::from_message(message).map(Call::$request)
                            }
                        )*
                        _ => None,
                    }
                    .ok_or($crate::error::Error::BadMessage)
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    crate::interface! {
        /// Test.
        pub mod sample = 0x7E {
            /// A.
            1 idempotent Plain { a: u32, b: i64, c: bool } -> PlainReply { sum: u64 }
            /// B.
            2 once Named { name: Name; memory: handle } -> NamedReply { ; one: handle, two: handle }
        }
    }

    proptest! {
        #[test]
        fn plain_round_trip(a: u32, b: i64, c: bool) {
            let request = sample::Plain { a, b, c };
            prop_assert_eq!(
                sample::Call::decode(&request.to_message()),
                Ok(sample::Call::Plain(request))
            );
        }

        #[test]
        fn any_message_decodes_or_fails(op: u16, handles in 0u64..4, words: [u64; WORDS]) {
            let message = Message { tag: Tag::new(op, handles), words };
            if let Ok(call) = sample::Call::decode(&message) {
                let again = match call {
                    sample::Call::Plain(r) => r.to_message(),
                    sample::Call::Named(r) => r.to_message(),
                };
                prop_assert_eq!(again.tag, message.tag);
            }
        }
    }

    #[test]
    fn named_and_handles() {
        let request = sample::Named { name: Name::new("virtio-blk.1").unwrap(), memory: 7 };
        let message = request.to_message();
        assert_eq!(message.tag.handles(), 1);
        assert_eq!(message.words[5], 7);
        assert_eq!(sample::Call::decode(&message), Ok(sample::Call::Named(request)));
        let reply = sample::NamedReply { one: 1, two: 2 };
        assert_eq!(decode_reply::<sample::NamedReply>(&reply.to_message()), Ok(reply));
        let error = error_message(Error::NoEnt);
        assert_eq!(decode_reply::<sample::NamedReply>(&error), Err(Error::NoEnt));
    }

    #[test]
    fn wrong_handle_count_is_refused() {
        let mut message = sample::Plain { a: 1, b: 2, c: true }.to_message();
        message.tag = Tag::new(message.tag.op(), 1);
        assert_eq!(sample::Call::decode(&message), Err(Error::BadMessage));
    }
}
