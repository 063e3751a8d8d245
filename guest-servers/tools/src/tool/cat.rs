//! `cat [FILE...]`

use alloc::vec;

use xinim_os::{Error, STDOUT, write_all};

use crate::Context;
use crate::tool::BUFFER;

pub fn run(c: &mut Context<'_>) -> i32 {
    let mut buffer = vec![0; BUFFER];
    for path in Context::inputs(c.args) {
        let Some(file) = c.open_input(&path) else { continue };
        loop {
            match c.os.read(file.fd, &mut buffer) {
                Ok(0) => break,
                Ok(count) => match write_all(c.os, STDOUT, &buffer[..count]) {
                    Ok(()) => {}
                    Err(Error::Pipe) => return 141,
                    Err(error) => {
                        c.problem("write error", error);
                        return 1;
                    }
                },
                Err(error) => {
                    c.problem(&path, error);
                    break;
                }
            }
        }
    }
    0
}
