//! One spawn: from the request in the window to a running process.

use crate::image::SetId;
use crate::{Pm, tell_vfs};
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::object::Rights;
use xinim_abi::services::pm::FdMap;
use xinim_abi::services::vfs::vfs;
use xinim_abi::start::role;
use xinim_abi::syscall::priority;
use xinim_keep::Ticket;
use xinim_pm::identity::Identity;
use xinim_pm::kept::Starting;
use xinim_pm::request;
use xinim_pm::script::interpreter;
use xinim_rt::loader::{self, Give, Loaded, Program};
use xinim_rt::{fs, sys};
use zerocopy::IntoBytes;

/// Stack of a program's first thread.
const STACK: u64 = 256 * 1024;
/// Longest spawn request: its texts, and a map for every descriptor.
const REQUEST_MAX: u32 = 128 * 1024;

impl Pm {
    /// The process id of the new child of `parent`.
    pub(crate) fn spawn(&mut self, parent: u32, len: u32, ticket: Option<Ticket>) -> Result<u32> {
        self.table.room(parent)?;
        if len > REQUEST_MAX {
            return Err(Error::TooBig);
        }
        let bytes = self.windows.get(parent)?.to_vec(0, len as usize)?;
        let request = request::Request::parse(&bytes)?;
        let (loaded, (uid, gid)) = self.load(parent, &request)?;
        let identity = self.identity(parent).for_program(uid, gid);
        // From here on the next instance knows what to do with it, should this one die.
        let starting = Starting { pid: loaded.pid, parent, ticket };
        let kept = self.records.starting(Some(starting));
        if let Err(error) =
            kept.and_then(|()| self.finish(parent, &loaded, &request.fds, &identity))
        {
            let _ = sys::process_kill(loaded.process.raw(), 0);
            self.records.starting(None)?;
            return Err(error);
        }
        let pid = loaded.pid;
        self.table.add(pid, parent);
        self.processes.insert(pid, loaded.process);
        self.identities.insert(pid, identity);
        Ok(pid)
    }

    /// The process, with its program in it. A script is its interpreter with the script's path
    /// before the arguments.
    fn load(&mut self, parent: u32, request: &request::Request<'_>) -> Result<(Loaded, SetId)> {
        let is_root = self.identity(parent).is_root();
        let (image, set_id) = self.images.open(parent, is_root, request.path)?;
        let Some(script) = interpreter(image.bytes()) else {
            let mut args = request.args.clone();
            if args.is_empty() {
                args.push(request.path);
            }
            let loaded = self.load_program(&image, request.path, &args, &request.env)?;
            return Ok((loaded, set_id));
        };
        let mut args = Vec::from([script.path]);
        args.extend(script.argument);
        args.push(request.path);
        args.extend(request.args.iter().skip(1));
        // A script lends nobody's authority: who could change it meanwhile?
        let (program, _) = self.images.open(parent, is_root, script.path)?;
        let loaded = self.load_program(&program, request.path, &args, &request.env)?;
        Ok((loaded, (None, None)))
    }

    fn load_program(
        &self,
        image: &crate::image::Loadable,
        path: &str,
        args: &[&str],
        env: &[&str],
    ) -> Result<Loaded> {
        let send = (Rights::SEND | Rights::TRANSFER).bits();
        let own = self.endpoint.mint(Rights::SEND | Rights::TRANSFER, 0)?;
        let handles = [
            Give { role: role::RS, handle: self.rs.connect(true)?, rights: send },
            Give { role: role::VFS, handle: self.vfs.connect(true)?, rights: send },
            Give { role: role::PM, handle: own.raw(), rights: send },
        ];
        let result = loader::load(
            self.resource,
            &Program {
                name: path.rsplit('/').next().unwrap_or(path),
                image: image.as_image(),
                args,
                env,
                handles: &handles,
                supervisor: self.endpoint.raw(),
                cookie: 0,
                priority: priority::USER,
                frames: None,
                stack: STACK,
                incarnation: 0,
                standby: false,
            },
        );
        if matches!(result, Err(Error::ServerDied | Error::BadHandle)) {
            // VFS may have been replaced since the last spawn.
            self.vfs.disconnect();
        }
        result
    }

    /// Descriptors, then the first thread.
    fn finish(
        &mut self,
        parent: u32,
        loaded: &Loaded,
        fds: &[(u32, u32)],
        identity: &Identity,
    ) -> Result<()> {
        let mut maps = Vec::new();
        for &(child, parent) in fds {
            maps.extend_from_slice(FdMap { child: child.into(), parent: parent.into() }.as_bytes());
        }
        let count = fds.len() as u32;
        let inherited = fs::request(&maps, &vfs::Inherit { parent, child: loaded.pid, count });
        if inherited == Err(Error::ServerDied) {
            self.vfs.disconnect();
        }
        inherited?;
        if *identity != self.identity(parent) {
            tell_vfs(loaded.pid, identity)?;
        }
        loaded.start()
    }
}
