//! What the numbers were measured on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Writes that the disk is tried with.
const SYNCS: usize = 200;

/// Bytes in each: what a small commit writes.
const SYNC_BYTES: usize = 4096;

/// The kernel counts processor time in hundredths of a second, on every architecture. Source: time(7), `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// The variable `name`.
pub(crate) fn variable(name: &str) -> Outcome<String> {
    Ok(std::env::var(name).map_err(|_| format!("{name} is not set, run `cargo xtask bench`"))?)
}

/// Processor time that a process has taken so far.
pub(crate) fn processor_time(id: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is a name in parentheses, which may hold anything. Source: proc(5), `utime` and `stime`.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| Outcome::Ok(fields.get(at).ok_or("a field is missing")?.parse::<u32>()?);
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// Processor time that the whole machine has worked so far.
pub(crate) fn busy_time() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().ok_or("no processors")?;
    let ticks: Vec<u32> = first.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // Between them is the time in which it was idle or waited for a disk. Source: proc(5), `/proc/stat`.
    let [user, nice, system, _idle, _wait, irq, softirq, ..] = ticks.as_slice() else {
        return Err("a field is missing".into());
    };
    Ok(TICK * (user + nice + system + irq + softirq))
}

/// Cores that this process may use.
pub(crate) fn cores() -> Outcome<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// The machine in a few lines, without its name; `folder` is where the data is.
pub(crate) fn describe(folder: &Path) -> Outcome<Vec<(&'static str, String)>> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&processors, "model name").unwrap_or("unknown");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = field(&memory, "MemTotal").ok_or("no MemTotal")?.trim_end_matches(" kB").parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(vec![
        ("processor", format!("{model}, {} cores", cores()?)),
        ("memory", format!("{} GiB", kib.div_ceil(1024 * 1024))),
        ("kernel", format!("Linux {}", kernel.trim())),
        ("file system", file_system(folder)?),
        ("sync", format!("a write of {SYNC_BYTES} bytes and fdatasync: {} µs (median)", sync(folder)?.as_micros())),
    ])
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim_start().strip_prefix(':')?.trim())
}

/// The type of the mounted file system that is nearest above `folder`.
fn file_system(folder: &Path) -> Outcome<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    let above = mounts.filter(|(point, _)| folder.starts_with(point));
    let nearest = above.max_by_key(|(point, _)| point.components().count());
    Ok(nearest.ok_or("no file system")?.1.to_owned())
}

/// How long the disk takes to make a small write durable.
fn sync(folder: &Path) -> Outcome<Duration> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    fs::remove_file(path)?;
    times.sort();
    Ok(times[SYNCS / 2])
}
