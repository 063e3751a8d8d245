//! The machine configuration: a TOML file with the same keys as the options, and the merge of
//! both. options win; a disk, network device or fault rule given as an option replaces the file's
//! whole list.
//!
//! ```toml
//! memory = "256M"
//! cpus = 1
//! timeout = "30s"
//! net = ["user,publish=8080:80"]
//! fault = ["device=virtio-blk.0,op=read,probability=1%,action=error"]
//! disk = ["root.img", "data.img,ro", { path = "scratch.img", cache = "unsafe", iops = 500 }]
//! cpuid = "-cx16"
//! ```
//!
//! Relative paths in the file count from the file's own directory, so that a machine can be
//! started from anywhere. Errors name the file, the line and the key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor, value};
use xinim_machine::net::NetSpec;
use xinim_machine::trace::TraceSpec;
use xinim_machine::{DiskBus, DiskSource, DiskSpec, GdbAddress, GdbSpec};

use crate::cli::RunArgs;
use crate::disk_spec::Builder;
use crate::error::Error;
use crate::net_spec::{NETS_MAX, Net, PublishedPort};
use crate::spec::{
    ConsoleSpec, Cpuid, Cpus, Disk, EngineChoice, FaultRule, Gdb, Memory, QemuOptions, Strict,
    Timeout, ValueError,
};
use crate::trace_spec::{TRACES_MAX, TraceOption};

/// A configuration file is written by hand; more than this is some other file.
const FILE_MAX: u64 = 1 << 20;
const MEMORY_DEFAULT: Memory = Memory(128 << 20);

/// Everything a run needs, with defaults filled in.
#[derive(Clone, Debug)]
pub struct RunConfig {
    pub engine: EngineChoice,
    pub memory: Memory,
    pub cpus: Cpus,
    pub kernel: Option<PathBuf>,
    pub bundle: Option<PathBuf>,
    pub cmdline: String,
    pub disks: Vec<DiskSpec>,
    pub control: Option<PathBuf>,
    pub iommu: bool,
    pub nets: Vec<NetSpec>,
    pub console: ConsoleSpec,
    pub timeout: Option<Timeout>,
    pub traces: Vec<TraceSpec>,
    pub record: Option<PathBuf>,
    pub strict: Option<Strict>,
    /// As written.
    pub faults: Vec<String>,
    pub gdb: Option<GdbSpec>,
    pub dump: Option<PathBuf>,
    pub sandbox: bool,
    pub allow: Vec<PathBuf>,
    pub exec: Option<String>,
    pub cpuid: Cpuid,
    pub dry_run: bool,
    pub verbose: u8,
    pub qemu: QemuOptions,
    pub stats: Option<PathBuf>,
}

/// A configuration file as written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    engine: Option<Text<EngineChoice>>,
    memory: Option<Text<Memory>>,
    cpus: Option<Text<Cpus>>,
    kernel: Option<PathBuf>,
    bundle: Option<PathBuf>,
    cmdline: Option<String>,
    disk: Vec<DiskEntry>,
    cdrom: Vec<PathBuf>,
    control: Option<PathBuf>,
    iommu: Option<bool>,
    net: Vec<Text<Net>>,
    console: Option<Text<ConsoleSpec>>,
    timeout: Option<Text<Timeout>>,
    #[serde(deserialize_with = "one_or_more")]
    trace: Vec<Text<TraceOption>>,
    record: Option<PathBuf>,
    strict: Option<Text<Strict>>,
    fault: Vec<Text<FaultRule>>,
    gdb: Option<Text<Gdb>>,
    dump: Option<PathBuf>,
    sandbox: Option<bool>,
    allow: Vec<PathBuf>,
    exec: Option<String>,
    cpuid: Option<Text<Cpuid>>,
    verbose: Option<u8>,
}

/// One text, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Text<TraceOption>>, D::Error> {
    struct Several;
    impl<'de> Visitor<'de> for Several {
        type Value = Vec<Text<TraceOption>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text as the option of this name takes it, or a list of them")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![Text::deserialize(value::StrDeserializer::new(text))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }
    from.deserialize_any(Several)
}

/// Merges the options with the file they name, if any.
pub fn resolve(args: RunArgs) -> Result<RunConfig, Error> {
    let file = match &args.config {
        Some(path) => load(path, args.config_in_test)?,
        None => File::default(),
    };
    let exec = args.exec.or(file.exec);
    // A command's output must not be mixed with anything: its console goes nowhere.
    let console_default = if exec.is_some() { ConsoleSpec::None } else { ConsoleSpec::Stdio };
    let mut disks: Vec<DiskSpec> = if args.disk.is_empty() {
        file.disk.into_iter().map(|entry| entry.0).collect()
    } else {
        args.disk.into_iter().map(|disk| disk.0).collect()
    };
    let discs = if args.cdrom.is_empty() { file.cdrom } else { args.cdrom };
    disks.extend(discs.into_iter().map(DiskSpec::disc));
    let nets: Vec<Net> = if args.net.is_empty() {
        file.net.into_iter().map(|text| text.0).collect()
    } else {
        args.net
    };
    let nets = with_ports(nets, args.publish)?;
    let nets = nets.into_iter().enumerate().map(|(index, net)| net.finish(index)).collect();
    let traces: Vec<TraceOption> = if args.trace.is_empty() {
        file.trace.into_iter().map(|text| text.0).collect()
    } else {
        args.trace
    };
    let traces = traces.into_iter().map(|trace| trace.0).collect();
    let faults: Vec<FaultRule> = if args.fault.is_empty() {
        file.fault.into_iter().map(|text| text.0).collect()
    } else {
        args.fault
    };
    let config = RunConfig {
        engine: pick(args.engine, file.engine).unwrap_or_default(),
        memory: pick(args.memory, file.memory).unwrap_or(MEMORY_DEFAULT),
        cpus: pick(args.cpus, file.cpus).unwrap_or(Cpus(1)),
        kernel: args.kernel.or(file.kernel),
        bundle: args.bundle.or(file.bundle),
        cmdline: args.cmdline.or(file.cmdline).unwrap_or_default(),
        disks,
        control: args.control.or(file.control),
        iommu: args.iommu || file.iommu.unwrap_or(false),
        nets,
        console: pick(args.console, file.console).unwrap_or(console_default),
        timeout: pick(args.timeout, file.timeout),
        traces,
        record: args.record.or(file.record),
        strict: pick(args.strict, file.strict),
        faults: faults.into_iter().map(|rule| rule.0).collect(),
        gdb: pick(args.gdb, file.gdb).map(|gdb| gdb.0),
        dump: args.dump.or(file.dump),
        sandbox: !args.no_sandbox && file.sandbox.unwrap_or(true),
        allow: if args.allow.is_empty() { file.allow } else { args.allow },
        exec,
        cpuid: pick(args.cpuid, file.cpuid).unwrap_or_default(),
        dry_run: args.dry_run,
        verbose: if args.verbose > 0 { args.verbose } else { file.verbose.unwrap_or(0) },
        qemu: QemuOptions {
            accel: args.qemu_accel.unwrap_or_default(),
            icount: args.qemu_icount,
            own_net: args.qemu_own_net,
        },
        stats: args.stats,
    };
    check(config)
}

/// Ports of `--publish` go to the first user network; without any network they ask for one.
fn with_ports(mut nets: Vec<Net>, ports: Vec<PublishedPort>) -> Result<Vec<Net>, Error> {
    if ports.is_empty() {
        return Ok(nets);
    }
    if nets.is_empty() {
        nets.push(Net::user());
    }
    let Some(net) = nets.iter_mut().find(|net| net.is_user()) else {
        return Err(Error::Usage("--publish needs a network of the kind user".into()));
    };
    for port in ports {
        net.publish(port).map_err(|error| Error::Usage(format!("--publish: {error}")))?;
    }
    Ok(nets)
}

fn pick<T>(option: Option<T>, file: Option<Text<T>>) -> Option<T> {
    option.or(file.map(|text| text.0))
}

/// What no single value can say about itself.
fn check(config: RunConfig) -> Result<RunConfig, Error> {
    let usage = |why: &str| Err(Error::Usage(why.to_owned()));
    if config.disks.len() > crate::spec::DISKS_MAX {
        return Err(Error::Usage(format!("more than {} disks", crate::spec::DISKS_MAX)));
    }
    let ports = config.disks.iter().filter(|disk| disk.bus == DiskBus::Ahci).count();
    if ports > crate::spec::AHCI_MAX {
        return Err(Error::Usage(format!(
            "more than {} disks and CD-ROMs on ahci",
            crate::spec::AHCI_MAX
        )));
    }
    if config.nets.len() > NETS_MAX {
        return Err(Error::Usage(format!("more than {NETS_MAX} network devices")));
    }
    if config.traces.len() > TRACES_MAX {
        return Err(Error::Usage(format!("more than {TRACES_MAX} traces")));
    }
    for (index, trace) in config.traces.iter().enumerate() {
        if config.traces[..index].iter().any(|other| other.path == trace.path) {
            let path = trace.path.display();
            return Err(Error::Usage(format!("two traces would be written to {path}")));
        }
    }
    if config.dry_run && config.engine != EngineChoice::Qemu {
        return usage("--dry-run prints a QEMU command line and needs --engine qemu");
    }
    if config.engine == EngineChoice::Qemu && !config.faults.is_empty() {
        return usage(xinim_machine::control::NO_FAULTS);
    }
    if config.cmdline.bytes().any(|b| b == 0) {
        return usage("the kernel command line contains a zero byte");
    }
    if config.exec.as_ref().is_some_and(|c| c.len() > xinim_abi::hostlink::MAX_PAYLOAD) {
        return usage("the commands of --exec are longer than 64 KiB; put them into a script");
    }
    if config.exec.is_some() && config.console == ConsoleSpec::Stdio {
        return usage(
            "--exec and --console stdio would mix two streams; use --console file:PATH or unix:PATH",
        );
    }
    Ok(config)
}

/// A boot test, of which the machine is a part (see `boot_test`).
#[derive(serde::Deserialize)]
struct TestFile {
    #[serde(default)]
    machine: File,
}

fn load(path: &Path, in_test: bool) -> Result<File, Error> {
    let failed = |source| Error::file("read", path, source);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.len() > FILE_MAX {
        return Err(Error::Config {
            file: path.to_owned(),
            line: 1,
            why: "is larger than 1 MiB and hardly a configuration".into(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mut file = match in_test {
        true => toml::from_str::<TestFile>(&text)
            .map(|test| test.machine)
            .map_err(|error| describe_toml_error(&text, path, &error))?,
        false => parse(&text, path)?,
    };
    let base = path.parent().unwrap_or(Path::new(""));
    let paths = [&mut file.kernel, &mut file.bundle, &mut file.record, &mut file.control];
    let paths = paths.into_iter().chain([&mut file.dump]).flatten();
    for path in paths.chain(&mut file.cdrom).chain(&mut file.allow) {
        *path = base.join(&*path);
    }
    for disk in &mut file.disk {
        if let DiskSource::File(path) = &mut disk.0.source {
            *path = base.join(&*path);
        }
    }
    for trace in &mut file.trace {
        trace.0.0.path = base.join(&trace.0.0.path);
    }
    for path in file.net.iter_mut().flat_map(|net| net.0.paths()) {
        *path = base.join(&*path);
    }
    if let Some(Text(Gdb(GdbSpec { address: GdbAddress::Unix(path), .. }))) = &mut file.gdb {
        *path = base.join(&*path);
    }
    if let Some(Text(ConsoleSpec::File(path) | ConsoleSpec::Unix(path))) = &mut file.console {
        *path = base.join(&*path);
    }
    Ok(file)
}

fn parse(text: &str, path: &Path) -> Result<File, Error> {
    toml::from_str(text).map_err(|error| describe_toml_error(text, path, &error))
}

/// The sentence for a file that is not as it must be, with line and key.
pub fn describe_toml_error(text: &str, path: &Path, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
    let message = error.message().replace('\n', " ");
    // The key of the line in question; a message about an unknown key names it already.
    let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key);
    let why = match key.map(str::trim) {
        Some(key) if !message.contains("unknown field") && is_key(key) => {
            format!("{key}: {message}")
        }
        _ => message.replace("unknown field", "unknown key"),
    };
    Error::Config { file: path.to_owned(), line: line + 1, why }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A value written as its option's text; whole numbers may go without quotes.
#[derive(Clone, Copy, Debug)]
pub struct Text<T>(pub T);

impl<'de, T: FromStr<Err = ValueError>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(std::marker::PhantomData<T>);
        impl<T: FromStr<Err = ValueError>> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text as the option of this name takes it")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
                text.parse().map(Text).map_err(|why| E::custom(format!("`{text}` {why}")))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Text<T>, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(TextVisitor(std::marker::PhantomData))
    }
}

/// A disk: the option's text, or a table of its parts.
#[derive(Debug)]
struct DiskEntry(DiskSpec);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DiskTable {
    path: Option<String>,
    new: Option<Word>,
    #[serde(default)]
    ro: bool,
    #[serde(default)]
    snapshot: bool,
    bus: Option<Word>,
    format: Option<Word>,
    cache: Option<Word>,
    bps: Option<Word>,
    bps_burst: Option<Word>,
    iops: Option<Word>,
    iops_burst: Option<Word>,
    serial: Option<Word>,
    io: Option<Word>,
}

impl DiskTable {
    fn build(self) -> Result<DiskSpec, ValueError> {
        let source = match (self.path, self.new) {
            (Some(path), None) if path.starts_with("new:") => format!("./{path}"),
            (Some(path), None) => path,
            (None, Some(size)) => format!("new:{}", size.0),
            _ => return crate::spec::bad("a disk has either a path or new"),
        };
        let mut builder = Builder::new(&source)?;
        builder.flag("ro", self.ro)?;
        builder.flag("snapshot", self.snapshot)?;
        for (key, value) in [
            ("bus", self.bus),
            ("format", self.format),
            ("cache", self.cache),
            ("bps", self.bps),
            ("bps-burst", self.bps_burst),
            ("iops", self.iops),
            ("iops-burst", self.iops_burst),
            ("serial", self.serial),
            ("io", self.io),
        ] {
            if let Some(Word(value)) = value {
                builder.set(key, &value)?;
            }
        }
        builder.build()
    }
}

/// A text, or a whole number that may go without quotes.
#[derive(Debug)]
struct Word(String);

impl FromStr for Word {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::<Word>::deserialize(deserializer).map(|text| text.0)
    }
}

impl<'de> Deserialize<'de> for DiskEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DiskVisitor;
        impl<'de> Visitor<'de> for DiskVisitor {
            type Value = DiskEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"PATH[,option...]\" or { path = …, ro = …, bus = …, … }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DiskEntry, E> {
                let disk = text.parse::<Disk>();
                disk.map(|disk| DiskEntry(disk.0))
                    .map_err(|why| E::custom(format!("`{text}` {why}")))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DiskEntry, A::Error> {
                let table = DiskTable::deserialize(value::MapAccessDeserializer::new(map))?;
                table.build().map(DiskEntry).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(DiskVisitor)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
