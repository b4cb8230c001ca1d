//! The name service's modules (nsswitch.conf(5)), loaded before the first look-up.
//!
//! The zygote calls [`preload`] once: what the dynamic linker writes into a module as it loads it is
//! then shared by all children, and none loads one again. No look-up is made here, since a
//! module's connection to its daemon must not be shared by children.

use std::collections::BTreeSet;
use std::ffi::CString;

/// What look-ups of users and their groups go through.
const DATABASES: [&str; 3] = ["passwd", "group", "initgroups"];
const CONFIGURATION: &str = "/etc/nsswitch.conf";

/// Loads the modules that look-ups of users and groups will ask for. One that is not installed is
/// left out, as the look-ups leave it out.
pub fn preload() {
    let configuration = std::fs::read_to_string(CONFIGURATION).unwrap_or_default();
    for service in services(&configuration) {
        // glibc's own number for the modules' interface.
        let Ok(name) = CString::new(format!("libnss_{service}.so.2")) else {
            continue;
        };
        // SAFETY: loads a library that the C library itself would load, by the same name, at the first
        // look-up; the name ends with a zero, and the handle is kept for the life of the process.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            tracing::debug!(service, "a name service's module is not installed");
        }
    }
}

/// The services named for users and groups, but those the C library has within itself.
fn services(configuration: &str) -> BTreeSet<&str> {
    configuration
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once(':'))
        .filter(|(database, _)| DATABASES.contains(&database.trim()))
        .flat_map(|(_, services)| services.split_whitespace())
        // `[NOTFOUND=return]` and its like say what to do after a service.
        .filter(|service| {
            service
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
        .filter(|service| !["files", "dns"].contains(service))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_users_and_groups_are_found_and_nothing_else() {
        let configuration = "# passwd: no\npasswd:  files [!UNAVAIL=return] systemd\n\
             group:files winbind # sss\nhosts: mymachines dns\ninitgroups: ../evil sss\n";
        let found: Vec<_> = services(configuration).into_iter().collect();
        assert_eq!(found, ["sss", "systemd", "winbind"]);
        assert!(services("").is_empty());
    }

    #[test]
    fn what_is_not_installed_is_left_out() {
        preload();
    }
}
