//! Running `xinim-vmm` and looking at what came of it.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest that any one machine may run before the test fails, whatever its own time-out.
const LIMIT: Duration = Duration::from_secs(240);

/// The binary under test: `$XINIM_VMM`, else the one cargo built next to this test.
pub fn vmm() -> PathBuf {
    if let Some(path) = std::env::var_os("XINIM_VMM") {
        return path.into();
    }
    let mut path = std::env::current_exe().expect("own path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push("xinim-vmm");
    assert!(path.exists(), "{} is not built: cargo build -p xinim-vmm", path.display());
    path
}

/// Engines to test on. Without KVM that half is skipped, which is said and counted. `XINIM_ENGINE`
/// asks for one of them: for long campaigns, which say so themselves.
pub fn engines(test: &str) -> Vec<&'static str> {
    match std::env::var("XINIM_ENGINE").as_deref() {
        Ok("kvm") => return vec!["kvm"],
        Ok("qemu") => return vec!["qemu"],
        Ok(other) => panic!("XINIM_ENGINE is kvm or qemu, not {other}"),
        Err(_) => {}
    }
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() {
        return vec!["kvm", "qemu"];
    }
    skip(test, "/dev/kvm cannot be opened");
    vec!["qemu"]
}

pub use xinim_machine::testing::skip;

/// What a finished `xinim-vmm` left.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl Output {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails with everything it has to say unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            status,
            "status\n--- stdout ---\n{}\n--- stderr ---\n{}",
            self.out(),
            self.err()
        );
        self
    }
}

/// A run to be made.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Vec<u8>,
}

/// `xinim-vmm` with these arguments.
pub fn run(args: &[&str]) -> Run {
    let mut command = Command::new(vmm());
    command.args(args);
    Run { command, stdin: Vec::new() }
}

/// `xinim-vmm run --engine ENGINE --timeout 200s --exec COMMANDS` with more arguments; with the number of
/// CPUs that `XINIM_CPUS` says, if it says one.
pub fn exec(engine: &str, commands: &str, more: &[&str]) -> Run {
    let mut run = run(&["run", "--engine", engine, "--timeout", "200s", "--exec", commands]);
    run.command.args(more);
    if let Some(cpus) = std::env::var_os("XINIM_CPUS")
        && !more.contains(&"--cpus")
    {
        run.command.arg("--cpus").arg(cpus);
    }
    run
}

/// What the kernel says at each boot.
const BANNER: &str = "XINIM 0.";

/// A machine at a terminal, with more arguments: one of these lines is typed at the first prompt of each
/// boot. The last has to end it.
pub fn boots(engine: &str, more: &[&str], lines: &[&str]) -> Output {
    let args = [&["run", "--engine", engine, "--timeout", "200s"], more].concat();
    let start = Instant::now();
    let mut machine = run(&args).spawn();
    let mut keyboard = machine.stdin.take().expect("piped");
    let mut screen = machine.stdout.take().expect("piped");
    let report = collect(machine.stderr.take().expect("piped"));
    let mut text = Vec::new();
    for (boot, line) in lines.iter().enumerate() {
        let boots = |text: &[u8]| String::from_utf8_lossy(text).matches(BANNER).count();
        while !text.ends_with(b"# ") || boots(&text) <= boot {
            let mut byte = [0];
            if screen.read(&mut byte).expect("screen") == 0 {
                let (shown, report) = (text, report.join().expect("stderr reader"));
                let words = [shown, report].concat();
                panic!("{engine}: no prompt: {}", String::from_utf8_lossy(&words));
            }
            text.push(byte[0]);
        }
        keyboard.write_all(line.as_bytes()).expect("typed");
        keyboard.write_all(b"\n").expect("typed");
    }
    screen.read_to_end(&mut text).expect("screen");
    let status = wait(&mut machine, start).code().unwrap_or(-1);
    let stderr = report.join().expect("stderr reader");
    Output { status, stdout: text, stderr, took: start.elapsed() }
}

impl Run {
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it with pipes, for a test that talks with it.
    pub fn spawn(mut self) -> Child {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().expect("xinim-vmm starts")
    }

    /// Runs it to its end.
    pub fn output(self) -> Output {
        let (stdin, start) = (self.stdin.clone(), Instant::now());
        let mut child = self.spawn();
        let mut pipe = child.stdin.take().expect("piped");
        // A guest that does not read its input closes the pipe early; that is its right.
        let writer = thread::spawn(move || drop(pipe.write_all(&stdin)));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let status = wait(&mut child, start);
        let output = Output {
            status: status.code().unwrap_or(-1),
            stdout: stdout.join().expect("stdout reader"),
            stderr: stderr.join().expect("stderr reader"),
            took: start.elapsed(),
        };
        writer.join().expect("stdin writer");
        output
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("readable pipe");
        bytes
    })
}

fn wait(child: &mut Child, start: Instant) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().expect("child") {
            return status;
        }
        if start.elapsed() > LIMIT {
            child.kill().expect("kill");
            panic!("xinim-vmm did not end within {LIMIT:?}, nor by its own --timeout");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
