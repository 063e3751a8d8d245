//! Which received frames the driver wants (5.1.6.5.1 to 5.1.6.5.3).

use crate::net::packet::{TYPE_VLAN, word};

/// Addresses of each kind kept; with more, all of that kind are taken.
const TABLE_MAX: usize = 64;

/// The switches of CTRL_RX and CTRL_RX_EXTRA.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    pub promiscuous: bool,
    pub all_multicast: bool,
    pub all_unicast: bool,
    pub no_multicast: bool,
    pub no_unicast: bool,
    pub no_broadcast: bool,
}

/// A table of addresses; `None` when it overflowed.
type Table = Option<Vec<[u8; 6]>>;

#[derive(Clone, Debug)]
pub struct Filter {
    mac: [u8; 6],
    pub modes: Modes,
    unicast: Table,
    multicast: Table,
    vlan_filter: bool,
    /// A bit for each VLAN id.
    vlans: Box<[u64; 64]>,
}

impl Filter {
    /// Nothing but the own address and broadcast; multicast until a table is set, as without a
    /// control queue.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            mac,
            modes: Modes::default(),
            unicast: Some(Vec::new()),
            multicast: None,
            vlan_filter: false,
            vlans: Box::new([0; 64]),
        }
    }

    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    pub fn set_mac(&mut self, mac: [u8; 6]) {
        self.mac = mac;
    }

    /// From now on only VLANs that are added pass (5.1.6.5.3).
    pub fn set_vlan_filter(&mut self, on: bool) {
        self.vlan_filter = on;
    }

    pub fn set_tables(&mut self, unicast: Vec<[u8; 6]>, multicast: Vec<[u8; 6]>) {
        let bounded = |table: Vec<[u8; 6]>| (table.len() <= TABLE_MAX).then_some(table);
        self.unicast = bounded(unicast);
        self.multicast = bounded(multicast);
    }

    pub fn set_vlan(&mut self, id: u16, on: bool) {
        let word = &mut self.vlans[usize::from(id >> 6 & 63)];
        let bit = 1 << (id & 63);
        *word = if on { *word | bit } else { *word & !bit };
    }

    pub fn passes(&self, frame: &[u8]) -> bool {
        let modes = &self.modes;
        if modes.promiscuous {
            return true;
        }
        let Some(to) = frame.first_chunk::<6>() else { return false };
        if self.vlan_filter && word(frame, 12) == TYPE_VLAN {
            let id = word(frame, 14) & 0xFFF;
            // VLAN 0 is a priority only.
            if id != 0 && self.vlans[usize::from(id >> 6)] & 1 << (id & 63) == 0 {
                return false;
            }
        }
        let listed = |table: &Table| table.as_ref().is_none_or(|table| table.contains(to));
        if *to == [0xFF; 6] {
            !modes.no_broadcast
        } else if to[0] & 1 != 0 {
            !modes.no_multicast && (modes.all_multicast || listed(&self.multicast))
        } else {
            !modes.no_unicast && (modes.all_unicast || *to == self.mac || listed(&self.unicast))
        }
    }
}
