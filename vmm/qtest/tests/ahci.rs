//! The server as a program, under a test that speaks the protocol from the other side: the way
//! QEMU's own device tests do, and the sequences of its ahci-test.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

const ABAR: u64 = 0xE000_0000;
const PORT: u64 = ABAR + 0x100;
const CLB: u64 = 0x10_0000;
const FB: u64 = 0x10_1000;
const TABLE: u64 = 0x10_2000;
const DATA: u64 = 0x20_0000;

struct Peer {
    child: Child,
    qtest: BufReader<UnixStream>,
    qmp: BufReader<UnixStream>,
    _dir: tempfile::TempDir,
}

impl Peer {
    fn start(own: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (qtest, qmp) = (dir.path().join("qtest"), dir.path().join("qmp"));
        let listen = |path: &Path| UnixListener::bind(path).unwrap();
        let (listeners, accept) = ((listen(&qtest), listen(&qmp)), |l: UnixListener| {
            BufReader::new(l.accept().unwrap().0)
        });
        let child = Command::new(env!("CARGO_BIN_EXE_xinim-qtest"))
            .args(["-qtest", &format!("unix:{}", qtest.display()), "-qtest-log", "/dev/null"])
            .args(["-chardev", &format!("socket,path={},id=char0", qmp.display())])
            .args(["-mon", "chardev=char0,mode=control", "-display", "none", "-audio", "none"])
            .args(own)
            .args(["-accel", "qtest"])
            .spawn()
            .unwrap();
        let mut peer =
            Self { child, qtest: accept(listeners.0), qmp: accept(listeners.1), _dir: dir };
        assert!(peer.heard()["QMP"].is_object(), "greeting");
        peer.tell(r#"{"execute":"qmp_capabilities"}"#);
        assert!(peer.heard()["return"].is_object());
        peer
    }

    fn ask(&mut self, line: &str) -> String {
        self.qtest.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.qtest.read_line(&mut answer).unwrap();
        let answer = answer.trim_end();
        assert!(answer.starts_with("OK"), "{line}: {answer}");
        answer.strip_prefix("OK ").unwrap_or_default().to_owned()
    }

    fn tell(&mut self, line: &str) {
        // In one piece: `quit` is obeyed at its last brace, before the end of its line.
        self.qmp.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn heard(&mut self) -> Value {
        let mut line = String::new();
        self.qmp.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn event(&mut self, name: &str) -> Value {
        loop {
            let heard = self.heard();
            if heard["event"] == name {
                return heard;
            }
        }
    }

    fn read(&mut self, address: u64) -> u32 {
        let answer = self.ask(&format!("readl {address:#x}"));
        u32::from_str_radix(answer.trim_start_matches("0x"), 16).unwrap()
    }

    fn write(&mut self, address: u64, value: u32) {
        self.ask(&format!("writel {address:#x} {value:#x}"));
    }

    fn config(&mut self, offset: u32, value: u32) {
        self.ask(&format!("outl 0xcf8 {:#x}", 0x8000_FA00 | offset));
        self.ask(&format!("outl 0xcfc {value:#x}"));
    }

    /// BAR, bus mastering, memory areas, everything on.
    fn enable(&mut self) {
        self.ask("outl 0xcf8 0x8000fa00");
        assert_eq!(self.ask("inl 0xcfc"), "0x29228086");
        self.config(0x24, ABAR as u32);
        self.config(0x04, 7);
        self.write(PORT, CLB as u32);
        self.write(PORT + 0x08, FB as u32);
        self.write(PORT + 0x18, 0x10);
        self.write(PORT + 0x30, u32::MAX);
        self.write(PORT + 0x10, u32::MAX);
        assert_eq!(self.read(PORT + 0x28) & 15, 3, "a drive");
        self.write(PORT + 0x18, 0x11);
    }

    /// A command in slot 0 with one region of so many bytes at [`DATA`]; packets for ATAPI.
    fn issue(&mut self, fis: &[u8], bytes: u32, flags: u32, packet: &[u8]) {
        let hex = |data: &[u8]| data.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.ask(&format!("write {TABLE:#x} {} 0x{}", fis.len(), hex(fis)));
        if !packet.is_empty() {
            self.ask(&format!("write {:#x} 16 0x{}", TABLE + 0x40, hex(packet)));
        }
        self.write(TABLE + 0x80, DATA as u32);
        self.write(TABLE + 0x8C, bytes.wrapping_sub(1) & 0x3F_FFFF);
        self.write(CLB, flags | 5 | u32::from(bytes > 0) << 16);
        self.write(CLB + 8, TABLE as u32);
        self.write(PORT + 0x38, 1);
    }

    fn quit(mut self) {
        self.tell(r#"{"execute":"quit"}"#);
        assert!(self.child.wait().unwrap().success());
    }
}

fn fis(command: u8, count: u8) -> [u8; 20] {
    let mut fis = [0; 20];
    (fis[0], fis[1], fis[2], fis[7], fis[12]) = (0x27, 0x80, command, 0x40, count);
    fis
}

fn image(dir: &Path, size: usize) -> String {
    let path = dir.join("image");
    std::fs::write(&path, (0..size).map(|i| (i / 512) as u8).collect::<Vec<_>>()).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn identify_and_data_by_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 1 << 20);
    let drive = format!("if=none,id=drive0,file={path},cache=writeback,format=raw");
    let mut peer = Peer::start(&[
        "-drive",
        &drive,
        "-M",
        "q35",
        "-device",
        "ide-hd,drive=drive0",
        "-global",
        "ide-hd.serial=testdisk",
    ]);
    peer.enable();
    peer.issue(&fis(0xEC, 0), 512, 0, &[]);
    assert_eq!(peer.read(PORT + 0x38), 0);
    // "testdisk", the bytes of each word swapped.
    assert_eq!(peer.ask(&format!("read {:#x} 8", DATA + 20)), "0x6574747369646b73");
    let mut read = fis(0xC8, 1);
    read[4] = 5;
    peer.issue(&read, 512, 0, &[]);
    assert_eq!(peer.ask(&format!("read {DATA:#x} 2")), "0x0505");
    peer.ask(&format!("memset {DATA:#x} 512 0xEE"));
    read[2] = 0xCA;
    peer.issue(&read, 512, 0x40, &[]);
    assert_eq!(peer.read(PORT + 0x20), 0x50);
    peer.quit();
    assert_eq!(std::fs::read(path).unwrap()[5 * 512..][..513], {
        let mut expected = vec![0xEE; 512];
        expected.push(6);
        expected
    });
}

#[test]
fn a_write_error_stops_the_machine_and_cont_retries() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 1 << 20);
    let rules = dir.path().join("rules");
    let text = "[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nstate = \"1\"\nonce = \"on\"\n\
                [set-state]\nevent = \"write_aio\"\nnew_state = \"2\"\n";
    std::fs::write(&rules, text).unwrap();
    let drive = format!(
        "file=blkdebug:{}:{path},if=none,id=drive0,format=raw,rerror=stop,werror=stop",
        rules.display()
    );
    let mut peer = Peer::start(&["-drive", &drive, "-M", "q35", "-device", "ide-hd,drive=drive0"]);
    peer.enable();
    peer.issue(&fis(0xCA, 1), 512, 0x40, &[]);
    peer.event("STOP");
    assert_eq!((peer.read(PORT + 0x38), peer.read(PORT + 0x20)), (1, 0x80));
    peer.tell(r#"{"execute":"cont"}"#);
    peer.event("RESUME");
    assert!(peer.heard()["return"].is_object());
    assert_eq!((peer.read(PORT + 0x38), peer.read(PORT + 0x20)), (0, 0x50));
    peer.quit();
}

#[test]
fn the_tray_moves_under_both_hands() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 1 << 20);
    let node = format!("node-name=drive0,driver=file,filename={path}");
    let mut peer =
        Peer::start(&["-blockdev", &node, "-M", "q35", "-device", "ide-cd,id=cd0,drive=drive0"]);
    peer.enable();
    let eject = [0x1B, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    peer.issue(&fis(0xA0, 0), 0, 0x20, &eject);
    let moved = peer.event("DEVICE_TRAY_MOVED");
    assert_eq!((&moved["data"]["id"], &moved["data"]["tray-open"]), (&"cd0".into(), &true.into()));
    peer.tell(r#"{"execute":"blockdev-close-tray","arguments":{"id":"cd0"}}"#);
    assert_eq!(peer.event("DEVICE_TRAY_MOVED")["data"]["tray-open"], false);
    assert!(peer.heard()["return"].is_object());
    peer.quit();
}

#[test]
fn arguments_that_are_not_understood_end_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_xinim-qtest"))
        .args(["-qtest", "unix:/x", "-incoming", "unix:/y"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("migration is not supported"));
}
