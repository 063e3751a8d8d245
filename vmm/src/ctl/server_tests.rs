use std::sync::Mutex;

use xinim_machine::Stopper;

use super::super::client;
use super::super::protocol::tests::Fake;
use super::*;
use crate::cli::{CtlArgs, CtlCommand};

struct Rig {
    _dir: tempfile::TempDir,
    path: PathBuf,
    server: Option<Server>,
    fake: Arc<Fake>,
    control: Control,
    _registered: xinim_machine::control::Registered,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let (controller, control) = (Controller::default(), Control::new());
    let fake = Arc::new(Fake(Mutex::default()));
    let registered = controller.register(fake.clone());
    let server = Server::start(&path, "kvm", controller, control.clone()).unwrap();
    Rig { _dir: dir, path, server: Some(server), fake, control, _registered: registered }
}

fn ctl(rig: &Rig, command: CtlCommand) -> Result<u8, String> {
    let args = CtlArgs { socket: rig.path.clone(), json: false, command };
    client::run(&args).map_err(|error| error.to_string())
}

#[test]
fn client_and_server_understand_each_other() {
    let mut rig = rig();
    let mode = std::fs::metadata(&rig.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(ctl(&rig, CtlCommand::Info), Ok(0));
    let attach = CtlCommand::Attach { disk: "x.img".into(), port: None };
    assert_eq!(ctl(&rig, attach), Ok(0));
    let expected = std::env::current_dir().unwrap().join("x.img");
    assert_eq!(*rig.fake.0.lock().unwrap(), [format!("attach File({expected:?}) None")]);
    let error = ctl(&rig, CtlCommand::Detach { name: "disk7".into() }).unwrap_err();
    assert_eq!(error, "there is no disk7");
    rig.server = None;
    assert!(!rig.path.exists());
    assert!(ctl(&rig, CtlCommand::Info).unwrap_err().contains("control"));
}

#[test]
fn quit_ends_the_run() {
    let rig = rig();
    let stopper: Stopper = rig.control.stopper();
    rig.control.ended();
    assert_eq!(ctl(&rig, CtlCommand::Quit), Ok(0));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !stopper.is_stopped() {
        assert!(std::time::Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rig.control.reason(), Some(StopReason::Left));
}

#[test]
fn long_and_half_lines_are_answered() {
    let rig = rig();
    for text in [vec![b'x'; LINE_MAX + 10], b"{\"command\":".to_vec()] {
        let mut client = UnixStream::connect(&rig.path).unwrap();
        // The server may have had enough before it has read everything.
        let _ = client.write_all(&text);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = BufReader::new(&client).read_line(&mut answer);
        assert!(answer.contains("\"ok\":false"), "{answer}");
    }
    assert_eq!(ctl(&rig, CtlCommand::Info), Ok(0));
}
