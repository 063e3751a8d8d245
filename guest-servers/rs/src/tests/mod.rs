//! The logic on a pretended system.

mod control;
mod core_file;
mod escalate;
mod functions;
mod health;
mod life;
mod model;
mod names;
mod query;
mod random;
mod shutdown;
mod spare;
mod update;
mod world;
