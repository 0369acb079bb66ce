//! What a process and its children have used, as /proc tells it.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// CPU seconds of a process and everything below it.
pub(crate) fn cpu_seconds(root: u32) -> f64 {
    let ticks: u64 = tree(root).into_iter().filter_map(ticks).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    ticks as f64 / per_second as f64
}

/// Resident memory of a process and everything below it; what they share counts once for each.
pub(crate) fn memory_bytes(root: u32) -> u64 {
    tree(root).into_iter().filter_map(resident).sum()
}

fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        next += 1;
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        pids.extend(
            children
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    pids
}

/// User and system time; what ended children used is in it as well.
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold spaces and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_ascii_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Who listens on a port of this host, if it may be known.
pub(crate) fn listening(port: u16) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (_, hex) = fields.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(hex, 16) == Ok(port) && fields.get(3) == Some(&"0A");
        is_it.then(|| format!("socket:[{}]", fields[9]))
    })?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten();
            open.flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == inode.as_str())
            })
        })
}
