//! `xinim-vmm`: see `xinim_vmm` (the library) for everything.

fn main() {
    let status = xinim_vmm::main(std::env::args_os());
    // Threads may still wait for input that never comes: leave without them.
    std::process::exit(status.into())
}
