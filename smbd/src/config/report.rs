//! `smbd check-config`: what a file says, in Samba's testparm manner, and what looks wrong on this
//! machine.
//!
//! Called by the command line. Looks at the files and accounts the configuration names; changes
//! nothing.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Group, User};

use super::parameters::{GLOBAL_ROWS, RDMA_ROWS, Row, SHARE_ROWS, parameter_list};
use super::{Config, MapToGuest, NameMatch, RdmaDevices, Scope, Share};

/// What to print and how to exit: 0 when the file can be used, 1 when not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    pub text: String,
    pub exit_code: u8,
}

/// Loads the file and tells what would be served: every setting that is not the default, and
/// warnings.
pub fn check_config(path: &Path) -> CheckReport {
    match Config::load(path) {
        Ok(config) => {
            let mut warnings = warnings(&config);
            if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o022 != 0) {
                let path = path.display();
                warnings.push(format!(
                    "{path} can be written by others; run `chmod go-w {path}`"
                ));
            }
            let mut text = settings(&config);
            text.push_str(&served(&config));
            for warning in &warnings {
                let _ = writeln!(text, "warning: {warning}");
            }
            let (shares, count) = (config.shares.len(), warnings.len());
            let _ = writeln!(
                text,
                "check-config: errors=0 warnings={count} shares={shares}"
            );
            CheckReport { text, exit_code: 0 }
        }
        Err(errors) => {
            let count = errors.problems.len() + errors.omitted;
            let text = format!("{errors}\ncheck-config: errors={count} warnings=0 shares=0\n");
            CheckReport { text, exit_code: 1 }
        }
    }
}

/// `smbd check-config --list`: every parameter, with its default, an example and a line of help.
pub fn describe_parameters() -> String {
    let mut text = String::new();
    for parameter in parameter_list() {
        let (default, example, help) = parameter.describe();
        let place = match parameter.scope() {
            Scope::Global => "[global]",
            Scope::Share => "a share",
            Scope::Both => "a share, or [global] for all",
        };
        let (name, others) = (parameter.name(), parameter.names().split_off(1).join(", "));
        let _ = writeln!(text, "{name} = {default}\n\t{help}");
        let _ = writeln!(text, "\tin {place}; for example {name} = {example}");
        if !others.is_empty() {
            let _ = writeln!(text, "\talso called {others}");
        }
    }
    text
}

/// The configuration as a file that says nothing but what differs from the defaults.
pub(super) fn settings(config: &Config) -> String {
    let mut text = String::from("[global]\n");
    text.push_str(&differing(GLOBAL_ROWS, &config.global));
    text.push_str(&differing(RDMA_ROWS, &config.rdma));
    for (name, hosts) in [
        ("hosts allow", &config.hosts_allow),
        ("hosts deny", &config.hosts_deny),
    ] {
        if !hosts.is_empty() {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "\t{name} = {}", hosts.join(", "));
        }
    }
    for share in &config.shares {
        let _ = write!(text, "\n[{}]\n", share.name);
        text.push_str(&differing(SHARE_ROWS, share));
    }
    text.push('\n');
    text
}

/// In plain words, what listens where.
fn served(config: &Config) -> String {
    let transports = &config.global.server_smb_transports;
    let tcp: Vec<String> = transports.tcp_ports().iter().map(u16::to_string).collect();
    let tcp = match tcp.as_slice() {
        [] => "no TCP".to_owned(),
        ports => format!("TCP port {}", ports.join(", ")),
    };
    let devices = &config.rdma.devices;
    let rdma = match (transports.rdma_ports().is_empty(), devices) {
        (true, _) => "no RDMA".to_owned(),
        (false, RdmaDevices::All) => "RDMA on every device there is".to_owned(),
        (false, RdmaDevices::Named(names)) => format!("RDMA on {}", names.join(", ")),
    };
    format!("serves: {tcp}; {rdma}\n")
}

fn differing<S: Default>(rows: &[Row<S>], settings: &S) -> String {
    let default = S::default();
    let mut text = String::new();
    for row in rows {
        let value = row.show(settings);
        // A share always has a path; its default is only there to fill the struct.
        if value != row.show(&default) || row.name == "path" {
            let _ = writeln!(text, "\t{} = {value}", row.name);
        }
    }
    text
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.shares.is_empty() {
        warnings
            .push("no share is configured; add a section [NAME] with path = /DIRECTORY".to_owned());
    }
    for share in &config.shares {
        share_warnings(share, &mut warnings);
    }
    user_file_warnings(&config.global.user_file(), &mut warnings);
    let global = &config.global;
    #[cfg(feature = "kerberos")]
    if global.has_kerberos()
        && let Err(error) = crate::sys::gssapi::Keytab::new(global.keytab()).check()
    {
        warnings.push(format!("kerberos method: {error}"));
    }
    #[cfg(not(feature = "kerberos"))]
    if global.kerberos_method != super::KerberosMethod::SecretsOnly {
        warnings.push("kerberos method: this smbd was built without Kerberos".to_owned());
    }
    let guests = config.shares.iter().any(|share| share.guest_ok);
    if guests && global.map_to_guest == MapToGuest::Never {
        warnings.push(
            "a share has guest ok = yes, but map to guest = never lets no guest in".to_owned(),
        );
    }
    if guests && !account_exists(&global.guest_account) {
        warnings.push(format!(
            "guest account {:?} does not exist; create it (useradd)",
            global.guest_account
        ));
    }
    for (name, account) in [
        ("smbdirectd user", &global.smbdirectd_user),
        ("broker user", &global.broker_user),
    ] {
        if !account.is_empty() && !account_exists(account) {
            warnings.push(format!(
                "{name} {account:?} does not exist; create it (useradd --system {account})"
            ));
        }
    }
    warnings
}

fn share_warnings(share: &Share, warnings: &mut Vec<String>) {
    let name = &share.name;
    let path = share.path.display();
    match fs::metadata(&share.path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => warnings.push(format!("share [{name}]: path {path} is not a directory")),
        Err(error) => warnings.push(format!(
            "share [{name}]: path {path}: {error}; create it (mkdir)"
        )),
    }
    let lists = [
        &share.valid_users,
        &share.invalid_users,
        &share.read_list,
        &share.write_list,
    ];
    for listed in lists.into_iter().flatten() {
        match listed {
            NameMatch::Group(group) if !group_exists(group) => {
                warnings.push(format!(
                    "share [{name}]: group @{group} does not exist; nobody is in it"
                ));
            }
            NameMatch::User(user) if user.contains(['\\', '@']) && !account_exists(user) => {
                warnings.push(format!(
                    "share [{name}]: the name service knows no {user:?}; the entry means nobody"
                ));
            }
            _ => {}
        }
    }
    if !share.force_user.is_empty() && !account_exists(&share.force_user) {
        warnings.push(format!(
            "share [{name}]: force user {:?} does not exist",
            share.force_user
        ));
    }
    if !share.force_group.is_empty() && !group_exists(&share.force_group) {
        warnings.push(format!(
            "share [{name}]: force group {:?} does not exist",
            share.force_group
        ));
    }
}

fn user_file_warnings(path: &Path, warnings: &mut Vec<String>) {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            let mode = metadata.mode() & 0o7777;
            warnings.push(format!(
                "user file {shown} can be read by others (mode {mode:04o}) and will be refused; run `chmod 600 {shown}`"
            ));
        }
        Ok(_) => {}
        Err(error) => {
            warnings.push(format!(
                "user file {shown}: {error}; add a first user with `smbd passwd add NAME`"
            ));
        }
    }
}

fn account_exists(account: &str) -> bool {
    account.parse::<u32>().is_ok() || matches!(User::from_name(account), Ok(Some(_)))
}

fn group_exists(group: &str) -> bool {
    group.parse::<u32>().is_ok() || matches!(Group::from_name(group), Ok(Some(_)))
}
