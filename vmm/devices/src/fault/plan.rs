//! [`Faults`]: the rules of a machine, whose turn is when, and the devices they concern.

use super::later::{Later, Stuck};
use super::rule::{Action, Kind, Point, Rule};
use crate::backend::Clock;
use crate::bus::lock;
use crate::device::Origin;
use crate::net::Timer;
use crate::random::draw;
use crate::trace::{EventKind, Tracer};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Rules of a machine at a time.
pub const RULES_MAX: usize = 64;
/// In the mask of what has to be looked at, beside the kinds of rules: devices that are gone,
/// things that are stuck.
pub(super) const GONE: u32 = 1 << 31;
pub(super) const STUCK: u32 = 1 << 30;

/// A rule as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleStatus {
    pub id: u32,
    /// As it was written.
    pub rule: String,
    /// How often what it is about has passed.
    pub matches: u64,
    /// How often it struck.
    pub hits: u64,
}

/// What the machine does to a device on behalf of a rule. Called without locks held, on whichever
/// thread calls [`Faults::run_due`].
pub trait Target: Send + Sync {
    /// Something held back may go on. Whether to call again.
    fn ready(&self, origin: &Origin) -> bool;
    /// A doorbell that was held back is rung. Whether to call again.
    fn notify(&self, _queue: u16, _origin: &Origin) -> bool {
        false
    }
    /// The network cable; whether it has one.
    fn set_link(&self, _up: bool, _origin: &Origin) -> bool {
        false
    }
    /// Pulls it out of its bay; `false`: it has none, the whole function goes.
    fn unplug(&self, _origin: &Origin) -> bool {
        false
    }
}

/// What a rule that struck does to what passed.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    pub rule: u32,
    pub action: Action,
    pub time: Option<Duration>,
    pub errno: i32,
    /// Of the rule's own generator.
    pub random: u64,
}

struct Armed {
    status: RuleStatus,
    rule: Rule,
    random: u64,
}

impl Armed {
    fn draw(&mut self) -> u64 {
        draw(&mut self.random)
    }

    /// Something matched: whether it is this rule's turn.
    fn turn(&mut self, now: Duration) -> bool {
        let rule = &self.rule;
        if rule.after.is_some_and(|at| now < at) || rule.until.is_some_and(|at| now > at) {
            return false;
        }
        self.status.matches += 1;
        let number = self.status.matches;
        let first = rule.nth.unwrap_or(rule.every.unwrap_or(1));
        let due = match (rule.nth, rule.every) {
            (_, Some(every)) => number >= first && (number - first).is_multiple_of(every),
            (Some(nth), None) => number == nth,
            (None, None) => true,
        };
        let probability = rule.probability;
        let count = rule.count;
        // Drawn at each match, so that a choice depends on the match's number only.
        let lucky = probability.is_none_or(|p| self.draw() % 1_000_000 < u64::from(p));
        due && lucky && count.is_none_or(|count| self.status.hits < count)
    }

    fn strike(&mut self) -> Hit {
        self.status.hits += 1;
        let random = self.draw();
        Hit {
            rule: self.status.id,
            action: self.rule.action,
            time: self.rule.time,
            errno: self.rule.errno,
            random,
        }
    }
}

/// Its names, and who acts on it.
type Concerned = (Arc<[String]>, Arc<dyn Target>);

/// A device that rules can concern.
#[derive(Clone)]
struct Known {
    names: Arc<[String]>,
    target: Option<Arc<dyn Target>>,
}

#[derive(Default)]
pub(super) struct State {
    rules: Vec<Armed>,
    last_id: u32,
    known: Vec<Known>,
    pub(super) later: Vec<Later>,
    pub(super) stuck: Vec<Stuck>,
    /// Functions that were pulled out.
    pub(super) gone: Vec<String>,
}

/// See the module's head.
pub struct Faults {
    // Glue
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timer: Arc<dyn Timer>,
    tracer: Tracer,
    // Volatile state
    /// Bits of the kinds that have rules, [`GONE`], [`STUCK`].
    mask: AtomicU32,
    pub(super) state: Mutex<State>,
}

impl Faults {
    /// `timer` is armed for [`run_due`](Self::run_due).
    pub fn new(clock: Arc<dyn Clock>, timer: Arc<dyn Timer>, tracer: Tracer) -> Arc<Self> {
        let (mask, state) = (AtomicU32::new(0), Mutex::default());
        Arc::new(Self { clock, timer, tracer, mask, state })
    }

    /// The place where an adapter of the device with these names stands; the first is its name in
    /// the trace.
    pub fn site(self: &Arc<Self>, names: &[&str]) -> Site {
        let names: Arc<[String]> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut state = lock(&self.state);
        if !state.known.iter().any(|known| known.names == names) {
            state.known.push(Known { names: names.clone(), target: None });
        }
        Site { names, faults: self.clone() }
    }

    /// Adds a rule; its number. Errors are sentences.
    pub fn add(self: &Arc<Self>, text: &str) -> Result<u32, String> {
        let rule: Rule = text.parse().map_err(|error: super::RuleError| error.to_string())?;
        let (id, at) = {
            let mut state = lock(&self.state);
            if state.rules.len() >= RULES_MAX {
                return Err(format!("there are {RULES_MAX} fault rules already"));
            }
            if !state.known.iter().any(|known| rule.concerns(&known.names)) {
                return Err(unknown(&rule, &state.known));
            }
            state.last_id += 1;
            let id = state.last_id;
            let status = RuleStatus { id, rule: text.to_owned(), matches: 0, hits: 0 };
            let at = (rule.kind == Kind::Time).then(|| rule.after.unwrap_or(Duration::ZERO));
            let random = rule.seed;
            state.rules.push(Armed { status, rule, random });
            self.refresh(&state);
            (id, at)
        };
        if let Some(at) = at {
            let faults = Arc::downgrade(self);
            self.later(at, move |_| {
                if let Some(faults) = faults.upgrade() {
                    faults.moment(id);
                }
                false
            });
        }
        Ok(id)
    }

    /// Takes a rule away, with what it holds back; whether there was one.
    pub fn remove(self: &Arc<Self>, id: u32) -> bool {
        let found = {
            let mut state = lock(&self.state);
            let before = state.rules.len();
            state.rules.retain(|armed| armed.status.id != id);
            state.stuck.retain(|stuck| stuck.rule != id);
            self.refresh(&state);
            before != state.rules.len()
        };
        if found {
            self.wake_all();
        }
        found
    }

    /// Takes all rules away, with what they hold back.
    pub fn clear(self: &Arc<Self>) {
        {
            let mut state = lock(&self.state);
            state.rules.clear();
            state.stuck.clear();
            self.refresh(&state);
        }
        self.wake_all();
    }

    pub fn list(&self) -> Vec<RuleStatus> {
        lock(&self.state).rules.iter().map(|armed| armed.status.clone()).collect()
    }

    /// Brings the mask up to date.
    pub(super) fn refresh(&self, state: &State) {
        let mut mask = state.rules.iter().fold(0, |mask, armed| mask | armed.rule.kind.bit());
        if !state.gone.is_empty() {
            mask |= GONE;
        }
        if !state.stuck.is_empty() {
            mask |= STUCK;
        }
        self.mask.store(mask, Ordering::Relaxed);
    }

    /// Whether any of these bits is set: the only thing that costs when there are no rules.
    pub(super) fn watches(&self, bits: u32) -> bool {
        self.mask.load(Ordering::Relaxed) & bits != 0
    }

    /// What happens to something that passes at a device with these names. A rule that pulls a
    /// plug does so a moment later, and lets this pass.
    pub(super) fn decide(self: &Arc<Self>, names: &[String], point: &Point<'_>) -> Option<Hit> {
        if !self.watches(point.kind().bit()) {
            return None;
        }
        let now = self.clock.monotonic();
        let mut hit = None;
        for armed in &mut lock(&self.state).rules {
            if armed.rule.concerns(names) && armed.rule.matches(point) && armed.turn(now) {
                // The first wins; for the others it was a match only.
                hit = hit.or_else(|| Some((armed.strike(), self.words(armed))));
            }
        }
        let (hit, words) = hit?;
        self.trace(names, hit.rule, &words, now);
        match hit.action {
            Action::Unplug | Action::LinkDown => {
                let targets = self.targets(|known| names.iter().all(|n| known.contains(n)));
                self.pull(hit, targets, names.first());
                None
            }
            _ => Some(hit),
        }
    }

    /// A rule's text, for a trace that is on.
    fn words(&self, armed: &Armed) -> String {
        if self.tracer.is_on() { armed.status.rule.clone() } else { String::new() }
    }

    fn trace(&self, names: &[String], rule: u32, words: &str, now: Duration) {
        if self.tracer.is_on() {
            let device = names.first().map_or("fault", String::as_str);
            let origin = Origin::host(now.as_nanos() as u64);
            let tracer = self.tracer.named(device);
            tracer.emit_with(&origin, words.as_bytes(), || EventKind::Fault { rule });
        }
    }

    /// The time of a rule that needs no event has come.
    fn moment(self: &Arc<Self>, id: u32) {
        let struck = {
            let mut state = lock(&self.state);
            let armed = state.rules.iter_mut().find(|armed| armed.status.id == id);
            armed.map(|armed| {
                armed.status.matches += 1;
                (armed.strike(), armed.rule.clone(), self.words(armed))
            })
        };
        let Some((hit, rule, words)) = struck else { return };
        let targets = self.targets(|names| rule.concerns(names));
        let first = targets.first().and_then(|(names, _)| names.first()).cloned();
        self.trace(first.as_slice(), id, &words, self.clock.monotonic());
        self.pull(hit, targets, first.as_ref());
    }

    #[allow(clippy::type_complexity)]
    fn targets(&self, wanted: impl Fn(&[String]) -> bool) -> Vec<(Arc<[String]>, Arc<dyn Target>)> {
        let state = lock(&self.state);
        let found = state.known.iter().filter(|known| wanted(&known.names));
        found.filter_map(|known| Some((known.names.clone(), known.target.clone()?))).collect()
    }

    /// Pulls a device or its cable, as soon as nobody holds the device.
    fn pull(self: &Arc<Self>, hit: Hit, targets: Vec<Concerned>, first: Option<&String>) {
        let (now, faults) = (self.clock.monotonic(), Arc::downgrade(self));
        if hit.action == Action::Unplug && targets.is_empty() {
            if let Some(name) = first {
                self.take_away(name);
            }
            return;
        }
        self.later(now, move |origin| {
            let Some(faults) = faults.upgrade() else { return false };
            for (names, target) in &targets {
                if hit.action == Action::Unplug {
                    if let (false, Some(name)) = (target.unplug(origin), names.first()) {
                        faults.take_away(name);
                    }
                } else if target.set_link(false, origin)
                    && let Some(time) = hit.time
                {
                    let target = target.clone();
                    faults.later(now + time, move |origin| {
                        target.set_link(true, origin);
                        false
                    });
                }
            }
            false
        });
    }

    /// The function answers nothing any more.
    fn take_away(&self, name: &str) {
        let mut state = lock(&self.state);
        if !state.gone.iter().any(|gone| gone == name) {
            state.gone.push(name.to_owned());
        }
        self.refresh(&state);
    }

    /// What was held back may have become free: everybody looks.
    fn wake_all(self: &Arc<Self>) {
        for (_, target) in self.targets(|_| true) {
            self.later(Duration::ZERO, move |origin| target.ready(origin));
        }
    }

    /// All names of the function that is called so in the trace.
    pub(super) fn names_of(&self, function: &str) -> Vec<String> {
        let mut names = vec![function.to_owned()];
        let state = lock(&self.state);
        let own = |k: &&Known| k.names.first().is_some_and(|first| first == function);
        for known in state.known.iter().filter(own) {
            names.extend(known.names.iter().skip(1).cloned());
        }
        names
    }

    pub(super) fn target_of(&self, function: &str) -> Option<Arc<dyn Target>> {
        let first = |names: &[String]| names.first().is_some_and(|name| name == function);
        self.targets(first).into_iter().next().map(|(_, target)| target)
    }
}

fn unknown(rule: &Rule, known: &[Known]) -> String {
    let wanted = rule.device.as_deref().unwrap_or("");
    let mut names: Vec<&str> =
        known.iter().flat_map(|known| known.names.iter()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    format!("the machine has no device `{wanted}`; it has {}", names.join(", "))
}

/// Where an adapter of a device stands.
#[derive(Clone)]
pub struct Site {
    pub(super) names: Arc<[String]>,
    pub(super) faults: Arc<Faults>,
}

impl Site {
    /// Who acts on the device here, from now on.
    pub fn connect(&self, target: Arc<dyn Target>) {
        let mut state = lock(&self.faults.state);
        if let Some(known) = state.known.iter_mut().find(|known| known.names == self.names) {
            known.target = Some(target);
        }
    }

    pub(super) fn decide(&self, point: &Point<'_>) -> Option<Hit> {
        self.faults.decide(&self.names, point)
    }

    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Whether the function was pulled out.
    pub(super) fn is_gone(&self) -> bool {
        self.faults.watches(GONE) && self.faults.is_gone(self.name())
    }

    /// The device is to look at this site again at `at`.
    pub(super) fn wake(&self, at: Duration) {
        let names = self.names.clone();
        let targets = self.faults.targets(|known| known == &*names);
        for (_, target) in targets {
            self.faults.later(at, move |origin| target.ready(origin));
        }
    }
}
