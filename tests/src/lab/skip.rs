//! Tells a test that could not run from one that passed.
//! libtest knows no third result, so such a test says so here: on standard error, and in the file that
//! `$SMBDIRECT_TEST_SKIPS` names, from which `./x test` takes it out of the passed and into the skipped.

use std::fs::OpenOptions;
use std::io::Write;

/// Reports the running test as skipped. The test returns after it.
pub fn report(reason: &str) {
    let line = format!("{}: {}\n", test_name(), reason.replace('\n', " "));
    eprint!("SKIPPED: {line}");
    let Some(path) = std::env::var_os("SMBDIRECT_TEST_SKIPS") else {
        return;
    };
    // One write of one line, appended: tests report from several processes at once.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!(
            "cannot note the skipped test in {}: {error}",
            path.display()
        );
    }
}

/// The test binary and the test. libtest names the thread after the test, except where it runs a single one on the
/// main thread.
fn test_name() -> String {
    let thread = std::thread::current();
    let test = match thread.name() {
        Some(name) if name != "main" => Some(name.to_owned()),
        _ => std::env::args()
            .skip(1)
            .find(|argument| !argument.starts_with('-')),
    };
    let binary = std::env::current_exe().ok();
    let binary = binary.as_deref().and_then(|path| path.file_stem());
    let binary = binary.unwrap_or_default().to_string_lossy();
    // cargo appends a hash to the name.
    let binary = binary.rsplit_once('-').map_or(&*binary, |(name, _)| name);
    format!("{binary}::{}", test.as_deref().unwrap_or("a test"))
}
