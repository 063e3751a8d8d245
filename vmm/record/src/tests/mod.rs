//! Devices recorded under small drivers and replayed.

mod damage;
mod devices;
