//! The ramfs service. RS gives every instance the system bundle; only the mount of the root asks
//! for its contents.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use xinim_abi::start::role;
use xinim_ramfs::{Bundle, RamFs, Settings};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::Memory;
use xinim_rt::{kip, log, start};

xinim_rt::program!(main);

fn main() -> i32 {
    // Half of the memory: programs need the other half.
    let settings = Settings { memory_limit: kip::memory_total() / 2, clock: kip::wall_clock_ns };
    let fs = match bundle() {
        Ok(bundle) => RamFs::with_bundle(bundle, settings),
        Err(error) => {
            log!("no bundle: {error}");
            RamFs::new(settings)
        }
    };
    xinim_fs_server::run(fs)
}

fn bundle() -> xinim_rt::Result<Bundle<'static>> {
    let handle = start::handle(role::BUNDLE).ok_or(xinim_rt::Error::NoEnt)?;
    let memory = Memory::from_handle(OwnedHandle::from_raw(handle))?;
    let bytes = memory.map_static()?;
    let handle = memory.raw();
    // Handed out by `map` for as long as the service lives.
    core::mem::forget(memory);
    Ok(Bundle { bytes, memory: handle })
}
