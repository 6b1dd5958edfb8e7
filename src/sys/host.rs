//! The machine's name, for people who look at a list of workers.

/// The host name of Linux's own record, or nothing where there is none.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
