//! Processes in the background.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_os::{Error, Os, STDERR};

use crate::shell::Shell;

/// Jobs whose end nobody asked for; older finished ones are forgotten.
const FINISHED_MAX: usize = 256;

pub struct Job {
    pub number: u32,
    /// Of the last command: what `wait` answers for.
    pub pid: u32,
    /// All members of the pipeline that still run.
    pub running: Vec<u32>,
    pub status: u32,
    pub text: String,
}

#[derive(Default)]
pub struct Jobs(Vec<Job>);

impl Jobs {
    pub fn add(&mut self, pids: Vec<u32>, text: String) -> Option<&Job> {
        let number = self.0.iter().map(|job| job.number).max().unwrap_or(0) + 1;
        let pid = *pids.last()?;
        if self.0.len() >= FINISHED_MAX {
            self.0.retain(|job| !job.running.is_empty());
        }
        self.0.push(Job { number, pid, running: pids, status: 0, text });
        self.0.last()
    }

    /// By process id, or as `%number`.
    fn find(&self, what: &str) -> Option<usize> {
        match what.strip_prefix('%') {
            Some(number) => {
                let number: u32 = number.parse().ok()?;
                self.0.iter().position(|job| job.number == number)
            }
            None => {
                let pid: u32 = what.parse().ok()?;
                self.0.iter().position(|job| job.pid == pid)
            }
        }
    }

    /// The process id behind `%number`.
    pub fn pid(&self, what: &str) -> Option<u32> {
        self.find(what).map(|at| self.0[at].pid)
    }

    /// Takes note of what has ended, without waiting; `wait` true: until `job` has.
    fn collect(job: &mut Job, os: &dyn Os, wait: bool) {
        while let Some(&pid) = job.running.last() {
            match os.wait(pid, !wait) {
                Err(Error::Again) => break,
                Ok(ended) if ended.pid == job.pid => job.status = ended.status,
                // Somebody else's news, or none to be had: it does not run any more.
                Ok(_) | Err(_) => {}
            }
            job.running.pop();
        }
    }

    /// Waits for one job and forgets it: its status, or `None` if there is none.
    pub fn wait_for(&mut self, os: &dyn Os, what: &str) -> Option<u32> {
        let mut job = self.0.remove(self.find(what)?);
        Self::collect(&mut job, os, true);
        Some(job.status)
    }

    pub fn wait_for_all(&mut self, os: &dyn Os) {
        for mut job in self.0.drain(..) {
            Self::collect(&mut job, os, true);
        }
    }

    /// A line for each job, and finished ones forgotten.
    pub fn report(&mut self, os: &dyn Os, finished_only: bool) -> String {
        let mut text = String::new();
        self.0.retain_mut(|job| {
            Self::collect(job, os, false);
            let done = job.running.is_empty();
            if done || !finished_only {
                let state = match (done, job.status) {
                    (false, _) => String::from("Running"),
                    (true, 0) => String::from("Done"),
                    (true, status) => format!("Exit {status}"),
                };
                text += &format!("[{}] {state:<10} {}\n", job.number, job.text);
            }
            !done
        });
        text
    }
}

impl Shell<'_> {
    /// Tells the person at the terminal which jobs have ended.
    pub(crate) fn report_jobs(&mut self) {
        let text = self.jobs.report(self.os, true);
        let _ = self.files.write(STDERR, text.as_bytes());
    }
}
