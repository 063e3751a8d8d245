//! What `--disk` can ask for, as the guest and the host see it; and `xinim-vmm ctl` on a machine
//! that runs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{Output, engines, exec, run, skip};

const PATIENCE: Duration = Duration::from_secs(100);

#[test]
fn a_snapshot_takes_writes_and_the_file_stays() {
    let dir = tempdir().expect("directory");
    let image = dir.path().join("disk.img");
    fat_image(&image, 8 << 20, 12);
    let before = fs::read(&image).expect("image");
    for engine in engines("a_snapshot_takes_writes_and_the_file_stays") {
        let disk = format!("{},snapshot", arg(&image));
        let script = "mount /dev/vda /mnt && echo kept > /mnt/f && sync && umount /mnt &&
            mount /dev/vda /mnt && cat /mnt/f";
        let output = exec(engine, script, &["--disk", &disk]).output().expect(0);
        assert_eq!(output.out(), "kept\n", "{engine}");
        assert!(fs::read(&image).expect("image") == before, "{engine}: the file was written");
    }
}

#[test]
fn blank_and_read_only_disks() {
    let dir = tempdir().expect("directory");
    let image = dir.path().join("disk.img");
    let content = noise(5, 1 << 20);
    fs::write(&image, &content).expect("image");
    for engine in engines("blank_and_read_only_disks") {
        let read_only = format!("{},ro", arg(&image));
        let script = "cat /dev/vdb; cat /dev/vda";
        let disks = ["--disk", "new:1M", "--disk", &read_only];
        let output = exec(engine, script, &disks).output().expect(0);
        assert!(output.stdout[..1 << 20] == content, "{engine}: the file's bytes");
        assert!(output.stdout[1 << 20..] == vec![0; 1 << 20], "{engine}: a blank disk is zeros");
    }
}

#[test]
fn each_way_of_caching_and_serving_keeps_the_data() {
    let dir = tempdir().expect("directory");
    let image = dir.path().join("disk.img");
    for engine in engines("each_way_of_caching_and_serving_keeps_the_data") {
        let limits = "bps=8M,iops=500,iops-burst=20";
        let mut ways = vec!["cache=writethrough", "cache=none", "cache=unsafe", limits];
        if engine == "kvm" {
            ways.extend(["io=threads", "io=uring"]);
        }
        for way in ways {
            fat_image(&image, 8 << 20, 12);
            let disk = format!("{},{way}", arg(&image));
            let script = "mount /dev/vda /mnt && cat > /mnt/f && sync && umount /mnt";
            let data = noise(9, 300_000);
            exec(engine, script, &["--disk", &disk]).stdin(&*data).output().expect(0);
            fsck_fat(&image);
            let back = dir.path().join("back");
            tool("mcopy", &["-n", "-i", arg(&image), "::/f", arg(&back)]);
            assert!(fs::read(&back).expect("file") == data, "{engine} {way}");
        }
    }
}

#[test]
fn qcow2_images_with_backing_files() {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        skip("qcow2_images_with_backing_files", "qemu-img is not installed");
        return;
    }
    let dir = tempdir().expect("directory");
    let (base, top) = (dir.path().join("base.img"), dir.path().join("top.qcow2"));
    for engine in engines("qcow2_images_with_backing_files") {
        fat_image(&base, 8 << 20, 12);
        let file = dir.path().join("from-host");
        fs::write(&file, "from the host\n").expect("file");
        tool("mcopy", &["-n", "-i", arg(&base), arg(&file), "::/a"]);
        let before = fs::read(&base).expect("base");
        let backing = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.img", arg(&top)];
        tool("qemu-img", &backing);
        let script = "mount /dev/vda /mnt && cat /mnt/a && echo here > /mnt/b && umount /mnt";
        let output = exec(engine, script, &["--disk", arg(&top)]).output().expect(0);
        assert_eq!(output.out(), "from the host\n", "{engine}");
        assert!(fs::read(&base).expect("base") == before, "{engine}: the backing file was written");
        tool("qemu-img", &["check", "-q", arg(&top)]);
        let flat = dir.path().join("flat.img");
        tool("qemu-img", &["convert", "-O", "raw", arg(&top), arg(&flat)]);
        fsck_fat(&flat);
        let back = dir.path().join("back");
        tool("mcopy", &["-n", "-i", arg(&flat), "::/b", arg(&back)]);
        assert_eq!(fs::read_to_string(&back).expect("file"), "here\n", "{engine}");
    }
}

/// A machine whose shell is talked to, with a control socket.
struct Talk {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    socket: String,
}

impl Talk {
    fn start(engine: &str, dir: &Path, more: &[&str]) -> Self {
        let socket = arg(&dir.join("control")).to_owned();
        let mut args = vec!["--control", &socket];
        args.extend(more);
        let mut child =
            exec(engine, "echo ready; while read line; do eval \"$line\"; done", &args).spawn();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("output");
        assert_eq!(line, "ready\n");
        Self { child, lines, socket }
    }

    /// The lines that a command (itself one line) prints.
    fn shell(&mut self, command: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}; echo end-of-answer").expect("the shell listens");
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).expect("output"), 0, "ended: {text}");
            if line == "end-of-answer\n" {
                return text;
            }
            text.push_str(&line);
        }
    }

    fn wait_for(&mut self, condition: &str) {
        let start = Instant::now();
        while self.shell(&format!("if {condition}; then echo yes; fi")) != "yes\n" {
            assert!(start.elapsed() < PATIENCE, "never: {condition}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn ctl(&self, args: &[&str]) -> Output {
        let all: Vec<&str> = ["ctl", &self.socket].iter().chain(args).copied().collect();
        run(&all).output()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("output");
        let status = self.child.wait().expect("child");
        assert!(status.success(), "{status}: {rest}");
        assert!(!Path::new(&self.socket).exists(), "the socket is gone with the machine");
    }
}

#[test]
fn disks_come_and_go_while_the_machine_runs() {
    if !engines("disks_come_and_go_while_the_machine_runs").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let (first, second) = (dir.path().join("first.img"), dir.path().join("second.img"));
    fat_image(&first, 4 << 20, 12);
    fat_image(&second, 8 << 20, 12);
    let mut machine = Talk::start("kvm", dir.path(), &["--disk", arg(&first)]);
    assert_eq!(machine.ctl(&["attach", arg(&second)]).expect(0).out(), "disk1\n");
    machine.wait_for("[ -b /dev/sda ]");
    let said =
        machine.shell("mount /dev/sda /mnt && echo hot > /mnt/f && umount /mnt && echo well");
    assert_eq!(said, "well\n");
    let info = machine.ctl(&["info"]).expect(0).out();
    assert!(info.contains("disk1 ahci:0 8388608 bytes raw"), "{info}");
    machine.ctl(&["detach", "disk1"]).expect(0);
    machine.wait_for("! [ -b /dev/sda ]");
    // Every way to ask says the same, and what was remembered of the name is forgotten.
    let gone = machine.shell(
        "ls /dev | grep -c sda; stat /dev/sda 2> /dev/null || echo none; [ -e /dev/sda ] || echo none",
    );
    assert_eq!(gone, "0\nnone\nnone\n");
    // The host has it back, whole.
    fsck_fat(&second);
    tool("mtype", &["-i", arg(&second), "::/f"]);
    // And again, at another port: names go by ports.
    machine.ctl(&["attach", arg(&second), "--port", "3"]).expect(0);
    machine.wait_for("[ -b /dev/sdd ]");
    let said = machine.shell("[ -e /dev/sda ] || mount /dev/sdd /mnt && cat /mnt/f && umount /mnt");
    assert_eq!(said, "hot\n");
    // What is removed while it is mounted is an error for its files, and can be unmounted.
    machine.shell("mount /dev/sdd /mnt; exec 8< /mnt/f");
    let info = machine.ctl(&["info"]).expect(0).out();
    assert!(info.contains("disk1 ahci:3"), "{info}");
    machine.ctl(&["detach", "disk1"]).expect(0);
    machine.wait_for("! [ -b /dev/sdd ]");
    let said = machine.shell(
        "echo x > /mnt/new; sync 2> /dev/null || echo lost; exec 8<&-; umount -l /mnt; ls /mnt",
    );
    assert_eq!(said, "lost\n");
    machine.ctl(&["attach", arg(&second), "--port", "3"]).expect(0);
    machine.wait_for("[ -b /dev/sdd ]");
    assert_eq!(machine.shell("mount /dev/sdd /mnt && cat /mnt/f && umount /mnt"), "hot\n");

    for (args, why) in [
        (&["attach", arg(&second)][..], "in use"),
        (&["attach", "nothing.img"], "does not exist"),
        (&["attach", "new:1M", "--port", "3"], "there is a disk at port 3"),
        (&["attach", "new:1M", "--port", "77"], "ports 0 to 5"),
        (&["detach", "disk0"], "AHCI"),
        (&["detach", "disk9"], "there is no disk9"),
        (&["eject", "disk1"], "no medium"),
        (&["resize", "disk0", "1000"], "512"),
    ] {
        let output = machine.ctl(args);
        assert_eq!(output.status, 125, "{args:?}");
        assert!(output.err().contains(why), "{args:?}: {}", output.err());
    }
    machine.end();
}

#[test]
fn a_disk_grows_under_the_guest() {
    for engine in engines("a_disk_grows_under_the_guest") {
        let dir = tempdir().expect("directory");
        let image = dir.path().join("disk.img");
        fs::write(&image, vec![7; 1 << 20]).expect("image");
        let mut machine = Talk::start(engine, dir.path(), &["--disk", arg(&image)]);
        machine.ctl(&["resize", "disk0", "2M"]).expect(0);
        machine.wait_for("stat /dev/vda | grep -q 'Size: 2097152'");
        assert_eq!(fs::metadata(&image).expect("image").len(), 2 << 20, "{engine}");
        let info = machine.ctl(&["info"]).expect(0).out();
        assert!(info.contains("disk0 virtio 2097152 bytes"), "{engine}: {info}");
        machine.end();
    }
}

#[test]
fn quit_ends_a_machine() {
    for engine in engines("quit_ends_a_machine") {
        let dir = tempdir().expect("directory");
        let mut machine = Talk::start(engine, dir.path(), &[]);
        machine.ctl(&["quit"]).expect(0);
        let status = machine.child.wait().expect("child");
        assert_eq!(status.code(), Some(0), "{engine}");
    }
}
