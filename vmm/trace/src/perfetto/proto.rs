//! The few messages of Perfetto's trace format that we write, as protobuf bytes
//! (protos/perfetto/trace/trace_packet.proto and track_event/*.proto of Perfetto).

/// Field numbers.
mod field {
    /// `Trace.packet`
    pub const PACKET: u64 = 1;
    pub mod packet {
        pub const TIMESTAMP: u64 = 8;
        pub const SEQUENCE: u64 = 10;
        pub const TRACK_EVENT: u64 = 11;
        pub const SEQUENCE_FLAGS: u64 = 13;
        pub const TRACK_DESCRIPTOR: u64 = 60;
    }
    pub mod descriptor {
        pub const UUID: u64 = 1;
        pub const NAME: u64 = 2;
        pub const PROCESS: u64 = 3;
        pub const THREAD: u64 = 4;
        pub const PARENT: u64 = 5;
    }
    pub mod event {
        pub const ANNOTATION: u64 = 4;
        pub const TYPE: u64 = 9;
        pub const TRACK: u64 = 11;
        pub const CATEGORY: u64 = 22;
        pub const NAME: u64 = 23;
        pub const FLOW: u64 = 47;
        pub const LAST_FLOW: u64 = 48;
    }
    pub mod annotation {
        pub const UINT: u64 = 3;
        pub const STRING: u64 = 6;
        pub const NAME: u64 = 10;
    }
}

/// All our packets are one sequence.
const SEQUENCE: u64 = 1;
/// `SEQ_INCREMENTAL_STATE_CLEARED`: nothing before the first packet counts.
const STATE_CLEARED: u64 = 1;

/// What a track event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Begin = 1,
    End = 2,
    Instant = 3,
}

/// What a track is: a name, and whether it is a process or one of its threads.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    Plain,
    Process(u32),
    Thread(u32, u32),
}

/// An annotation's value.
#[derive(Clone, Debug)]
pub enum Value {
    Number(u64),
    Text(String),
}

/// A message being put together.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn fixed(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// Makes packets.
#[derive(Default)]
pub struct Packets {
    begun: bool,
}

impl Packets {
    fn packet(&mut self, time: Option<u64>, field: u64, body: &Message) -> Vec<u8> {
        let mut packet = Message::default();
        if let Some(time) = time {
            packet.number(field::packet::TIMESTAMP, time);
        }
        packet.number(field::packet::SEQUENCE, SEQUENCE);
        if !std::mem::replace(&mut self.begun, true) {
            packet.number(field::packet::SEQUENCE_FLAGS, STATE_CLEARED);
        }
        packet.bytes(field, &body.0);
        let mut trace = Message::default();
        trace.bytes(field::PACKET, &packet.0);
        trace.0
    }

    pub fn track(&mut self, uuid: u64, parent: Option<u64>, name: &str, role: Role) -> Vec<u8> {
        let mut body = Message::default();
        body.number(field::descriptor::UUID, uuid);
        body.bytes(field::descriptor::NAME, name.as_bytes());
        match role {
            Role::Plain => {}
            Role::Process(pid) => {
                let mut process = Message::default();
                process.number(1, pid.into());
                process.bytes(6, name.as_bytes());
                body.bytes(field::descriptor::PROCESS, &process.0);
            }
            Role::Thread(pid, tid) => {
                let mut thread = Message::default();
                thread.number(1, pid.into());
                thread.number(2, tid.into());
                thread.bytes(5, name.as_bytes());
                body.bytes(field::descriptor::THREAD, &thread.0);
            }
        }
        if let Some(parent) = parent {
            body.number(field::descriptor::PARENT, parent);
        }
        self.packet(None, field::packet::TRACK_DESCRIPTOR, &body)
    }

    pub fn event(&mut self, time: u64, kind: Type, track: u64, slice: &Slice) -> Vec<u8> {
        let mut body = Message::default();
        body.number(field::event::TYPE, kind as u64);
        body.number(field::event::TRACK, track);
        if kind != Type::End {
            body.bytes(field::event::CATEGORY, slice.category.as_bytes());
            body.bytes(field::event::NAME, slice.name.as_bytes());
        }
        for (name, value) in &slice.annotations {
            let mut annotation = Message::default();
            annotation.bytes(field::annotation::NAME, name.as_bytes());
            match value {
                Value::Number(number) => annotation.number(field::annotation::UINT, *number),
                Value::Text(text) => annotation.bytes(field::annotation::STRING, text.as_bytes()),
            }
            body.bytes(field::event::ANNOTATION, &annotation.0);
        }
        if let Some(flow) = slice.flow {
            let number = if slice.last { field::event::LAST_FLOW } else { field::event::FLOW };
            body.fixed(number, flow);
        }
        for flow in &slice.ending {
            body.fixed(field::event::LAST_FLOW, *flow);
        }
        self.packet(Some(time), field::packet::TRACK_EVENT, &body)
    }
}

/// What an event shows.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    pub name: String,
    pub category: &'static str,
    pub annotations: Vec<(&'static str, Value)>,
    /// The chain it belongs to.
    pub flow: Option<u64>,
    /// The chain ends with it.
    pub last: bool,
    /// Other chains that end with it.
    pub ending: Vec<u64>,
}

impl Slice {
    pub fn new(category: &'static str, name: impl Into<String>) -> Self {
        Self { name: name.into(), category, ..Self::default() }
    }

    pub fn flow(mut self, flow: Option<u64>) -> Self {
        self.flow = flow;
        self
    }

    pub fn number(mut self, name: &'static str, value: u64) -> Self {
        self.annotations.push((name, Value::Number(value)));
        self
    }

    pub fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.annotations.push((name, Value::Text(value.into())));
        self
    }
}
