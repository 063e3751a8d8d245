//! Messages, badges and notification words.
//!
//! A **message** is a tag and [`WORDS`] 64-bit words; it travels in registers. At most two of the
//! words may be handles: they are installed in the receiver's table and arrive as its numbers.
//!
//! An **endpoint** is where a server receives: a queue of callers and one 64-bit *notification
//! word*. `call` blocks until the reply; `notify` sets bits and never blocks. A receiver gets
//! pending notification bits before queued calls. One kernel object instead of two, so that a
//! server has one place to wait for clients, interrupts, timers and obituaries.
//!
//! The receiver learns the caller's **badge** (chosen by whoever minted the caller's handle, so
//! the caller cannot forge it) and its process id.

/// Words of a message.
pub const WORDS: usize = 6;

/// Operation (interface << 8 | operation) and the number of handles in a message.
///
/// ```text
/// bits 0..16 operation   bits 16..31 number, bit 31 repeated   bits 32..34 handle count (0..=2)
/// ```
/// The *number* (0: none) is for servers that keep their state over their own death: a caller whose
/// request ended with `ServerDied` sends it again to the next instance with the same number and the
/// bit for "repeated"; the server then answers what was done already as its last instance would have.
/// A caller has one numbered request under way at a time. Other servers look at the operation only.
/// With one handle it is in word 5; with two, in words 4 and 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of a wake-up by notification bits (word 0 holds and clears them). A caller may choose this
    /// tag, too: what tells a notification is that there is nobody to reply to.
    pub const NOTIFICATION: Tag = Tag(0xFFFF);

    pub const fn new(op: u16, handles: u64) -> Self {
        Tag(op as u64 | handles << 32)
    }

    pub const fn op(self) -> u16 {
        self.0 as u16
    }

    /// With a number (15 bits), sent for the first time or again.
    #[must_use]
    pub const fn numbered(self, number: u16, repeated: bool) -> Self {
        let bits = (number as u64 & 0x7FFF) << 16 | (repeated as u64) << 31;
        Tag(self.0 & !0xFFFF_0000 | bits)
    }

    /// The request's number, 0 if it has none.
    pub const fn number(self) -> u16 {
        (self.0 >> 16) as u16 & 0x7FFF
    }

    pub const fn is_repeated(self) -> bool {
        self.0 >> 31 & 1 != 0
    }

    /// 0, 1 or 2; other encodings count as malformed (3).
    pub const fn handles(self) -> usize {
        (self.0 >> 32 & 3) as usize
    }
}

/// A message as it stands in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub tag: Tag,
    pub words: [u64; WORDS],
}

/// Identifies one waiting caller to `reply`; useless to anyone but the server that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ReplyToken(pub u64);

impl ReplyToken {
    /// "Nothing to reply to", for the first `reply_wait` of a loop.
    pub const NONE: ReplyToken = ReplyToken(0);
}

/// What `receive` returned.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    pub message: Message,
    /// [`ReplyToken::NONE`] for a notification.
    pub token: ReplyToken,
    /// Badge of the handle the caller used; 0 for a notification.
    pub badge: u64,
    /// Process id of the caller; 0 for a notification.
    pub sender: u32,
}

impl Received {
    /// The notification bits, if this is a notification.
    pub fn notification(&self) -> Option<u64> {
        let is_notification =
            self.message.tag == Tag::NOTIFICATION && self.token == ReplyToken::NONE;
        is_notification.then_some(self.message.words[0])
    }
}

/// Notification bits with a meaning for every server loop (the run-time library serves them).
/// Servers use bits 0..=47 for their own purposes.
pub mod bits {
    /// What a handle with the NOTIFY right raises; the others take the RECEIVE right, which a server's
    /// maker has.
    pub const OF_PEERS: u64 = (1 << 48) - 1;
    /// A watched or supervised process died: fetch with `event_next`.
    pub const OBITUARY: u64 = 1 << 63;
    /// RS asks for an orderly end.
    pub const TERMINATE: u64 = 1 << 62;
    /// With `TERMINATE`: the next instance follows at once and takes up the state. Whoever relies on the service
    /// is to go on.
    pub const SUCCEEDED: u64 = 1 << 55;
    /// RS's heartbeat: raised where no thread waits at the endpoint; coming to fetch it is the answer
    /// (see `syscall::PROBE`).
    pub const PING: u64 = 1 << 61;
    /// RS injects a fault for a test: the library writes through a wild pointer.
    pub const INJECT_FAULT: u64 = 1 << 60;
    /// RS injects a hang for a test: the library spins.
    pub const INJECT_HANG: u64 = 1 << 59;
    /// A timer set by `timer_set` ran out.
    pub const TIMER: u64 = 1 << 58;
    /// RS: an instance of a service in this one's `notify` list has come up.
    pub const PEER_UP: u64 = 1 << 57;
    /// RS injects a hang of the other kind for a test: the library sleeps for ever.
    pub const INJECT_BLOCK: u64 = 1 << 56;
    /// All that RS raises and the run-time library serves.
    pub const STANDARD: u64 =
        TERMINATE | SUCCEEDED | PING | INJECT_FAULT | INJECT_HANG | INJECT_BLOCK;
}

/// Badge layout that RS gives to the handles it hands out on look-up: the label's number and
/// [`BADGE_ADMIN`]. User programs have label number 0.
pub const BADGE_ADMIN: u64 = 1;
pub const BADGE_LABEL_SHIFT: u32 = 8;
