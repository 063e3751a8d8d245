//! The qtest server by itself, for tests; `xinim-vmm qtest` is the same.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match xinim_qtest::serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xinim-qtest: {error}");
            ExitCode::FAILURE
        }
    }
}
