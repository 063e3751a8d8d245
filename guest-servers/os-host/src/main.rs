//! XINIM's shell or one of its tools on this host: `xinim-host sh -c 'ls | wc'`, or under the
//! tool's name.

use xinim_os_host::Linux;

fn main() {
    let mut args: Vec<String> =
        std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.first().is_some_and(|name| xinim_os::base_name(name) == "xinim-host") {
        args.remove(0);
    }
    let env: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    let os = Linux::default();
    let name = args.first().map_or("sh", |name| xinim_os::base_name(name));
    let status = match name {
        "sh" => xinim_shell::run(&os, &args, &env),
        _ => xinim_tools::run(&os, &args, &env).unwrap_or_else(|| {
            eprintln!("xinim-host: no tool of this name: {name}");
            127
        }),
    };
    std::process::exit(status)
}
