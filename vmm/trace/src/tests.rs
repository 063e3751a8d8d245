mod diffs;
mod files;
mod samples;
mod sinks;
mod stats;
