use super::*;

fn message(path: &str) -> String {
    match open(path) {
        Err(EngineError::Unavailable(message)) => message,
        Err(other) => panic!("{path}: {other}"),
        Ok(_) => panic!("{path} opened"),
    }
}

#[test]
fn a_missing_device_says_so_and_what_to_do() {
    let message = message("/nonexistent/kvm");
    assert!(message.contains("does not exist") && message.contains("--engine qemu"), "{message}");
}

#[test]
fn another_device_is_no_kvm() {
    let message = message("/dev/null");
    assert!(message.contains("/dev/null"), "{message}");
}

#[test]
fn each_refusal_has_its_own_advice() {
    let explain = |code| explain_open(DEVICE, &io::Error::from_raw_os_error(code));
    assert!(explain(libc::EACCES).contains("permission"));
    assert!(explain(libc::EBUSY).contains("another hypervisor"));
    assert!(explain(libc::ENODEV).contains("module"));
}
