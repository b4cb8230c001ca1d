//! The server's configuration: smb.conf syntax, Samba's names where the meaning is the same.
//!
//! Loaded once by the supervisor (and by `check-config`), then shared read-only as `Arc<Config>`.
//! `parameters` holds the one table of what may be said; this module puts the pieces together and
//! checks what only shows between them. Reads its one file and the host's name, nothing else.

mod error;
mod hosts;
mod interfaces;
mod parameters;
mod report;
mod syntax;
#[cfg(test)]
mod tests;
mod transports;
mod users;
mod values;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{ConfigErrors, ConfigProblem};
pub use hosts::{HostPattern, hosts_admit};
pub use interfaces::{InterfacePattern, InterfaceSpec};
pub use parameters::{Global, Parameter, RdmaSettings, Scope, Share, parameter_list};
pub use report::{CheckReport, check_config, describe_parameters};
pub use transports::{Transport, TransportSpec, Transports};
pub use users::{NameMatch, ShareRight};
pub use values::{
    CaseSensitive, KerberosMethod, LogLevel, MapToGuest, NtlmAuth, Protocol, RdmaDevices,
    ServerEncryption, ServerNameHardening, ServerSigning, ShareCompression,
};

use crate::security::ntlm::ServerNames;
use error::Problems;
use proto::control::status::ServerSettings;
use syntax::Section;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/smbdirect/smb.conf";

/// Far above any real file.
const MAX_FILE_LENGTH: u64 = 1 << 20;
/// MS-FSCC 2.1.6.
const MAX_SHARE_NAME: usize = 80;

/// A configuration without errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub global: Global,
    pub rdma: RdmaSettings,
    /// `hosts allow` and `hosts deny` of [global]: who may log on at all. A share's own lists come on
    /// top; without them it has these.
    pub hosts_allow: Vec<HostPattern>,
    /// See `hosts_allow`.
    pub hosts_deny: Vec<HostPattern>,
    /// In the file's order. IPC$ is not among them: it is always there.
    pub shares: Vec<Arc<Share>>,
}

impl Config {
    /// This file, or the usual one, or what counts where there is none.
    pub fn of(path: Option<&Path>) -> Result<Config, ConfigErrors> {
        match path {
            Some(path) => Config::load(path),
            None if Path::new(DEFAULT_PATH).exists() => Config::load(Path::new(DEFAULT_PATH)),
            None => Ok(Config::default()),
        }
    }

    /// Reads and checks a file. All that is wrong with it is told at once.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_LENGTH + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                ConfigErrors::single(
                    path,
                    None,
                    format!("{error}; name another file with --config"),
                )
            })?;
        if bytes.len() as u64 > MAX_FILE_LENGTH {
            let problem = "the file is longer than 1 MiB; is it an smb.conf?";
            return Err(ConfigErrors::single(path, None, problem.into()));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error
                .as_bytes()
                .get(..error.utf8_error().valid_up_to())
                .unwrap_or_default();
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigErrors::single(
                path,
                Some(line),
                "not UTF-8; convert the file with iconv".into(),
            )
        })?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigErrors> {
        let mut problems = Problems::new(path);
        let sections = syntax::sections(text, &mut problems);
        let mut config = Config::default();
        let mut share_defaults = Share::default();
        for section in sections.iter().filter(|section| section.is_global()) {
            read_global(section, &mut config, &mut share_defaults, &mut problems);
        }
        config.hosts_allow.clone_from(&share_defaults.hosts_allow);
        config.hosts_deny.clone_from(&share_defaults.hosts_deny);
        for section in sections.iter().filter(|section| !section.is_global()) {
            if let Some(share) = read_share(section, &share_defaults, &config, &mut problems) {
                config.shares.push(Arc::new(share));
            }
        }
        config.check(&sections, &mut problems);
        problems.finish(config)
    }

    /// A configuration without a file: these settings and a share for each name and directory.
    pub fn from_parts(
        global: Global,
        rdma: RdmaSettings,
        shares: impl IntoIterator<Item = (String, PathBuf)>,
    ) -> Result<Config, ConfigErrors> {
        let mut problems = Problems::new(Path::new("command line"));
        let mut config = Config {
            global,
            rdma,
            ..Config::default()
        };
        for (name, directory) in shares {
            if let Err(problem) = check_share_name(&name, &config) {
                problems.add(None, problem);
                continue;
            }
            if !directory.is_absolute() {
                problems.add(
                    None,
                    format!("share {name}: {directory:?} does not start with /"),
                );
                continue;
            }
            let share = Share {
                name,
                path: directory,
                read_only: false,
                ..Share::default()
            };
            config.shares.push(Arc::new(share));
        }
        config.check(&[], &mut problems);
        problems.finish(config)
    }

    /// The share of this name, whatever the letters' case. Not a share that is switched off
    /// (`available = no`).
    pub fn share(&self, name: &str) -> Option<&Arc<Share>> {
        self.shares
            .iter()
            .find(|share| same_name(&share.name, name) && share.available)
    }

    /// What concerns RDMA, for smbdirectd's commands.
    pub fn rdma_summary(&self) -> ServerSettings {
        let (global, rdma) = (&self.global, &self.rdma);
        let ports = global.server_smb_transports.rdma_ports();
        let socket = global.run_directory.join(crate::supervisor::STATUS_SOCKET);
        ServerSettings {
            status_socket: socket.display().to_string(),
            rdma: !ports.is_empty(),
            rdma_port: ports.into_iter().flatten().next(),
            rdma_devices: match &rdma.devices {
                RdmaDevices::All => Vec::new(),
                RdmaDevices::Named(names) => names.clone(),
            },
            multichannel: global.server_multi_channel_support,
            signing_required: global.server_signing == ServerSigning::Mandatory,
            encryption_required: global.server_smb_encrypt == ServerEncryption::Required,
            rdma_transform: rdma.transform,
            unprotected_payload: rdma.allow_unprotected_payload,
            memory_budget: rdma.memory_budget,
            memory_per_client: rdma.memory_per_client,
            max_connections: rdma.max_connections,
        }
    }

    /// What only shows when all settings are known.
    fn check(&self, sections: &[Section], problems: &mut Problems) {
        let line = |name: &str| {
            sections
                .iter()
                .filter(|section| section.is_global())
                .flat_map(|section| &section.settings)
                .find(|setting| setting.is(name))
                .map(|setting| setting.line)
        };
        let global = &self.global;
        if global.server_min_protocol > global.server_max_protocol {
            problems.add(
                line("server min protocol").or(line("server max protocol")),
                format!(
                    "server min protocol {} is above server max protocol {}",
                    global.server_min_protocol, global.server_max_protocol
                ),
            );
        }
        let dedicated = global.kerberos_method == KerberosMethod::DedicatedKeytab;
        let has_file = !global.dedicated_keytab_file.as_os_str().is_empty();
        if dedicated != has_file {
            problems.add(
                line("kerberos method").or(line("dedicated keytab file")),
                "kerberos method = dedicated keytab and dedicated keytab file = /… need each other"
                    .into(),
            );
        }
        if global.ntlm_auth == NtlmAuth::Disabled && !global.has_kerberos() {
            problems.add(
                line("ntlm auth"),
                "ntlm auth = disabled lets nobody in without Kerberos; set kerberos method to a keytab"
                    .into(),
            );
        }
        if self.rdma.memory_per_client > self.rdma.memory_budget {
            problems.add(
                line("rdma memory per client").or(line("rdma memory budget")),
                format!(
                    "rdma memory per client ({}) is more than rdma memory budget ({}), which all clients share",
                    self.rdma.memory_per_client, self.rdma.memory_budget
                ),
            );
        }
        if global.bind_interfaces_only && global.interfaces.is_empty() {
            problems.add(
                line("bind interfaces only"),
                "bind interfaces only = yes needs interfaces = … to say which".into(),
            );
        }
        if global.smbdirectd_user == global.broker_user && !global.broker_user.is_empty() {
            problems.add(
                line("broker user").or(line("smbdirectd user")),
                "broker user and smbdirectd user must differ: each keeps the other out of its memory".into(),
            );
        }
    }
}

impl Global {
    /// The NetBIOS name: as configured, else the host's name up to its first dot, 15 bytes at most.
    pub fn server_name(&self) -> String {
        if !self.netbios_name.is_empty() {
            return self.netbios_name.to_uppercase();
        }
        let host = nix::unistd::gethostname().unwrap_or_default();
        let host = host.to_string_lossy();
        let short: String = host
            .split('.')
            .next()
            .unwrap_or_default()
            .chars()
            .take(15)
            .collect();
        if short.is_empty() {
            "SMBDIRECT".into()
        } else {
            short.to_uppercase()
        }
    }

    /// The names a client is told when it logs on. A stand-alone server is its own domain.
    pub fn ntlm_names(&self) -> ServerNames {
        let netbios_name = self.server_name();
        let host = nix::unistd::gethostname().unwrap_or_default();
        let dns_name = host.to_string_lossy().to_lowercase();
        let dns_domain = dns_name
            .split_once('.')
            .map(|(_, domain)| domain.to_owned());
        ServerNames {
            netbios_domain: netbios_name.clone(),
            netbios_name,
            dns_domain: dns_domain.unwrap_or_default(),
            dns_name,
        }
    }

    /// Whether tickets are accepted.
    pub fn has_kerberos(&self) -> bool {
        cfg!(feature = "kerberos") && self.kerberos_method != KerberosMethod::SecretsOnly
    }

    /// The keytab that is not the system's, if it isn't.
    pub fn keytab(&self) -> Option<PathBuf> {
        (self.kerberos_method == KerberosMethod::DedicatedKeytab)
            .then(|| self.dedicated_keytab_file.clone())
    }

    /// Where users and their hashes stand.
    pub fn user_file(&self) -> PathBuf {
        match self.passdb_file.as_os_str().is_empty() {
            true => self.private_dir.join("users"),
            false => self.passdb_file.clone(),
        }
    }
}

fn read_global(
    section: &Section,
    config: &mut Config,
    share_defaults: &mut Share,
    problems: &mut Problems,
) {
    for setting in &section.settings {
        let outcome = match parameters::find(&setting.key) {
            None => Err(parameters::unknown(&setting.key)),
            Some(Parameter::Global(parameter)) => {
                parameter.set(&mut config.global, &setting.key, &setting.value)
            }
            Some(Parameter::Rdma(parameter)) => {
                parameter.set(&mut config.rdma, &setting.key, &setting.value)
            }
            Some(Parameter::Share(parameter)) if parameter.scope == Scope::Both => {
                parameter.set(share_defaults, &setting.key, &setting.value)
            }
            Some(Parameter::Share(parameter)) => Err(format!(
                "{:?} belongs in a share's section, not in [global]",
                parameter.name
            )),
        };
        if let Err(problem) = outcome {
            problems.add(Some(setting.line), problem);
        }
    }
}

fn read_share(
    section: &Section,
    defaults: &Share,
    config: &Config,
    problems: &mut Problems,
) -> Option<Share> {
    let mut share = Share {
        name: section.name.clone(),
        ..defaults.clone()
    };
    for setting in &section.settings {
        let outcome = match parameters::find_in_share(&setting.key) {
            None => Err(parameters::unknown(&setting.key)),
            Some(Parameter::Share(parameter)) => {
                let value = match parameter.name {
                    "path" | "comment" => setting.value.replace("%S", &section.name),
                    _ => setting.value.clone(),
                };
                parameter.set(&mut share, &setting.key, &value)
            }
            Some(other) => Err(format!(
                "{:?} belongs in [global], not in share [{}]",
                other.name(),
                section.name
            )),
        };
        if let Err(problem) = outcome {
            problems.add(Some(setting.line), problem);
        }
    }
    if let Err(problem) = check_share_name(&section.name, config) {
        problems.add(Some(section.line), problem);
        return None;
    }
    if !section.settings.iter().any(|setting| setting.is("path")) {
        let problem = format!(
            "share [{}] has no path; add path = /DIRECTORY",
            section.name
        );
        problems.add(Some(section.line), problem);
        return None;
    }
    Some(share)
}

fn check_share_name(name: &str, config: &Config) -> Result<(), String> {
    if name.chars().count() > MAX_SHARE_NAME {
        return Err(format!(
            "share name {name:?} is longer than {MAX_SHARE_NAME} characters"
        ));
    }
    let forbidden = |letter: char| letter.is_control() || "\\/:*?\"<>|[],;=+%".contains(letter);
    if name.is_empty() || name == "." || name == ".." || name.contains(forbidden) {
        return Err(format!(
            "share name {name:?} can't be used: it is empty, a dot name, or has one of \\ / : * ? \" < > | [ ] , ; = + %"
        ));
    }
    match name.to_lowercase().as_str() {
        "ipc$" => return Err("share IPC$ is always there; leave its section out".into()),
        "homes" | "printers" => {
            return Err(format!(
                "[{name}] is a special section of Samba, not known here; name each share"
            ));
        }
        _ => {}
    }
    if config
        .shares
        .iter()
        .any(|share| same_name(&share.name, name))
    {
        return Err(format!(
            "share [{name}] stands here a second time; put its settings together"
        ));
    }
    Ok(())
}

fn same_name(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}
