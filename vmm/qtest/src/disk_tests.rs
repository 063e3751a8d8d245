use super::*;
use xinim_devices::dma::Segment;
use xinim_devices::testing::FlatMemory;

fn open(change: impl FnOnce(&mut DriveArgs)) -> (Handle, Arc<FlatMemory>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, vec![7; 8192]).unwrap();
    let memory = FlatMemory::new(0, 65536);
    let path = Some(path.to_string_lossy().into_owned());
    let mut args = DriveArgs { id: String::from("d"), path, ..DriveArgs::default() };
    change(&mut args);
    (Handle::open(&args, memory.clone()).unwrap(), memory, dir)
}

fn submit(handle: &mut Handle, memory: &FlatMemory, tag: u64, operation: Operation) {
    let data = matches!(operation, Operation::Read | Operation::Write { .. });
    let segments = if data { vec![Segment { address: 0, length: 512 }] } else { Vec::new() };
    let length = if data { 512 } else { 0 };
    handle.submit(Request { tag, operation, offset: 0, length, segments }, memory);
}

const WRITE: Operation = Operation::Write { fua: false };
const ONCE: &str = "[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nstate = \"1\"\n\
                    once = \"on\"\n[set-state]\nevent = \"write_aio\"\nnew_state = \"2\"\n";

#[test]
fn an_injected_error_happens_once() {
    let (mut handle, memory, _dir) = open(|args| args.faults = Some(ONCE.to_owned()));
    submit(&mut handle, &memory, 1, Operation::Read);
    assert_eq!(handle.poll().unwrap().result, Ok(()));
    submit(&mut handle, &memory, 2, WRITE);
    assert_eq!(handle.poll().unwrap().result, Err(BackendError::IO));
    submit(&mut handle, &memory, 3, WRITE);
    assert_eq!(handle.poll(), Some(Completion { tag: 3, result: Ok(()) }));
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn a_machine_that_stops_tries_again_when_it_goes_on() {
    let (mut handle, memory, _dir) = open(|args| {
        args.faults = Some(ONCE.to_owned());
        args.stop_on_error = true;
    });
    submit(&mut handle, &memory, 1, WRITE);
    assert_eq!((handle.poll(), handle.in_flight()), (None, 1));
    let mut image = lock(&handle.0);
    assert!(image.take_stop() && !image.take_stop());
    image.go_on();
    assert!(image.run());
    drop(image);
    assert_eq!(handle.poll(), Some(Completion { tag: 1, result: Ok(()) }));
}

#[test]
fn a_break_point_holds_one_request() {
    let (mut handle, memory, _dir) = open(|_| ());
    lock(&handle.0).set_break("read_aio", "rd");
    submit(&mut handle, &memory, 1, Operation::Read);
    submit(&mut handle, &memory, 2, Operation::Read);
    assert_eq!(handle.poll().unwrap().tag, 2);
    assert_eq!(handle.poll(), None);
    lock(&handle.0).resume("other");
    assert_eq!(handle.poll(), None);
    lock(&handle.0).resume("rd");
    assert_eq!(handle.poll().unwrap().tag, 1);
}

#[test]
fn delays_and_limits_take_time() {
    let (mut handle, memory, _dir) = open(|args| args.read_delay_ns = 3_000_000_000);
    submit(&mut handle, &memory, 1, Operation::Read);
    assert!(!lock(&handle.0).run() && lock(&handle.0).next_time().is_some());
    let (mut handle, memory, _dir) = open(|args| args.write_limit = Some(600));
    submit(&mut handle, &memory, 1, WRITE);
    assert!(handle.poll().is_some(), "a second's worth is free");
    submit(&mut handle, &memory, 2, WRITE);
    assert_eq!(handle.poll(), None);
}

#[test]
fn images_are_read_written_and_resized() {
    let (mut handle, memory, dir) = open(|_| ());
    submit(&mut handle, &memory, 1, Operation::Read);
    handle.poll().unwrap().result.unwrap();
    assert_eq!(memory.dump(0, 512), vec![7; 512]);
    memory.write(0, &[9; 512]).unwrap();
    submit(&mut handle, &memory, 2, WRITE);
    submit(&mut handle, &memory, 3, Operation::Flush);
    assert_eq!(std::fs::read(dir.path().join("image")).unwrap()[..513], {
        let mut expected = vec![9; 512];
        expected.push(7);
        expected
    });
    lock(&handle.0).resize(4096).unwrap();
    assert_eq!(BlockBackend::info(&handle).length, 4096);
}

#[test]
fn what_cannot_be_opened_is_said() {
    let memory = FlatMemory::new(0, 4096);
    let open = |args: DriveArgs| Handle::open(&args, memory.clone()).err().unwrap().to_string();
    let path = Some(String::from("/does/not/exist"));
    assert!(open(DriveArgs { path, ..DriveArgs::default() }).contains("/does/not/exist"));
    assert!(open(DriveArgs { qcow2: true, ..DriveArgs::default() }).contains("qcow2"));
}
