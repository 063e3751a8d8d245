//! The host link under strain: a host that reads slowly, a driver that dies.

use std::io::Read;
use std::thread;
use std::time::Duration;
use xinim_tests::machine::{engines, exec};

/// Nothing is dropped when the host takes its time: the guest waits. (QEMU's `virtconsole` drops.)
#[test]
fn a_slow_reader_gets_every_byte() {
    const LEN: usize = 8 << 20;
    for engine in engines("a_slow_reader_gets_every_byte") {
        let commands =
            "dd if=/dev/zero of=/dev/host/stdout bs=65536 count=128 2>/dev/null; echo end";
        let mut child = exec(engine, commands, &[]).spawn();
        drop(child.stdin.take());
        let mut stdout = child.stdout.take().expect("piped");
        let mut bytes = vec![0; 100_000];
        stdout.read_exact(&mut bytes).expect("the beginning");
        thread::sleep(Duration::from_secs(2));
        stdout.read_to_end(&mut bytes).expect("the rest");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{engine}");
        assert_eq!(bytes.len(), LEN + 4, "{engine}");
        assert!(bytes[..LEN].iter().all(|&byte| byte == 0), "{engine}");
        assert_eq!(&bytes[LEN..], b"end\n", "{engine}");
    }
}

/// The driver is killed between commands: the next program's streams, and the exit status, find the new
/// instance.
#[test]
fn the_streams_survive_their_driver() {
    for engine in engines("the_streams_survive_their_driver") {
        let commands = "echo one; service kill virtio-console; cat; exit 5";
        let output = exec(engine, commands, &[]).stdin("two\n").output().expect(5);
        assert_eq!(output.out(), "one\ntwo\n", "{engine}");
    }
}
