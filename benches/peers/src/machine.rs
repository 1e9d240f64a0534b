//! Owns the description of the machine, from what Linux reports. On other systems it says little.

use std::fs;
use std::path::{Path, PathBuf};

/// Describes cores, processor, kernel, file system and disk in one line.
pub fn describe(directory: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (device, system) = mount(directory).unwrap_or_default();
    let cache = queue(directory, "write_cache").unwrap_or_default();
    format!(
        "{cores} cores of {processor}; {} {}; {system} on {device} (write cache: {}); {}",
        std::env::consts::OS,
        kernel.trim(),
        cache.trim(),
        rust_version(),
    )
}

fn rust_version() -> String {
    let output = std::process::Command::new("rustc").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    version.unwrap_or_else(|_| "an unknown rustc".to_owned())
}

/// Returns the device and the type of the file system that contains `directory`.
fn mount(directory: &Path) -> Option<(String, String)> {
    let directory = fs::canonicalize(directory).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    let (device, _, system) = mounts
        .filter(|(_, point, _)| directory.starts_with(point))
        .max_by_key(|(_, point, _)| point.len())?;
    Some((device.to_owned(), system.to_owned()))
}

/// Returns the path where the kernel describes the whole disk that contains `directory`.
fn disk(directory: &Path) -> Option<PathBuf> {
    let (device, _) = mount(directory)?;
    let name = Path::new(&device).file_name()?.to_owned();
    let block = fs::canonicalize(Path::new("/sys/class/block").join(name)).ok()?;
    if block.join("partition").exists() { block.parent().map(Path::to_owned) } else { Some(block) }
}

fn queue(directory: &Path, name: &str) -> Option<String> {
    fs::read_to_string(disk(directory)?.join("queue").join(name)).ok()
}

/// Returns whether the disk loses written data without power unless it is told to flush. Then every
/// sync needs a flush.
pub fn needs_flushes(directory: &Path) -> bool {
    queue(directory, "write_cache").is_some_and(|cache| cache.trim() == "write back")
}

/// Returns how many flushes the disk under `directory` has completed since the machine started.
pub fn flushes(directory: &Path) -> Option<u64> {
    /// Its place in `stat`, counted from 0.
    const FLUSHES: usize = 15;
    let stat = fs::read_to_string(disk(directory)?.join("stat")).ok()?;
    stat.split_whitespace().nth(FLUSHES)?.parse().ok()
}
