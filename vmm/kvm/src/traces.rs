//! The traces of one run.

use std::path::Path;
use std::sync::{Arc, Mutex};

use xinim_devices::bus::lock;
use xinim_devices::trace::Hub;
use xinim_machine::EngineError;
use xinim_machine::trace::{TraceSpec, TraceStatus};
use xinim_trace::Trace;

/// All of them; copies are the same.
#[derive(Clone)]
pub struct Traces(Arc<Mutex<Vec<Trace>>>);

impl Traces {
    pub fn open(specs: &[TraceSpec], hub: &Arc<Hub>) -> Result<Self, EngineError> {
        let traces = specs.iter().map(|spec| Trace::open(spec, hub));
        let traces = traces.collect::<Result<Vec<_>, _>>().map_err(EngineError::Machine)?;
        Ok(Self(Arc::new(Mutex::new(traces))))
    }

    pub fn status(&self) -> Vec<TraceStatus> {
        lock(&self.0).iter().map(Trace::status).collect()
    }

    /// Switches that of this file, or all.
    pub fn switch(&self, path: Option<&Path>, on: bool) -> Result<(), String> {
        let traces = lock(&self.0);
        let chosen: Vec<_> = traces
            .iter()
            .filter(|trace| path.is_none_or(|path| trace.status().spec.path == path))
            .collect();
        match (chosen.is_empty(), path) {
            (false, _) => {
                chosen.iter().for_each(|trace| trace.switch(on));
                Ok(())
            }
            (true, Some(path)) => Err(format!("the machine has no trace {}", path.display())),
            (true, None) => Err("the machine has no trace: start it with --trace FILE,off".into()),
        }
    }

    /// Completes the files. What was lost is said on standard error; the first failure is the
    /// result, when all are closed.
    pub fn finish(&self) -> Result<(), EngineError> {
        let mut result = Ok(());
        for trace in lock(&self.0).drain(..) {
            match trace.finish() {
                Ok(Some(note)) => eprintln!("xinim-vmm: {note}"),
                Ok(None) => {}
                Err(error) => result = result.and(Err(EngineError::Machine(error))),
            }
        }
        result
    }
}
