//! Places where a test stops a process between two steps of a handoff, to end it, or another, just
//! there. Builds without debug assertions have none of it.
//!
//! `SMBDIRECT_STOP_POINTS` names a folder. A process that reaches a point takes the file of that name
//! away and stops (SIGSTOP); so one process stops, once, and whoever made the file sees which.

#[cfg(debug_assertions)]
use std::path::PathBuf;

/// Names the folder.
#[cfg(debug_assertions)]
const FOLDER: &str = "SMBDIRECT_STOP_POINTS";

/// Stops this process if a test wants it to stop here.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    if let Some(folder) = folder()
        && std::fs::remove_file(folder.join(name)).is_ok()
    {
        // It fails for no signal there is.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_name: &str) {}

/// Whether a test ends processes on purpose: then each is started again at once, however often.
#[cfg(debug_assertions)]
pub fn are_wanted() -> bool {
    folder().is_some()
}

#[cfg(not(debug_assertions))]
pub fn are_wanted() -> bool {
    false
}

#[cfg(debug_assertions)]
fn folder() -> Option<&'static PathBuf> {
    use std::sync::OnceLock;
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| std::env::var_os(FOLDER).map(PathBuf::from))
        .as_ref()
}
