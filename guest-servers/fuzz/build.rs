//! The guest's run-time library, which the file systems' crates are linked with, brings memory functions of
//! its own, and so does libFuzzer: the first definition counts.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,-z,muldefs");
}
