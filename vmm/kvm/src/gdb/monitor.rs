//! `monitor` commands of the debugger.
//!
//! | command | what |
//! |---|---|
//! | `monitor help` | these |
//! | `monitor ps` | the guest's processes, with their page tables; `*` runs, `>` is picked |
//! | `monitor pick PID\|NAME` | memory and new breakpoints are of this process from now on |
//! | `monitor unpick` | ... of whatever the vCPU runs, again |
//! | `monitor running` | name of the process on the first vCPU |
//! | `monitor info` | where each vCPU is, control registers, breakpoints |

use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, outputln};

use super::target::Debugger;

const HELP: &str = "\
ps              the guest's processes: * runs, > is picked
pick PID|NAME   memory and new breakpoints are of this process from now on
unpick          ... of whatever the vCPU runs, again
running         name of the process that runs on the first vCPU
info            where each vCPU is, its control registers, the breakpoints";

impl MonitorCmd for Debugger<'_> {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), String> {
        let command = String::from_utf8_lossy(command).into_owned();
        let words: Vec<&str> = command.split_whitespace().collect();
        let text = match words[..] {
            [] | ["help"] => HELP.to_owned(),
            ["ps"] => self.processes(),
            ["pick", which] => self.pick(which),
            ["unpick"] => {
                self.picked = None;
                "memory is that of the running process".into()
            }
            ["running"] => self.running(0),
            ["info"] => self.info(),
            _ => format!("no such command; there are:\n{HELP}"),
        };
        outputln!(out, "{}", text);
        Ok(())
    }
}

impl Debugger<'_> {
    fn processes(&self) -> String {
        let (page, ram) = (&self.shared.page, &self.shared.ram);
        let running: Vec<u32> = self.held.iter().flat_map(|held| held.vcpus()).collect();
        let running: Vec<u32> = running
            .into_iter()
            .filter_map(|vcpu| page.process(ram, vcpu))
            .map(|process| process.pid)
            .collect();
        let mut lines = Vec::new();
        for (process, root) in page.processes(ram) {
            let mark = match (running.contains(&process.pid), self.picked) {
                (_, Some((pid, _))) if pid == process.pid => '>',
                (true, _) => '*',
                _ => ' ',
            };
            let root = if root == 0 { "unknown".into() } else { format!("{root:#x}") };
            lines.push(format!("{mark} {:5} {:<28} tables {root}", process.pid, process.name()));
        }
        if lines.is_empty() {
            return "the guest has named no processes yet (only XINIM's kernel does)".into();
        }
        lines.join("\n")
    }

    fn pick(&mut self, which: &str) -> String {
        let all = self.shared.page.processes(&self.shared.ram);
        let wanted = |process: &xinim_devices::device::Process| match which.parse::<u32>() {
            Ok(pid) => process.pid == pid,
            Err(_) => process.name() == which,
        };
        match all.iter().find(|(process, _)| wanted(process)) {
            None => format!("there is no process {which}; see monitor ps"),
            Some((_, 0)) => format!("the guest does not say where the page tables of {which} are"),
            Some((process, root)) => {
                self.picked = Some((process.pid, *root));
                format!("memory is that of process {} ({})", process.pid, process.name())
            }
        }
    }

    fn running(&self, vcpu: u32) -> String {
        match self.shared.page.process(&self.shared.ram, vcpu) {
            Some(process) => process.name().to_string(),
            None => String::new(),
        }
    }

    /// Ring, process and function of a vCPU.
    pub fn whereabouts(&self, vcpu: u32) -> String {
        let Some(cpu) = self.cpu(vcpu) else { return "gone".into() };
        let (rip, ring) = (cpu.general.rip, cpu.special.ss.dpl);
        let process = self.shared.page.process(&self.shared.ram, vcpu);
        let name = process.map(|process| process.name().to_string());
        let symbols = self.shared.images.at(rip, name.as_deref());
        let place = symbols.name(rip).unwrap_or_else(|| format!("{rip:#x}"));
        match process {
            Some(process) => {
                format!("ring {ring}, process {} ({}), {place}", process.pid, process.name())
            }
            None => format!("ring {ring}, {place}"),
        }
    }

    fn info(&self) -> String {
        let mut lines = Vec::new();
        for vcpu in self.held.iter().flat_map(|held| held.vcpus()) {
            lines.push(format!("vCPU {vcpu} (thread {}): {}", vcpu + 1, self.whereabouts(vcpu)));
            if let Some(cpu) = self.cpu(vcpu) {
                let s = &cpu.special;
                lines.push(format!(
                    "  cr0 {:x}  cr2 {:x}  cr3 {:x}  cr4 {:x}  efer {:x}  fs {:x}  gs {:x}",
                    s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.fs.base, s.gs.base
                ));
            }
        }
        if !self.shared.user_breaks {
            lines.push(
                "this host's KVM has no breakpoints in ring 3 (see docs/debugging.md)".into(),
            );
        }
        lines.push(format!("breakpoints in place: {}", self.breaks));
        lines.join("\n")
    }
}
