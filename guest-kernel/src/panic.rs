//! The end: a report on the console, the exit device, and halt.

use core::fmt::Write;
use core::panic::PanicInfo;

use xinim_abi::platform::{EXIT_PANIC, PORT_EXIT};

use crate::arch::instructions::{halt_forever, out32};
use crate::console::Console;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = write!(Console, "\nkernel panic: {}", info.message());
    if let Some(location) = info.location() {
        let _ = write!(Console, "\n  at {}:{}", location.file(), location.line());
    }
    let _ = writeln!(Console);
    end()
}

/// Tells the machine, and stops.
fn end() -> ! {
    out32(PORT_EXIT, EXIT_PANIC);
    halt_forever()
}
