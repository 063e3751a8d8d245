//! Tracks of the timeline, made when first used, and lanes for what overlaps.
//!
//! On one track slices must nest. Requests do not, so a group of them has lanes: a slice takes the
//! lowest free one.

use std::collections::HashMap;
use std::io::{self, Write};

use super::proto::{Packets, Role, Slice, Type};

/// Lanes of a group and slices open at a time: more is a trace with ends missing.
const LANES_MAX: usize = 256;

/// Writes packets and remembers tracks.
pub struct Timeline<W> {
    output: W,
    packets: Packets,
    tracks: HashMap<String, u64>,
    lanes: HashMap<u64, Vec<bool>>,
    pub error: Option<io::Error>,
}

/// An open slice.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    track: u64,
    /// Its group and lane, if it has one.
    lane: Option<(u64, usize)>,
}

impl<W: Write> Timeline<W> {
    pub fn new(output: W) -> Self {
        let (tracks, lanes) = (HashMap::new(), HashMap::new());
        Self { output, packets: Packets::default(), tracks, lanes, error: None }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.error.is_none()
            && let Err(error) = self.output.write_all(bytes)
        {
            self.error = Some(error);
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.output.flush(),
        }
    }

    /// The track with this key, which is made if there is none yet.
    pub fn track(&mut self, key: &str, name: &str, parent: Option<u64>, role: Role) -> u64 {
        if let Some(&uuid) = self.tracks.get(key) {
            return uuid;
        }
        let uuid = self.tracks.len() as u64 + 1;
        self.tracks.insert(key.to_owned(), uuid);
        let packet = self.packets.track(uuid, parent, name, role);
        self.write(&packet);
        uuid
    }

    /// A group of tracks without a process.
    pub fn group(&mut self, name: &str) -> u64 {
        self.track(name, name, None, Role::Plain)
    }

    pub fn child(&mut self, parent: u64, name: &str) -> u64 {
        self.track(&format!("{parent}/{name}"), name, Some(parent), Role::Plain)
    }

    pub fn instant(&mut self, time: u64, track: u64, slice: &Slice) {
        let packet = self.packets.event(time, Type::Instant, track, slice);
        self.write(&packet);
    }

    /// A slice that nests on its track.
    pub fn begin(&mut self, time: u64, track: u64, slice: &Slice) -> Open {
        let packet = self.packets.event(time, Type::Begin, track, slice);
        self.write(&packet);
        Open { track, lane: None }
    }

    /// A slice on a lane of a group under `parent`.
    pub fn begin_lane(&mut self, time: u64, parent: u64, name: &str, slice: &Slice) -> Open {
        let group = self.child(parent, name);
        let lanes = self.lanes.entry(group).or_default();
        let lane = lanes.iter().position(|busy| !busy).unwrap_or(lanes.len()).min(LANES_MAX);
        match lanes.get_mut(lane) {
            Some(busy) => *busy = true,
            None => lanes.push(true),
        }
        let track = match lane {
            0 => group,
            // A sibling of the same name: viewers put them next to each other.
            lane => self.track(&format!("{group}#{lane}"), name, Some(parent), Role::Plain),
        };
        Open { lane: Some((group, lane)), ..self.begin(time, track, slice) }
    }

    pub fn end(&mut self, time: u64, open: Open, slice: &Slice) {
        let packet = self.packets.event(time, Type::End, open.track, slice);
        self.write(&packet);
        if let Some((group, lane)) = open.lane
            && let Some(busy) = self.lanes.get_mut(&group).and_then(|lanes| lanes.get_mut(lane))
        {
            *busy = false;
        }
    }
}

impl Open {
    pub fn track(self) -> u64 {
        self.track
    }
}
