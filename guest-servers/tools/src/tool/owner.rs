//! Users and groups: `chown`, `chgrp`, `id`, `whoami`, `su`, `setpriv`. Names stand in /etc/passwd and
//! /etc/group; there are no passwords, so only root becomes somebody else.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_os::{Ids, KEEP_ID, is_kind, join, mode, open, read_file};

use super::spawn::run_program;
use crate::{Context, Options};

const DEPTH_MAX: usize = 128;

/// One line of /etc/passwd.
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

fn lines(c: &Context<'_>, path: &str) -> Vec<Vec<String>> {
    let Ok(fd) = c.os.open(path, open::READ, 0) else { return Vec::new() };
    let text = read_file(c.os, fd).unwrap_or_default();
    let _ = c.os.close(fd);
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(|line| line.split(':').map(String::from).collect()).collect()
}

fn users(c: &Context<'_>) -> Vec<User> {
    let user = |fields: Vec<String>| {
        Some(User {
            name: fields.first()?.clone(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5)?.clone(),
            shell: fields.get(6)?.clone(),
        })
    };
    lines(c, "/etc/passwd").into_iter().filter_map(user).collect()
}

/// Names, numbers and members of groups.
fn groups(c: &Context<'_>) -> Vec<(String, u32, Vec<String>)> {
    let group = |fields: Vec<String>| {
        let members = fields.get(3).map_or("", |text| text.as_str());
        let members = members.split(',').filter(|name| !name.is_empty()).map(String::from);
        Some((fields.first()?.clone(), fields.get(2)?.parse().ok()?, members.collect()))
    };
    lines(c, "/etc/group").into_iter().filter_map(group).collect()
}

/// The number of a user or group, by name or as it stands.
pub(super) fn find_id(c: &Context<'_>, text: &str, group: bool) -> Option<u32> {
    let found = match group {
        true => groups(c).into_iter().find(|found| found.0 == text).map(|found| found.1),
        false => users(c).into_iter().find(|user| user.name == text).map(|user| user.uid),
    };
    found.or_else(|| text.parse().ok().filter(|&id| id != KEEP_ID))
}

pub fn user_name(c: &Context<'_>, uid: u32) -> Option<String> {
    users(c).into_iter().find(|user| user.uid == uid).map(|user| user.name)
}

pub fn group_name(c: &Context<'_>, gid: u32) -> Option<String> {
    groups(c).into_iter().find(|group| group.1 == gid).map(|group| group.0)
}

/// `chown [-R] [-h] [USER][:[GROUP]] FILE...`
pub fn chown(c: &mut Context<'_>) -> i32 {
    change(c, "chown [-R] [-h] [USER][:[GROUP]] FILE...", false)
}

/// `chgrp [-R] [-h] GROUP FILE...`
pub fn chgrp(c: &mut Context<'_>) -> i32 {
    change(c, "chgrp [-R] [-h] GROUP FILE...", true)
}

fn change(c: &mut Context<'_>, usage: &str, only_group: bool) -> i32 {
    let options = match Options::parse(c.args, "Rh", usage) {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let Some((who, files)) = options.operands.split_first().filter(|(_, files)| !files.is_empty())
    else {
        return c.usage(format!("usage: {usage}"));
    };
    let (user, group) = match who.split_once(':') {
        _ if only_group => ("", Some(who.as_str())),
        Some((user, group)) => (user, Some(group)),
        None => (who.as_str(), None),
    };
    let mut ids = (KEEP_ID, KEEP_ID);
    if !user.is_empty() {
        match find_id(c, user, false) {
            Some(uid) => ids.0 = uid,
            None => return c.usage(format!("{user}: no such user")),
        }
    }
    match group {
        None => {}
        // `user:` means the user's own group.
        Some("") => {
            let found = users(c).into_iter().find(|found| found.uid == ids.0);
            ids.1 = found.map_or(KEEP_ID, |found| found.gid);
        }
        Some(group) => match find_id(c, group, true) {
            Some(gid) => ids.1 = gid,
            None => return c.usage(format!("{group}: no such group")),
        },
    }
    let recursive = options.has('R');
    for path in files {
        tree(c, path, ids, recursive, options.has('h') || recursive, 0);
    }
    0
}

/// Links below a directory are changed themselves, never what they lead to.
fn tree(
    c: &mut Context<'_>,
    path: &str,
    ids: (u32, u32),
    recursive: bool,
    itself: bool,
    depth: usize,
) {
    if let Err(error) = c.os.chown(path, !itself, ids.0, ids.1) {
        return c.problem(path, error);
    }
    let directory = recursive && c.os.lstat(path).is_ok_and(|s| is_kind(&s, mode::DIRECTORY));
    if !directory || depth == DEPTH_MAX {
        return;
    }
    match c.os.read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                tree(c, &join(path, &entry.name), ids, recursive, itself, depth + 1);
            }
        }
        Err(error) => c.problem(path, error),
    }
}

/// `id [-u|-g|-G] [-n] [-r]`
pub fn id(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "ugGnr", "id [-u|-g|-G] [-n] [-r]") {
        Ok(options) if options.operands.is_empty() => options,
        Ok(_) => return c.usage("only this process's own identity is known"),
        Err(message) => return c.usage(message),
    };
    let identity = match c.os.identity() {
        Ok(identity) => identity,
        Err(error) => {
            c.problem("", error);
            return 1;
        }
    };
    let pick = |ids: Ids| if options.has('r') { ids.real } else { ids.effective };
    let (uid, gid) = (pick(identity.users), pick(identity.groups));
    let mut all = Vec::from([gid]);
    all.extend(identity.supplementary.iter().filter(|&&group| group != gid));
    let group_text = |c: &Context<'_>, gid| group_name(c, gid).unwrap_or_else(|| gid.to_string());
    let names = options.has('n');
    if options.has('u') {
        let name = names.then(|| user_name(c, uid)).flatten();
        let _ = writeln!(c.out, "{}", name.unwrap_or_else(|| uid.to_string()));
        return 0;
    }
    if options.has('g') || options.has('G') {
        let shown = if options.has('G') { all } else { Vec::from([gid]) };
        let texts: Vec<String> = shown
            .into_iter()
            .map(|gid| if names { group_text(c, gid) } else { gid.to_string() })
            .collect();
        let _ = writeln!(c.out, "{}", texts.join(" "));
        return 0;
    }
    let with_name = |id: u32, name: Option<String>| match name {
        Some(name) => format!("{id}({name})"),
        None => id.to_string(),
    };
    let _ = write!(c.out, "uid={}", with_name(uid, user_name(c, uid)));
    let _ = write!(c.out, " gid={}", with_name(gid, group_name(c, gid)));
    if identity.users.real != uid {
        let real = identity.users.real;
        let _ = write!(c.out, " real={}", with_name(real, user_name(c, real)));
    }
    let texts: Vec<String> =
        all.into_iter().map(|gid| with_name(gid, group_name(c, gid))).collect();
    let _ = writeln!(c.out, " groups={}", texts.join(","));
    0
}

pub fn whoami(c: &mut Context<'_>) -> i32 {
    match c.os.identity() {
        Ok(identity) => {
            let uid = identity.users.effective;
            let name = user_name(c, uid).unwrap_or_else(|| uid.to_string());
            let _ = writeln!(c.out, "{name}");
        }
        Err(error) => c.problem("", error),
    }
    0
}

/// `su [-] [-s SHELL] [-c COMMAND] [USER]`: a shell, or one command, as another user. For root.
pub fn su(c: &mut Context<'_>) -> i32 {
    let options = match Options::parse(c.args, "ls:c:", "su [-s SHELL] [-c COMMAND] [USER]") {
        Ok(options) => options,
        Err(message) => return c.usage(message),
    };
    let mut operands = options.operands.iter().filter(|operand| operand.as_str() != "-");
    let name = operands.next().map_or("root", |name| name.as_str());
    let Some(user) = users(c).into_iter().find(|user| user.name == name) else {
        return c.usage(format!("{name}: no such user"));
    };
    let member = |(_, gid, members): (String, u32, Vec<String>)| {
        (members.iter().any(|member| member == name)).then_some(gid)
    };
    let supplementary: Vec<u32> = groups(c).into_iter().filter_map(member).collect();
    let changed = (c.os.set_groups(&supplementary))
        .and_then(|()| c.os.set_group_ids(Ids::all(user.gid)))
        .and_then(|()| c.os.set_user_ids(Ids::all(user.uid)));
    if let Err(error) = changed {
        c.problem(name, error);
        return 1;
    }
    let mut env: Vec<String> = c.env.to_vec();
    for (key, value) in [("HOME", &user.home), ("USER", &user.name), ("LOGNAME", &user.name)] {
        env.retain(|entry| entry.split_once('=').is_none_or(|(own, _)| own != key));
        env.push(format!("{key}={value}"));
    }
    let shell = options.value('s').unwrap_or(&user.shell).to_string();
    let mut args = Vec::from([shell]);
    if let Some(command) = options.value('c') {
        args.extend(["-c".to_string(), command.to_string()]);
    }
    run_program(c, &args, &env)
}

/// `setpriv [--reuid=UID] [--regid=GID] [--groups=G,…|--clear-groups] COMMAND [ARG...]`
pub fn setpriv(c: &mut Context<'_>) -> i32 {
    let (mut uid, mut gid, mut wanted) = (None, None, None);
    let mut rest = c.args;
    while let Some((arg, tail)) = rest.split_first()
        && let Some(option) = arg.strip_prefix("--")
    {
        rest = tail;
        if option.is_empty() {
            break;
        }
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let id = |c: &Context<'_>, group| find_id(c, value, group);
        let bad = |c: &mut Context<'_>| c.usage(format!("{arg}: no such user or group"));
        match name {
            "reuid" => match id(c, false) {
                Some(id) => uid = Some(id),
                None => return bad(c),
            },
            "regid" => match id(c, true) {
                Some(id) => gid = Some(id),
                None => return bad(c),
            },
            "clear-groups" => wanted = Some(Vec::new()),
            "groups" => {
                let all: Option<Vec<u32>> = value.split(',').map(|g| find_id(c, g, true)).collect();
                match all {
                    Some(all) => wanted = Some(all),
                    None => return bad(c),
                }
            }
            _ => return c.usage(format!("unknown option {arg}")),
        }
    }
    if rest.is_empty() {
        return c.usage("command missing");
    }
    let changed = wanted
        .map_or(Ok(()), |groups| c.os.set_groups(&groups))
        .and_then(|()| gid.map_or(Ok(()), |gid| c.os.set_group_ids(Ids::all(gid))))
        .and_then(|()| uid.map_or(Ok(()), |uid| c.os.set_user_ids(Ids::all(uid))));
    if let Err(error) = changed {
        c.problem("", error);
        return 127;
    }
    run_program(c, rest, c.env)
}
