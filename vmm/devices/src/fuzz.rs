//! Fuzz harness bodies.
