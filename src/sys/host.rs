//! What this machine is: its name, for people who look at a list of workers, and its size.

/// The host name of Linux's own record, or nothing where there is none.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The processors that this process may use; 1 where the system does not tell.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
