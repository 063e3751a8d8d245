use super::*;

fn machine_side(attached: Attached) -> (Option<File>, Option<File>, Carrier) {
    let (input, output, carrier) = attached.split();
    (input.map(File::from), output.map(File::from), carrier)
}

#[test]
fn none_has_no_ends() {
    let console = Console::open(&ConsoleSpec::None, Control::new()).unwrap();
    let (input, output, carrier) = machine_side(console.attach().unwrap());
    assert!(input.is_none() && output.is_none());
    carrier.finish();
}

#[test]
fn a_file_collects_the_output_of_every_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let console = Console::open(&ConsoleSpec::File(path.clone()), Control::new()).unwrap();
    for text in ["one\n", "two\n"] {
        let (input, output, carrier) = machine_side(console.attach().unwrap());
        assert!(input.is_none());
        output.unwrap().write_all(text.as_bytes()).unwrap();
        carrier.finish();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let spec = ConsoleSpec::File("/nonexistent/dir/log".into());
    let error = Console::open(&spec, Control::new()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/dir/log"), "{error}");
    assert_eq!(error.status(), 125);
}

#[test]
fn a_socket_serves_clients_and_waits_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let spec = ConsoleSpec::Unix(path.clone());
    let console = Console::open(&spec, Control::new()).unwrap();
    let (input, output, carrier) = machine_side(console.attach().unwrap());
    let (mut input, mut output) = (input.unwrap(), output.unwrap());
    // Far more than a pipe holds, and nobody listens.
    output.write_all(&vec![b'x'; 1 << 20]).unwrap();

    for _ in 0..2 {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"ls\n").unwrap();
        let mut typed = [0; 3];
        input.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"ls\n");
        // What was written before the client came may still be on its way to nobody.
        output.write_all(b"\0hello").unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\0hello") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            got.push(byte[0]);
        }
    }
    drop(output);
    carrier.finish();
    assert!(Console::open(&spec, Control::new()).is_err(), "somebody listens there");
    drop(console);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_but_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Console::open(&ConsoleSpec::Unix(path.clone()), Control::new()).unwrap());
    std::fs::write(&path, "precious").unwrap();
    // Refused or not a socket: never removed.
    assert!(Console::open(&ConsoleSpec::Unix(path.clone()), Control::new()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
