//! The one table of parameters: name, other names, type, default, an example, a line of help.
//!
//! The structs `Global`, `RdmaSettings` and `Share` are generated from it, so no setting can be in
//! one and not in the other. Readers of values stand in `values` and its neighbours.

use std::path::PathBuf;

use super::hosts::{HostPattern, hosts};
use super::interfaces::{InterfaceSpec, interfaces};
use super::syntax::normalized;
use super::transports::{Transports, transports};
use super::users::{NameMatch, names};
use super::values::*;

/// Where a parameter may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Global,
    Share,
    /// In a share, or in [global] as the default of all shares.
    Both,
}

/// One row, for settings kept in an `S`.
#[derive(Debug)]
pub struct Row<S> {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Names for the opposite of a yes or no.
    pub opposites: &'static [&'static str],
    pub scope: Scope,
    pub default: &'static str,
    pub example: &'static str,
    pub help: &'static str,
    read: fn(&mut S, &str) -> Result<(), String>,
    show: fn(&S) -> String,
}

impl<S> Row<S> {
    /// Sets the parameter, called `key` there, from `value`, or says what is allowed.
    pub(super) fn set(&self, settings: &mut S, key: &str, value: &str) -> Result<(), String> {
        let key = normalized(key);
        let opposite = self.opposites.iter().any(|name| normalized(name) == key);
        let outcome = if opposite {
            boolean(value).and_then(|yes| (self.read)(settings, &(!yes).show()))
        } else {
            (self.read)(settings, value)
        };
        outcome.map_err(|allowed| format!("{} = {value:?}: {allowed}", self.called(&key)))
    }

    /// The value as a file would give it.
    pub(super) fn show(&self, settings: &S) -> String {
        (self.show)(settings)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name)
            .chain(self.aliases.iter().copied())
            .chain(self.opposites.iter().copied())
    }

    fn called(&self, key: &str) -> &'static str {
        self.names()
            .find(|name| normalized(name) == key)
            .unwrap_or(self.name)
    }
}

/// A row of any of the three tables.
#[derive(Clone, Copy, Debug)]
pub enum Parameter {
    Global(&'static Row<Global>),
    Rdma(&'static Row<RdmaSettings>),
    Share(&'static Row<Share>),
}

impl Parameter {
    pub fn name(&self) -> &'static str {
        match self {
            Parameter::Global(row) => row.name,
            Parameter::Rdma(row) => row.name,
            Parameter::Share(row) => row.name,
        }
    }

    pub fn scope(&self) -> Scope {
        match self {
            Parameter::Global(row) => row.scope,
            Parameter::Rdma(row) => row.scope,
            Parameter::Share(row) => row.scope,
        }
    }

    /// Default, example and help.
    pub fn describe(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Parameter::Global(row) => (row.default, row.example, row.help),
            Parameter::Rdma(row) => (row.default, row.example, row.help),
            Parameter::Share(row) => (row.default, row.example, row.help),
        }
    }

    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Parameter::Global(row) => row.names().collect(),
            Parameter::Rdma(row) => row.names().collect(),
            Parameter::Share(row) => row.names().collect(),
        }
    }
}

/// Every parameter there is.
pub fn parameter_list() -> impl Iterator<Item = Parameter> {
    let global = GLOBAL_ROWS.iter().map(Parameter::Global);
    let rdma = RDMA_ROWS.iter().map(Parameter::Rdma);
    global
        .chain(rdma)
        .chain(SHARE_ROWS.iter().map(Parameter::Share))
}

/// The parameter of this name, or another name for it.
pub(super) fn find(key: &str) -> Option<Parameter> {
    let key = normalized(key);
    parameter_list().find(|parameter| parameter.names().iter().any(|name| normalized(name) == key))
}

/// As [`find`], for a share's section: some names mean another thing there than in [global].
pub(super) fn find_in_share(key: &str) -> Option<Parameter> {
    let normal = normalized(key);
    let mut rows = SHARE_ROWS.iter();
    let of_share = rows.find(|row| row.names().any(|name| normalized(name) == normal));
    of_share.map(Parameter::Share).or_else(|| find(key))
}

/// What to say of a name nobody knows.
pub(super) fn unknown(key: &str) -> String {
    let wanted = normalized(key);
    let nearest = parameter_list()
        .flat_map(|parameter| parameter.names())
        .map(|name| (edit_distance(&wanted, &normalized(name)), name))
        .min();
    match nearest {
        Some((distance, name)) if distance <= 1 + wanted.chars().count() / 4 => {
            format!("unknown parameter {key:?}; did you mean {name:?}?")
        }
        _ => format!("unknown parameter {key:?}; `smbd check-config --list` shows all there are"),
    }
}

/// Levenshtein's. Long keys are not worth the work: nothing is near them.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    if left.len() > 64 {
        return usize::MAX;
    }
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for ((other, above_left), above) in right.iter().zip(&previous).zip(previous.iter().skip(1))
        {
            let replaced = above_left + usize::from(letter != *other);
            let inserted = current.last().map_or(usize::MAX, |left| left + 1);
            current.push(replaced.min(inserted).min(above + 1));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(usize::MAX)
}

/// Makes a struct, its default and its rows of one table.
macro_rules! parameters {
    (
        $(#[$doc:meta])* pub struct $settings:ident { $($(#[$extra_doc:meta])* $extra:ident: $extra_type:ty,)* } rows $rows:ident;
        $(
            $field:ident: $type:ty = $default:literal, $name:literal
            $(| $alias:literal)* $(! $opposite:literal)*
            , $scope:ident, $read:expr, example $example:literal: $help:literal;
        )+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $settings {
            $($(#[$extra_doc])* pub $extra: $extra_type,)*
            $(#[doc = concat!("`", $name, "`: ", $help, ".")] pub $field: $type,)+
        }

        impl Default for $settings {
            fn default() -> Self {
                $settings {
                    $($extra: Default::default(),)*
                    $($field: $read($default).expect("the table's defaults are valid"),)+
                }
            }
        }

        pub(super) static $rows: &[Row<$settings>] = &[$(Row {
            name: $name,
            aliases: &[$($alias),*],
            opposites: &[$($opposite),*],
            scope: Scope::$scope,
            default: $default,
            example: $example,
            help: $help,
            read: |settings, text| {
                settings.$field = $read(text)?;
                Ok(())
            },
            show: |settings| settings.$field.show(),
        },)+];
    };
}

parameters! {
    /// Settings of the whole server.
    pub struct Global {} rows GLOBAL_ROWS;

    workgroup: String = "WORKGROUP", "workgroup", Global, netbios_name, example "OFFICE":
        "workgroup told to clients";
    netbios_name: String = "", "netbios name", Global, netbios_name, example "FILES":
        "the server's name; empty is the host's name";
    server_string: String = "smbdirect", "server string", Global, text, example "files of the lab":
        "description of the server";
    server_min_protocol: Protocol = "SMB2_02", "server min protocol" | "min protocol", Global, protocol, example "SMB3_00":
        "oldest dialect spoken";
    server_max_protocol: Protocol = "SMB3_11", "server max protocol" | "max protocol" | "protocol", Global, protocol, example "SMB3_02":
        "newest dialect spoken";
    server_signing: ServerSigning = "auto", "server signing", Global, server_signing, example "mandatory":
        "whether sessions must be signed: auto, mandatory, disabled";
    server_smb_encrypt: ServerEncryption = "if_required", "server smb encrypt" | "smb encrypt", Global, server_encryption, example "required":
        "whether sessions are encrypted (3.0 and later): off, if_required, desired, required";
    server_multi_channel_support: bool = "yes", "server multi channel support", Global, boolean, example "no":
        "lets one client use several connections at once";
    interfaces: Vec<InterfaceSpec> = "", "interfaces", Global, interfaces, example "eth* \"10.0.0.1;speed=100000000000,capability=RDMA\"":
        "interfaces served and told to clients: names, addresses, networks; empty is all but loopback";
    bind_interfaces_only: bool = "no", "bind interfaces only", Global, boolean, example "no":
        "listens on the addresses of interfaces alone";
    server_smb_transports: Transports = "", "server smb transports" | "smb ports", Global, transports, example "tcp, rdma":
        "tcp, rdma, or both, with ports behind a colon; empty is tcp, and rdma where a device exists";
    smb2_max_read: u32 = "8388608", "smb2 max read", Global, size_32::<65_536, 8_388_608>, example "1048576":
        "most bytes of one READ; over TCP at most 1 MiB";
    smb2_max_write: u32 = "8388608", "smb2 max write", Global, size_32::<65_536, 8_388_608>, example "1M":
        "most bytes of one WRITE; over TCP at most 1 MiB";
    smb2_max_trans: u32 = "1048576", "smb2 max trans", Global, size_32::<65_536, 8_388_608>, example "8M":
        "most bytes of one QUERY_DIRECTORY, QUERY_INFO, SET_INFO or IOCTL";
    smb2_max_credits: u32 = "8192", "smb2 max credits", Global, number::<128, 32_768>, example "512":
        "most requests a client may have under way on a connection";
    map_to_guest: MapToGuest = "never", "map to guest", Global, map_to_guest, example "bad user":
        "who becomes the guest account: never, or bad user (users that do not exist)";
    restrict_anonymous: u32 = "0", "restrict anonymous", Global, number::<0, 2>, example "2":
        "2 lets nobody in without a name; 0 and 1 do where map to guest makes guests";
    ntlm_auth: NtlmAuth = "ntlmv2-only", "ntlm auth", Global, ntlm_auth, example "ntlmv2-only":
        "which passwords' proofs are accepted: ntlmv2-only, or disabled (Kerberos alone)";
    kerberos_method: KerberosMethod = "secrets only", "kerberos method", Global, kerberos_method, example "system keytab":
        "whose keys judge Kerberos tickets: secrets only (none, so no Kerberos), system keytab, dedicated keytab";
    dedicated_keytab_file: PathBuf = "", "dedicated keytab file", Global, optional_file, example "":
        "the keytab of kerberos method = dedicated keytab, root's alone";
    realm: String = "", "realm", Global, realm, example "EXAMPLE.ORG":
        "Kerberos realm whose users log on by their names; empty is by auth_to_local of krb5.conf";
    server_name_hardening: ServerNameHardening = "off", "server name hardening", Global, server_name_hardening, example "required":
        "whether the server a client's NTLM proof names must be this one: off, if_present, required";
    netbios_aliases: Vec<String> = "", "netbios aliases" | "additional dns hostnames", Global, host_names, example "files, files.example.org":
        "further names of this server, for server name hardening";
    guest_account: String = "nobody", "guest account", Global, account, example "ftp":
        "Unix account of guests";
    failed_logon_delay: u32 = "2", "failed logon delay", Global, number::<0, 60>, example "5":
        "seconds after which a failed logon is answered, and its user tried again from that address; 0 is none";
    deadtime: u32 = "10080", "deadtime", Global, number::<0, 1_000_000>, example "15":
        "minutes after which a connection with no open file is closed; 0 is never";
    private_dir: PathBuf = "/var/lib/smbdirect/private", "private dir" | "private directory", Global, directory, example "/var/lib/files/private":
        "directory of secrets, root's alone";
    state_directory: PathBuf = "/var/lib/smbdirect", "state directory", Global, directory, example "/var/lib/files":
        "directory of what outlives a restart";
    run_directory: PathBuf = "/run/smbdirect", "lock directory" | "lock dir" | "pid directory", Global, directory, example "/run/files":
        "directory of sockets and the process id";
    passdb_file: PathBuf = "", "passdb file", Global, optional_file, example "/etc/smbdirect/users":
        "users and their hashes, made by smbd passwd; empty is users in private dir";
    log_level: LogLevel = "info", "log level" | "debuglevel", Global, log_level, example "debug":
        "error, warn, info, debug or trace";
    smbtorture: bool = "no", "smbd:FSCTL_SMBTORTURE", Global, boolean, example "no":
        "lets smbtorture change how the server answers it; for tests alone";
    smbdirectd_user: String = "", "smbdirectd user", Global, account, example "smbdirectd":
        "Unix account of smbdirectd; empty is a number of its own";
    broker_user: String = "", "broker user", Global, account, example "smbd-broker":
        "Unix account of the broker; empty is a number of its own";
}

parameters! {
    /// Settings of SMB Direct. Whether it is on at all, `server smb transports` says.
    pub struct RdmaSettings {} rows RDMA_ROWS;

    devices: RdmaDevices = "all", "rdma devices", Global, rdma_devices, example "mlx5_0, mlx5_1":
        "devices used: all, or their names";
    max_connections: u32 = "1024", "rdma max connections", Global, number::<1, 65_536>, example "64":
        "most SMB Direct connections at once";
    memory_budget: u64 = "1G", "rdma memory budget", Global, size::<16_777_216, 17_592_186_044_416>, example "4G":
        "most memory pinned for all clients";
    memory_per_client: u64 = "128M", "rdma memory per client", Global, size::<1_048_576, 1_099_511_627_776>, example "64M":
        "most memory pinned for one client";
    receive_credits: u32 = "255", "rdma receive credits", Global, number::<10, 4_096>, example "64":
        "messages a client may send before it is granted more";
    max_read_write_size: u32 = "8M", "rdma max read write size", Global, size_32::<65_536, 16_777_216>, example "1M":
        "most bytes moved by RDMA for one request";
    keepalive_interval: u32 = "120", "rdma keepalive interval", Global, number::<1, 3_600>, example "60":
        "seconds of silence after which a client is asked for a sign of life; it has 5 s to give one";
    allow_unprotected_payload: bool = "no", "rdma allow unprotected payload", Global, boolean, example "no":
        "lets signed or encrypted sessions move payload by RDMA unsigned and unencrypted";
    transform: bool = "yes", "rdma transform", Global, boolean, example "no":
        "signs or encrypts the payload of such sessions by RDMA, for clients that can; without, it moves inside messages";
}

parameters! {
    /// One share.
    pub struct Share {
        /// As its section is called.
        name: String,
    } rows SHARE_ROWS;

    path: PathBuf = "/", "path" | "directory", Share, directory, example "/srv/%S":
        "directory served; %S is the share's name";
    comment: String = "", "comment", Share, text, example "music, mostly":
        "description shown when browsing";
    read_only: bool = "yes", "read only" ! "writeable" ! "writable" ! "write ok", Both, boolean, example "no":
        "nothing can be changed";
    guest_ok: bool = "no", "guest ok" | "public", Both, boolean, example "yes":
        "guests may connect";
    browseable: bool = "yes", "browseable" | "browsable", Both, boolean, example "no":
        "the share is listed when browsing";
    available: bool = "yes", "available", Both, boolean, example "no":
        "the share can be connected to";
    valid_users: Vec<NameMatch> = "", "valid users", Both, names, example "alice, @staff":
        "users and @groups that may connect; empty is all";
    invalid_users: Vec<NameMatch> = "", "invalid users", Both, names, example "root @wheel":
        "users and @groups that may not connect";
    read_list: Vec<NameMatch> = "", "read list", Both, names, example "@guests":
        "users and @groups that may only read";
    write_list: Vec<NameMatch> = "", "write list", Both, names, example "bob, @editors":
        "users and @groups that may write though the share is read only";
    force_user: String = "", "force user", Both, account, example "www-data":
        "Unix account all files are accessed as";
    force_group: String = "", "force group" | "group", Both, account, example "www-data":
        "Unix group all files are accessed as";
    create_mask: Mode = "0744", "create mask" | "create mode", Both, mode, example "0640":
        "permission bits a new file can get";
    directory_mask: Mode = "0755", "directory mask" | "directory mode", Both, mode, example "2770":
        "permission bits a new directory can get";
    hide_dot_files: bool = "yes", "hide dot files", Both, boolean, example "no":
        "names that start with a dot get the hidden attribute";
    case_sensitive: CaseSensitive = "auto", "case sensitive", Both, case_sensitive, example "yes":
        "whether names differ by letter case: yes, no, or auto (as the client says)";
    follow_symlinks: bool = "yes", "follow symlinks", Both, boolean, example "no":
        "follows symbolic links that stay within the share; others never";
    oplocks: bool = "no", "oplocks", Both, boolean, example "yes":
        "clients may keep a file they alone have open in their memory; only where nobody changes it but over SMB";
    smb_encrypt: ServerEncryption = "if_required", "smb encrypt" | "server smb encrypt", Share, server_encryption, example "required":
        "whether this share is used encrypted, beside what [global] says of sessions: off, if_required, desired, required";
    smb3_compression: ShareCompression = "if_required", "smb3 compression", Both, share_compression, example "off":
        "whether data travels compressed (3.1.1): off, if_required (as the client asks), desired; off for every share is not negotiated";
    hosts_allow: Vec<HostPattern> = "", "hosts allow" | "allow hosts", Both, hosts, example "10.0.0.0/24 192.168. fd00::1":
        "addresses and networks that may connect; in [global] also, that may log on";
    hosts_deny: Vec<HostPattern> = "", "hosts deny" | "deny hosts", Both, hosts, example "ALL":
        "addresses and networks that may not connect; in [global] also, that may not log on";
}
