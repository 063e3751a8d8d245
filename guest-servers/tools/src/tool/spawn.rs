//! Running another program in place of this one, as far as a system without `exec` allows: its
//! status becomes ours.

use alloc::string::String;

use xinim_os::{Error, Spawn, join};

use crate::Context;

/// Runs `args` with `env`, found through PATH; its status.
pub fn run_program(c: &mut Context<'_>, args: &[String], env: &[String]) -> i32 {
    c.out.flush();
    let Some(name) = args.first() else { return 0 };
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("/bin:/sbin");
    let mut result = Err(Error::NoEnt);
    if name.contains('/') {
        result = start(c, name, args, env);
    } else {
        for dir in path.split(':') {
            result = start(c, &join(dir, name), args, env);
            if result != Err(Error::NoEnt) {
                break;
            }
        }
    }
    match result.and_then(|pid| c.os.wait(pid, false)) {
        Ok(ended) => ended.status as i32,
        Err(error) => {
            c.problem(name, error);
            if error == Error::NoEnt { 127 } else { 126 }
        }
    }
}

fn start(c: &Context<'_>, path: &str, args: &[String], env: &[String]) -> xinim_os::Result<u32> {
    c.os.spawn(&Spawn { path, args, env, fds: &[(0, 0), (1, 1), (2, 2)] })
}
