//! Which fault a seed stands for.

use xinim_devices::random::draw;
use xinim_machine::control::InjectionKind;

/// Kinds of faults, as the report counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Kill,
    WildPointer,
    Text,
    Instruction,
    Data,
    Pointer,
    Jump,
    Hang,
    Message,
    Memory,
    DmaAddress,
    IrqLost,
    IrqLate,
    IrqDuplicate,
    Completion,
    Ring,
    Error,
    Removal,
    Link,
    Packet,
}

impl Class {
    pub const ALL: [Self; 20] = [
        Self::Kill,
        Self::WildPointer,
        Self::Text,
        Self::Instruction,
        Self::Data,
        Self::Pointer,
        Self::Jump,
        Self::Hang,
        Self::Message,
        Self::Memory,
        Self::DmaAddress,
        Self::IrqLost,
        Self::IrqLate,
        Self::IrqDuplicate,
        Self::Completion,
        Self::Ring,
        Self::Error,
        Self::Removal,
        Self::Link,
        Self::Packet,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::WildPointer => "wild-pointer",
            Self::Text => "text",
            Self::Instruction => "instruction",
            Self::Data => "data",
            Self::Pointer => "pointer",
            Self::Jump => "jump",
            Self::Hang => "hang",
            Self::Message => "message",
            Self::Memory => "memory",
            Self::DmaAddress => "dma-address",
            Self::IrqLost => "irq-lost",
            Self::IrqLate => "irq-late",
            Self::IrqDuplicate => "irq-duplicate",
            Self::Completion => "completion",
            Self::Ring => "ring",
            Self::Error => "error",
            Self::Removal => "removal",
            Self::Link => "link",
            Self::Packet => "packet",
        }
    }
}

impl Class {
    /// How often it comes when no classes are named: one that takes a machine seconds comes less often than
    /// one that takes it milliseconds.
    const fn weight(self) -> usize {
        match self {
            Self::Memory => 1,
            Self::Message => 2,
            Self::Kill
            | Self::WildPointer
            | Self::Hang
            | Self::Text
            | Self::Instruction
            | Self::Data
            | Self::Pointer
            | Self::Jump => 4,
            _ => 5,
        }
    }
}

/// The classes named; or all, each as often as it is to come.
pub fn choose(names: &[String]) -> Result<Vec<Class>, String> {
    if names.is_empty() {
        let all = Class::ALL.into_iter();
        return Ok(all.flat_map(|class| std::iter::repeat_n(class, class.weight())).collect());
    }
    let find = |name: &String| {
        Class::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| {
            let known: Vec<_> = Class::ALL.into_iter().map(Class::name).collect();
            format!("`{name}` is no class of faults; they are {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// What goes into the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A command for `service batch` in the guest.
    Guest(String),
    /// Damage to the target's process.
    Inject(InjectionKind),
    /// A rule for the devices.
    Rule(String),
    /// The disk on AHCI is pulled out, and put back this much later.
    Removal { out_ms: u64 },
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub seed: u64,
    pub class: Class,
    /// Label of the service or name of the device it hits.
    pub target: &'static str,
    pub step: Step,
    /// After the one before.
    pub wait_ms: u64,
}

/// Drivers come more often than others, as in the studies this follows.
const SERVICES: [&str; 14] = [
    "virtio-blk",
    "virtio-blk",
    "virtio-net",
    "virtio-net",
    "ahci",
    "fs-fat",
    "net",
    "vfs",
    "pm",
    "pci",
    "devfs",
    "procfs",
    "ramfs",
    "log",
];
/// For damage that has to meet the process while it runs: those that work under this load.
const BUSY: [&str; 10] = [
    "virtio-blk",
    "virtio-blk",
    "virtio-blk",
    "virtio-net",
    "virtio-net",
    "fs-fat",
    "net",
    "vfs",
    "pm",
    "ahci",
];
const DISKS: [&str; 2] = ["virtio-blk.0", "ahci.0"];

fn pick<T: Copy>(from: &[T], state: &mut u64) -> T {
    from[draw(state) as usize % from.len()]
}

impl Fault {
    /// The fault of this seed among these classes (at least one).
    pub fn new(seed: u64, classes: &[Class]) -> Self {
        let mut state = seed;
        let class = pick(classes, &mut state);
        let wait_ms = draw(&mut state) % 40;
        let r = &mut state;
        let inject = |kind, r: &mut u64| (pick(&BUSY, r), Step::Inject(kind));
        let rule = |target: &'static str, rest: String| {
            (target, Step::Rule(format!("device={target},{rest}")))
        };
        let device = ["virtio-blk.0", "virtio-net.0", "ahci.0"];
        let nth = 1 + draw(r) % 12;
        let (target, step) = match class {
            Class::Kill => {
                let target = pick(&SERVICES, r);
                (target, Step::Guest(format!("kill {target}")))
            }
            Class::WildPointer => {
                let target = pick(&SERVICES, r);
                (target, Step::Guest(format!("wild {target}")))
            }
            Class::Text => inject(InjectionKind::Text, r),
            Class::Instruction => inject(InjectionKind::Instruction, r),
            Class::Data => inject(InjectionKind::Data, r),
            Class::Pointer => inject(InjectionKind::Pointer, r),
            Class::Jump => inject(InjectionKind::Jump, r),
            Class::Hang => {
                let target = pick(&SERVICES, r);
                (target, Step::Guest(format!("hang {target}")))
            }
            Class::Message => {
                let seed = draw(r) % 1_000_000;
                ("services", Step::Guest(format!("run breakout messages {seed}")))
            }
            Class::Memory => ("system", Step::Guest("run breakout exhaust".into())),
            // One bit of a descriptor as the device reads it: address, length, flags or next.
            Class::DmaAddress => {
                let rest = format!("on=dma,op=read,length=16,nth={nth},action=corrupt,seed={seed}");
                rule(pick(&["virtio-blk.0", "virtio-net.0"], r), rest)
            }
            Class::IrqLost => rule(pick(&device, r), format!("nth={nth},action=irq-lost")),
            Class::IrqLate => {
                let time = 1 + draw(r) % 50;
                rule(pick(&device, r), format!("nth={nth},action=irq-late,time={time}ms"))
            }
            Class::IrqDuplicate => {
                rule(pick(&device, r), format!("nth={nth},action=irq-duplicate"))
            }
            // An element of a used ring.
            Class::Completion => {
                let target = pick(&["virtio-blk.0", "virtio-net.0"], r);
                let rest = format!("on=dma,op=write,length=8,nth={nth},action=corrupt,seed={seed}");
                rule(target, rest)
            }
            Class::Ring => {
                let (time, queue) = (50 + draw(r) % 1000, draw(r) % 2);
                let target = pick(&["virtio-blk.0", "virtio-net.0"], r);
                rule(target, format!("queue={queue},nth={nth},action=stick,time={time}ms"))
            }
            // What a drive does when it is asked again: the error is gone.
            Class::Error => {
                let op = pick(&["read", "write", "flush"], r);
                let how = pick(&["drop", "delay,time=100ms", "reorder", "duplicate"], r);
                rule(pick(&DISKS, r), format!("op={op},nth={},action={how}", 1 + nth % 4))
            }
            Class::Removal => ("ahci.0", Step::Removal { out_ms: 50 + draw(r) % 400 }),
            Class::Link => {
                let time = 50 + draw(r) % 600;
                ("net0", Step::Rule(format!("device=net0,action=link-down,time={time}ms")))
            }
            Class::Packet => {
                // Not `corrupt`: with checksum offload a frame has no checksum between device and back end,
                // so nobody could notice; a wire's errors end at the card.
                let how = pick(&["drop", "duplicate", "reorder", "delay"], r);
                let rest = format!("on=packet,probability=20%,seed={seed},count=40,action={how}");
                rule("virtio-net.0", rest)
            }
        };
        Self { seed, class, target, step, wait_ms }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
