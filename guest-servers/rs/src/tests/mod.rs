//! The logic on a pretended system.

mod control;
mod escalate;
mod functions;
mod health;
mod life;
mod names;
mod query;
mod random;
mod shutdown;
mod world;
