//! What Linux tells of this process; elsewhere nothing.

/// A number of bytes from `/proc/self/status`: `VmRSS` is what is resident now, `VmHWM` the
/// most that has been.
pub fn status_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
