//! Stopping the vCPUs of a running machine to look at them: for the debugger and for dumps.
//!
//! ```text
//!   running --hold()--> parked --last Held dropped--> running
//!      |                  ^
//!      +----event()-------+      a breakpoint: everybody stops, the debugger adopts the hold
//! ```
//!
//! A parked vCPU waits on its own thread and runs the jobs given to it there: KVM's calls on a
//! vCPU belong to its thread. While nobody holds, a vCPU pays one load per exit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use xinim_devices::bus::lock;

use crate::shared::Ending;
use crate::vcpu::exit::Runner;

/// Between two looks at whether the machine is to end.
const STEP: Duration = Duration::from_millis(20);

type Job = Box<dyn FnOnce(&mut Runner) + Send>;
type Kick = Box<dyn Fn() + Send>;

/// Why a vCPU stopped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    pub vcpu: u32,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `KVM_EXIT_DEBUG`: vector (1 or 3), address, DR6.
    Debug { exception: u32, pc: u64, dr6: u64 },
    /// The guest is about to die here.
    Died,
}

#[derive(Default)]
pub struct Halt {
    wanted: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Reasons to be parked.
    holders: u32,
    /// One of them is an event that nobody has adopted yet.
    event_holds: bool,
    /// A debugger listens for events.
    watched: bool,
    events: VecDeque<Stop>,
    cpus: Vec<Cpu>,
}

struct Cpu {
    alive: bool,
    parked: bool,
    /// May run although the others are held.
    free: bool,
    jobs: VecDeque<Job>,
    kick: Kick,
}

impl Halt {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// For a machine with so many vCPUs, none of which runs yet.
    pub fn new(vcpus: u32) -> Self {
        let cpu = |_| Cpu {
            alive: true,
            parked: false,
            free: false,
            jobs: VecDeque::new(),
            kick: Box::new(|| ()),
        };
        let halt = Self::default();
        halt.state().cpus = (0..vcpus).map(cpu).collect();
        halt
    }

    pub fn vcpus(&self) -> u32 {
        self.state().cpus.len() as u32
    }

    /// A vCPU's thread has begun; `kick` makes it leave the guest.
    pub fn arrive(&self, vcpu: u32, kick: Kick) {
        if let Some(cpu) = self.state().cpus.get_mut(vcpu as usize) {
            cpu.kick = kick;
        }
    }

    /// Before the vCPUs start: they park at once, until [`Self::release_initial`].
    pub fn hold_initial(&self) {
        self.take(&mut self.state());
    }

    pub fn release_initial(&self) {
        self.release(&mut self.state());
    }

    /// Its thread ends.
    pub fn leave(&self, vcpu: u32) {
        let mut state = self.state();
        if let Some(cpu) = state.cpus.get_mut(vcpu as usize) {
            (cpu.alive, cpu.kick) = (false, Box::new(|| ()));
            // Whoever waits for an answer learns that none comes.
            cpu.jobs.clear();
        }
        self.changed.notify_all();
    }

    /// Whether a vCPU has to come to [`Self::park`].
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Parks the calling vCPU as long as somebody holds; `false`: the machine ends.
    pub fn park(&self, vcpu: u32, runner: &mut Runner, ending: &Ending) -> bool {
        let index = vcpu as usize;
        let mut state = self.state();
        loop {
            if let Some(job) = state.cpus[index].jobs.pop_front() {
                drop(state);
                job(runner);
                state = self.state();
                continue;
            }
            let cpu = &mut state.cpus[index];
            if cpu.free || ending.stopping() {
                cpu.parked = false;
                return !ending.stopping();
            }
            if state.holders == 0 {
                state.cpus[index].parked = false;
                return true;
            }
            if !state.cpus[index].parked {
                state.cpus[index].parked = true;
                self.changed.notify_all();
            }
            state = self.wait(state);
        }
    }

    fn wait<'a>(
        &self,
        state: std::sync::MutexGuard<'a, State>,
    ) -> std::sync::MutexGuard<'a, State> {
        self.changed.wait_timeout(state, STEP).unwrap_or_else(PoisonError::into_inner).0
    }

    /// A debugger comes or goes.
    pub fn watch(&self, on: bool) {
        let mut state = self.state();
        state.watched = on;
        state.events.clear();
        if !on && std::mem::take(&mut state.event_holds) {
            self.release(&mut state);
        }
    }

    pub fn watched(&self) -> bool {
        self.state().watched
    }

    /// A vCPU stopped: all others are to stop, too. It parks next.
    pub fn event(&self, stop: Stop) {
        let mut state = self.state();
        if !state.watched {
            return;
        }
        if let Some(cpu) = state.cpus.get_mut(stop.vcpu as usize) {
            cpu.free = false;
        }
        state.events.push_back(stop);
        if !state.event_holds {
            state.event_holds = true;
            self.take(&mut state);
        }
        self.changed.notify_all();
    }

    fn take(&self, state: &mut State) {
        state.holders += 1;
        self.wanted.store(true, Ordering::SeqCst);
        for cpu in state.cpus.iter().filter(|cpu| cpu.alive && !cpu.parked) {
            (cpu.kick)();
        }
    }

    fn release(&self, state: &mut State) {
        state.holders -= 1;
        if state.holders == 0 {
            self.wanted.store(false, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }

    /// Parks every vCPU, and keeps them so until the result is dropped. vCPUs that come later park
    /// as they start.
    pub fn hold(&self) -> Held<'_> {
        let mut state = self.state();
        self.take(&mut state);
        self.settle(state);
        Held { halt: self }
    }

    fn settle(&self, mut state: std::sync::MutexGuard<'_, State>) {
        let running = |cpu: &Cpu| cpu.alive && !cpu.parked;
        while state.cpus.iter().any(running) {
            state = self.wait(state);
        }
    }

    /// The next event, with the hold that it brought; `None` when none comes in time.
    pub fn next_event(&self, timeout: Duration) -> Option<(Stop, Held<'_>)> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            if let Some(stop) = state.events.pop_front() {
                // What the others saw at the same time they see again when they go on.
                state.events.clear();
                if !std::mem::take(&mut state.event_holds) {
                    self.take(&mut state);
                }
                self.settle(state);
                return Some((stop, Held { halt: self }));
            }
            if Instant::now() >= deadline {
                return None;
            }
            state = self.wait(state);
        }
    }
}

/// All vCPUs are parked.
pub struct Held<'a> {
    halt: &'a Halt,
}

impl Held<'_> {
    /// Runs `job` on the vCPU's thread; `None` if it has ended.
    pub fn on<R: Send + 'static>(
        &self,
        vcpu: u32,
        job: impl FnOnce(&mut Runner) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, answered) = mpsc::channel();
        {
            let mut state = self.halt.state();
            let cpu = state.cpus.get_mut(vcpu as usize).filter(|cpu| cpu.alive)?;
            cpu.jobs.push_back(Box::new(move |runner| drop(answer.send(job(runner)))));
            self.halt.changed.notify_all();
        }
        answered.recv().ok()
    }

    /// Numbers of the vCPUs that are there.
    pub fn vcpus(&self) -> Vec<u32> {
        let state = self.halt.state();
        let alive = (0..).zip(&state.cpus).filter(|(_, cpu)| cpu.alive);
        alive.map(|(index, _)| index).collect()
    }

    /// Lets one vCPU run until it stops by itself (a single step); what stopped it.
    pub fn run_one(&self, vcpu: u32, timeout: Duration) -> Option<Stop> {
        let deadline = Instant::now() + timeout;
        let mut state = self.halt.state();
        state.events.clear();
        state.cpus.get_mut(vcpu as usize)?.free = true;
        self.halt.changed.notify_all();
        let stop = loop {
            if let Some(stop) = state.events.pop_front() {
                break Some(stop);
            }
            if Instant::now() >= deadline {
                let cpu = &mut state.cpus[vcpu as usize];
                cpu.free = false;
                (cpu.kick)();
                break None;
            }
            state = self.halt.wait(state);
        };
        // The event brought a hold of its own; ours stays.
        if std::mem::take(&mut state.event_holds) {
            self.halt.release(&mut state);
        }
        self.halt.settle(state);
        stop
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.halt.state();
        self.halt.release(&mut state);
    }
}
