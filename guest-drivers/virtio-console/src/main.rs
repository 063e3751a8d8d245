//! The virtio-console driver's server: the host's standard streams as character devices, and the
//! host link for `init`.
//!
//! ```text
//! bit 0       the device's interrupt (both queues)
//! OBITUARY    a client died
//! ```
//! With `mode=exec` on the command line the host is greeted at once, so that its command comes while
//! the rest of the system starts. A device that breaks its rules ends the process; RS starts it
//! again. Output that was on its way then may be lost or cut off.
#![no_std]
#![no_main]

extern crate alloc;

use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::Kind;
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{Message, ReplyToken, bits};
use xinim_abi::object::{Handle, Protection};
use xinim_abi::platform::CMDLINE_MODE_EXEC;
use xinim_abi::services::chardev::{chardev, control};
use xinim_abi::services::hostlink::{cookie, hostlink};
use xinim_driver_rt::{PciDevice, Registers, RtClock, RtDma, stand_by};
use xinim_rt::memory::Memory;
use xinim_rt::server::{ClientWindows, Request, Server, answer};
use xinim_rt::{kip, log, process, server, start, sys};
use xinim_virtio::StartError;
use xinim_virtio_console::link::{Answer, Greeting};
use xinim_virtio_console::{Link, Port, World};

xinim_rt::program!(main, prepares);

/// Bytes of heap in use when the service is up, at most.
const START_HEAP: usize = 96 << 10;

const INTERRUPT_BIT: u32 = 0;
/// The one message this driver uses, for both queues.
const VECTOR: u16 = 0;
/// Bytes copied at a time between a client's window and a frame.
const PIECE: usize = 4096;

/// A client that waits for an answer.
struct Client {
    token: ReplyToken,
    pid: u32,
    /// Where it wants the command.
    memory: Option<Memory>,
}

/// The device and the clients' windows: what the link works with.
struct Outside {
    port: Port<Registers, RtDma>,
    windows: ClientWindows,
}

struct ConsoleServer {
    link: Link<Client>,
    outside: Outside,
    endpoint: Handle,
}

fn main() -> i32 {
    match start() {
        Ok(mut server) => server::run(&mut server),
        Err(error) => {
            log!("virtio-console: {error}");
            1
        }
    }
}

fn start() -> core::result::Result<ConsoleServer, StartError> {
    let device = PciDevice::from_start()?;
    let dma = RtDma::new(&device);
    stand_by(&device, &dma, START_HEAP)?;
    let endpoint = server::own_endpoint()?;
    device.bind_interrupt(VECTOR.into(), INTERRUPT_BIT)?;
    let port = Port::start(&device, dma, &RtClock, Some(VECTOR))?;
    let greeting = match (start::incarnation(), kip::cmdline_has(CMDLINE_MODE_EXEC)) {
        (0, true) => Greeting::Due,
        (0, false) => Greeting::WhenNeeded,
        _ => Greeting::ByPredecessor,
    };
    let outside = Outside { port, windows: ClientWindows::new() };
    let mut server = ConsoleServer { link: Link::new(greeting), outside, endpoint };
    server.pump();
    Ok(server)
}

impl Server for ConsoleServer {
    fn call(&mut self, request: Request) -> Option<Message> {
        // The interfaces' numbers are apart, so one decodes or the other.
        let result = match (
            chardev::Call::decode(&request.message),
            hostlink::Call::decode(&request.message),
        ) {
            (Ok(call), _) => self.chardev(&request, call),
            (_, Ok(call)) => self.hostlink(&request, call),
            (Err(error), Err(_)) => Err(error),
        };
        match result {
            Ok(Some(reply)) => Some(reply),
            Ok(None) => {
                self.pump();
                None
            }
            Err(error) => Some(error_message(error)),
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
                let pid = obituary.cookie as u32;
                self.outside.windows.forget(pid);
                self.link.forget(|client| client.pid == pid);
            }
        }
        let progress = self.poll();
        if raised == 1 << INTERRUPT_BIT && !progress {
            // An interrupt that brought nothing: the device may be telling that it is broken.
            if let Err(error) = self.outside.port.check_status() {
                give_up(&error.into());
            }
        }
        self.pump();
    }

    fn terminate(&mut self) -> i32 {
        i32::from(self.outside.port.stop(&RtClock).is_err())
    }
}

impl ConsoleServer {
    /// `Ok(None)`: the answer comes later.
    fn chardev(&mut self, request: &Request, call: chardev::Call) -> Result<Option<Message>> {
        let client = Client { token: request.token, pid: request.sender, memory: None };
        match call {
            chardev::Call::Attach(attach) => {
                let window = request.handle(attach.window);
                self.outside.windows.attach(request.sender, window, self.endpoint)?;
                Ok(Some(chardev::Attached {}.encode()))
            }
            chardev::Call::Read(read) => {
                check(read.cookie, &[cookie::STDIN])?;
                self.outside.windows.get(client.pid)?;
                self.link.read(client, read.at, read.len);
                Ok(None)
            }
            chardev::Call::Write(write) => {
                check(write.cookie, &[cookie::STDOUT, cookie::STDERR])?;
                self.outside.windows.get(client.pid)?;
                let kind = if write.cookie == cookie::STDOUT { Kind::Stdout } else { Kind::Stderr };
                self.link.write(client, kind, write.at, write.len);
                Ok(None)
            }
            chardev::Call::Control(control) => {
                check(control.cookie, &[cookie::STDIN, cookie::STDOUT, cookie::STDERR])?;
                match control.operation {
                    control::IS_TERMINAL => Ok(answer(Ok(chardev::Controlled { value: 0 }))),
                    control::SET_RAW => Err(Error::NotTy),
                    _ => Err(Error::Inval),
                }
            }
            chardev::Call::Subscribe(_) => Err(Error::NotTy),
            chardev::Call::Poll(_) => Err(Error::NoSys),
        }
    }

    fn hostlink(&mut self, request: &Request, call: hostlink::Call) -> Result<Option<Message>> {
        let mut client = Client { token: request.token, pid: request.sender, memory: None };
        match call {
            hostlink::Call::Command(command) => {
                client.memory = Some(Memory::from_handle(request.handle(command.memory))?);
                self.link.want_command(client);
            }
            hostlink::Call::Exit(exit) => self.link.exit(client, exit.status),
        }
        Ok(None)
    }

    /// Takes in what the device has; true if there was anything.
    fn poll(&mut self) -> bool {
        let link = &mut self.link;
        match self.outside.port.poll(|bytes| link.received(bytes)) {
            Ok(progress) => progress,
            Err(error) => give_up(&error),
        }
    }

    /// Everything that can be done now, until only an interrupt can bring more.
    fn pump(&mut self) {
        self.outside.port.disarm();
        loop {
            self.poll();
            self.link.pump(&mut self.outside);
            self.outside.port.kick();
            if !self.outside.port.arm(self.link.waits_for_room()) {
                return;
            }
        }
    }
}

/// `BadF` unless the device behind the cookie does what is asked of it.
fn check(device: u64, able: &[u64]) -> Result<()> {
    if able.contains(&device) { Ok(()) } else { Err(Error::BadF) }
}

impl World<Client> for Outside {
    fn room(&self) -> usize {
        self.port.room()
    }

    fn is_sending(&self) -> bool {
        self.port.is_sending()
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        use xinim_driver_kit::SharedMemory;
        self.port.send(kind, payload.len(), |buffer, at| {
            buffer.write_bytes(at, payload);
            Ok(())
        })
    }

    fn send_from(&mut self, kind: Kind, client: &Client, at: u32, len: usize) -> Result<()> {
        use xinim_driver_kit::SharedMemory;
        let window = self.windows.get(client.pid)?;
        let from = at as usize;
        if from.checked_add(len).is_none_or(|end| end > window.len()) {
            return Err(Error::Fault);
        }
        self.port.send(kind, len, |buffer, to| {
            let mut piece = [0; PIECE];
            let mut done = 0;
            while done < len {
                let take = PIECE.min(len - done);
                window.copy_out(from + done, &mut piece[..take])?;
                buffer.write_bytes(to + done, &piece[..take]);
                done += take;
            }
            Ok(())
        })
    }

    fn deliver(&mut self, client: &Client, at: u32, bytes: &[u8]) -> Result<()> {
        self.windows.get(client.pid)?.copy_in(at as usize, bytes)
    }

    fn deliver_command(&mut self, client: &Client, text: &[u8]) -> Result<u64> {
        let memory = client.memory.as_ref().ok_or(Error::BadHandle)?;
        if text.len() as u64 > memory.len() {
            return Err(Error::TooBig);
        }
        if !text.is_empty() {
            memory.map(Protection::READ | Protection::WRITE)?.copy_in(0, text)?;
        }
        Ok(text.len() as u64)
    }

    fn answer(&mut self, client: Client, result: Result<Answer>) {
        let message = match result {
            Ok(Answer::Read(count)) => chardev::Count { count }.encode(),
            Ok(Answer::Written(count)) => chardev::Written { count }.encode(),
            Ok(Answer::Command(len)) => hostlink::CommandReply { len }.encode(),
            Ok(Answer::Exited) => hostlink::Exited {}.encode(),
            Err(error) => error_message(error),
        };
        // Fails only for a client that is gone.
        let _ = sys::reply(client.token, &message);
    }
}

fn give_up(error: &StartError) -> ! {
    log!("virtio-console: {error}");
    process::exit(1)
}
