//! How and where a machine under QEMU died: from monitor events, QEMU's log, and registers asked
//! for while the dead machine still stands.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use serde_json::{Value, json};
use xinim_machine::trace::TraceSpec;
use xinim_machine::{Death, End, EngineError, MachineSpec};

use super::PATIENCE;
use super::process::Inherited;
use super::qmp::Qmp;

/// The part of the log's end that is searched; a triple fault is the last thing in it.
const LOG_TAIL: u64 = 64 * 1024;
const TRIPLE_FAULT: &str = "Triple fault";
/// A stopped run has to be over within 100 ms.
const STOP_PATIENCE: Duration = Duration::from_millis(40);

/// The file for QEMU's own events. It writes one, as text, with all of them or none.
fn only_trace(spec: &MachineSpec) -> Result<Option<&std::path::Path>, EngineError> {
    match &spec.traces[..] {
        [] => Ok(None),
        [trace] if *trace == TraceSpec::text(&trace.path) => Ok(Some(&trace.path)),
        _ => Err(EngineError::Machine(
            "QEMU writes its own events, as text: with --engine qemu there is one trace, \
             --trace FILE, without format, filter or off"
                .into(),
        )),
    }
}

/// QEMU's log file: in memory, or the trace's file.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Returns the log and its path for QEMU.
    pub fn open(
        spec: &MachineSpec,
        inherited: &mut Inherited,
    ) -> Result<(Self, String), EngineError> {
        let host = |source| EngineError::Host { context: "cannot make QEMU's log".into(), source };
        match only_trace(spec)? {
            Some(path) => {
                let file =
                    File::options().read(true).write(true).create(true).truncate(true).open(path);
                let file = file.map_err(|e| {
                    EngineError::Machine(format!("cannot write the trace {}: {e}", path.display()))
                })?;
                Ok((Log(file), path.to_string_lossy().into_owned()))
            }
            None => {
                let flags = rustix::fs::MemfdFlags::CLOEXEC;
                let memory =
                    rustix::fs::memfd_create("qemu-log", flags).map_err(|e| host(e.into()))?;
                let log = File::from(memory.try_clone().map_err(host)?);
                let number = inherited.add(memory);
                Ok((Log(log), format!("/proc/self/fd/{number}")))
            }
        }
    }

    fn tells_triple_fault(&self) -> bool {
        let mut file = &self.0;
        let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
        let mut tail = Vec::new();
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)));
        let _ = file.take(LOG_TAIL).read_to_end(&mut tail);
        String::from_utf8_lossy(&tail).contains(TRIPLE_FAULT)
    }
}

/// What a monitor event says about the machine's end, if anything.
pub fn end_of_event(qmp: &mut Qmp, log: &Log, name: &str, data: &Value) -> Option<End> {
    match (name, data["reason"].as_str()) {
        ("SHUTDOWN", Some("guest-reset")) if log.tells_triple_fault() => Some(End::Died(Death {
            reason: "triple fault".into(),
            report: registers(qmp, PATIENCE),
        })),
        ("SHUTDOWN", Some("guest-reset")) => Some(End::Reboot),
        ("SHUTDOWN", Some("guest-shutdown")) => Some(End::PowerOff),
        ("SHUTDOWN", reason) => Some(End::Died(Death {
            reason: format!("QEMU shut the machine down ({})", reason.unwrap_or("no reason given")),
            report: registers(qmp, PATIENCE),
        })),
        ("GUEST_PANICKED", _) => Some(End::Died(Death {
            reason: "guest kernel panic".into(),
            report: registers(qmp, PATIENCE),
        })),
        ("STOP", _) => {
            let status = qmp.execute("query-status", json!({}), PATIENCE)?;
            match status["status"].as_str()? {
                "internal-error" => Some(End::Died(Death {
                    reason: "KVM internal error".into(),
                    report: registers(qmp, PATIENCE),
                })),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Adds what QEMU said itself.
pub fn with_stderr(mut death: Death, stderr: &str) -> Death {
    if !stderr.is_empty() {
        death.report.push_str("QEMU says:\n");
        death.report.push_str(stderr);
        if !stderr.ends_with('\n') {
            death.report.push('\n');
        }
    }
    death
}

/// Registers of every CPU, and the bytes of the instruction of the first.
fn registers(qmp: &mut Qmp, patience: Duration) -> String {
    let Some(mut text) = qmp.human("info registers -a", patience) else {
        return "(QEMU does not tell the registers)\n".into();
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(ip) = instruction_pointer(&text)
        && let Some(bytes) = qmp.human(&format!("x /16xb {ip:#x}"), patience)
    {
        text.push_str("instruction bytes:\n");
        text.push_str(&bytes);
    }
    text
}

/// Where the CPUs of a running machine are, one line each: stopped for the look.
pub fn place(qmp: &mut Qmp) -> Option<String> {
    qmp.execute("stop", json!({}), STOP_PATIENCE)?;
    let text = qmp.human("info registers -a", STOP_PATIENCE)?;
    let mut lines = String::new();
    for (index, cpu) in text.split("CPU#").filter(|cpu| cpu.contains("IP=")).enumerate() {
        let ip = instruction_pointer(cpu)?;
        let ring = field(cpu, "CPL=").unwrap_or(0);
        lines.push_str(&format!("cpu {index}: rip={ip:#x} ring={ring}\n"));
    }
    Some(lines)
}

fn instruction_pointer(registers: &str) -> Option<u64> {
    field(registers, "RIP=").or_else(|| field(registers, "EIP="))
}

/// The hexadecimal number behind `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = &text[text.find(name)? + name.len()..];
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    u64::from_str_radix(&rest[..end], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\nCPU#0\nRAX=00 RBX=1\nRIP=ffffffff80001234 RFL=2 [---] CPL=0 II=0\n\
                        \nCPU#1\nEAX=00\nEIP=0000fff0 EFL=2 CPL=3 II=0\n";

    #[test]
    fn finds_the_instruction_pointer() {
        assert_eq!(instruction_pointer(DUMP), Some(0xffff_ffff_8000_1234));
        assert_eq!(instruction_pointer("EIP=0000fff0 EFL="), Some(0xfff0));
        assert_eq!(instruction_pointer("RIP="), None);
        assert_eq!(instruction_pointer("nothing"), None);
    }

    #[test]
    fn stderr_is_added_whole_lines() {
        let death = Death { reason: "r".into(), report: "a\n".into() };
        assert_eq!(with_stderr(death.clone(), "").report, "a\n");
        assert_eq!(with_stderr(death, "x").report, "a\nQEMU says:\nx\n");
    }
}
