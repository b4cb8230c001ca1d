//! The log: one line an event on standard error, with time, process and pid.
//!
//! Every process of smbd calls [`init`] once; a forked child then renames itself.

use std::fmt;
use std::sync::Mutex;

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

static PROCESS: Mutex<String> = Mutex::new(String::new());

struct Prefix;

/// Starts logging under this process name. A second call changes nothing but the name.
pub fn init(name: &str, level: Level) {
    rename(name);
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level)
        .with_timer(Prefix)
        .compact()
        .try_init();
}

/// Changes the process's name, in the log and for `ps`.
pub fn rename(name: &str) {
    if let Ok(mut process) = PROCESS.lock() {
        *process = name.to_owned();
    }
    let short: String = name.split(' ').next().unwrap_or(name).into();
    if let Ok(short) = std::ffi::CString::new(format!("smbd-{short}")) {
        let _ = nix::sys::prctl::set_name(&short);
    }
}

impl FormatTime for Prefix {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        match PROCESS.lock() {
            Ok(name) => write!(writer, " {name}[{}]", std::process::id()),
            Err(_) => Ok(()),
        }
    }
}
