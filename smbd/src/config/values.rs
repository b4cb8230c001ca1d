//! Readers of values: from text to a type, or a sentence saying what is allowed instead. And the
//! way back.
//!
//! Called through the table in `parameters`. Pure.

use std::fmt;
use std::path::PathBuf;

use proto::smb2::Dialect;

/// How a value looks in a file. `check-config` prints what differs from the default this way.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl Show for bool {
    fn show(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

impl Show for PathBuf {
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map(Show::show).unwrap_or_default()
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> String {
        self.iter().map(Show::show).collect::<Vec<_>>().join(", ")
    }
}

/// Types whose `Display` is their form in a file.
macro_rules! show_as_displayed {
    ($($type:ty),*) => { $(impl Show for $type {
        fn show(&self) -> String {
            self.to_string()
        }
    })* };
}
show_as_displayed!(
    String,
    u16,
    u32,
    u64,
    Mode,
    ServerEncryption,
    ServerSigning,
    Protocol,
    MapToGuest,
    NtlmAuth,
    KerberosMethod,
    ServerNameHardening,
    CaseSensitive,
    ShareCompression,
    LogLevel,
    RdmaDevices
);

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" | "on" => Ok(true),
        "no" | "false" | "0" | "off" => Ok(false),
        _ => Err("allowed are yes, no, true, false, on, off, 1 and 0".into()),
    }
}

pub(super) fn text(text: &str) -> Result<String, String> {
    no_macro(text)?;
    if text.chars().any(char::is_control) {
        return Err("control characters are not allowed".into());
    }
    Ok(text.to_owned())
}

/// The name of a Unix account or group, or a number, or nothing.
pub(super) fn account(text: &str) -> Result<String, String> {
    no_macro(text)?;
    if text.contains(|letter: char| {
        letter.is_whitespace() || letter.is_control() || ":,@".contains(letter)
    }) {
        return Err("allowed is one account's name or number".into());
    }
    Ok(text.to_owned())
}

/// Names of this machine: one or several, letters' case aside.
pub(super) fn host_names(text: &str) -> Result<Vec<String>, String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let names = list(text)?;
    match names.iter().all(|name| name.chars().all(allowed)) {
        true => Ok(names),
        false => Err("allowed are names of hosts, with letters, digits and - _ .".into()),
    }
}

/// A Kerberos realm, or nothing.
pub(super) fn realm(text: &str) -> Result<String, String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    match text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("allowed is a realm such as EXAMPLE.ORG".into()),
    }
}

/// A NetBIOS name, or nothing.
pub(super) fn netbios_name(text: &str) -> Result<String, String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.!$#@()".contains(letter);
    if text.len() > 15 || !text.chars().all(allowed) {
        return Err("allowed are at most 15 letters, digits and - _ . ! $ # @ ( )".into());
    }
    Ok(text.to_owned())
}

pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    no_macro(text)?;
    if !text.starts_with('/') || text.contains('\0') {
        return Err("allowed is a path that starts with /".into());
    }
    Ok(PathBuf::from(text))
}

/// A path, or nothing.
pub(super) fn optional_file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Ok(PathBuf::new())
    } else {
        directory(text)
    }
}

pub(super) fn number<const MIN: u32, const MAX: u32>(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("allowed is a number from {MIN} to {MAX}")),
    }
}

/// A number of bytes: plain, or with K, M, G or T behind it.
pub(super) fn size<const MIN: u64, const MAX: u64>(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 30),
        Some((at, 't' | 'T')) => (text.get(..at), 40),
        _ => (Some(text), 0),
    };
    let number = digits.and_then(|digits| digits.trim().parse::<u64>().ok());
    match number.and_then(|number| number.checked_mul(1 << shift)) {
        Some(bytes) if (MIN..=MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "allowed are {MIN} to {MAX} bytes, also written with K, M, G or T"
        )),
    }
}

/// `size` for protocol fields of 32 bits.
pub(super) fn size_32<const MIN: u64, const MAX: u64>(text: &str) -> Result<u32, String> {
    size::<MIN, MAX>(text).and_then(|bytes| u32::try_from(bytes).map_err(|error| error.to_string()))
}

/// Permission bits of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

pub(super) fn mode(text: &str) -> Result<Mode, String> {
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 && !text.starts_with('+') => Ok(Mode(bits)),
        _ => Err("allowed are permission bits in octal, 0000 to 7777".into()),
    }
}

/// Splits a list at blanks, commas and semicolons, as Samba does; quotes keep an item together.
pub(super) fn list(text: &str) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let mut quoted = false;
    let mut has_quotes = false;
    for letter in text.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                has_quotes = true;
            }
            _ if !quoted && (letter.is_whitespace() || letter == ',' || letter == ';') => {
                if has_quotes || !item.is_empty() {
                    items.push(std::mem::take(&mut item));
                }
                has_quotes = false;
            }
            _ => item.push(letter),
        }
    }
    if quoted {
        return Err("a quote is opened and not closed".into());
    }
    if has_quotes || !item.is_empty() {
        items.push(item);
    }
    Ok(items)
}

/// A dialect by Samba's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Smb202,
    Smb210,
    Smb300,
    Smb302,
    Smb311,
}

impl Protocol {
    pub fn dialect(self) -> Dialect {
        match self {
            Protocol::Smb202 => Dialect::Smb202,
            Protocol::Smb210 => Dialect::Smb210,
            Protocol::Smb300 => Dialect::Smb300,
            Protocol::Smb302 => Dialect::Smb302,
            Protocol::Smb311 => Dialect::Smb311,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Smb202 => "SMB2_02",
            Protocol::Smb210 => "SMB2_10",
            Protocol::Smb300 => "SMB3_00",
            Protocol::Smb302 => "SMB3_02",
            Protocol::Smb311 => "SMB3_11",
        })
    }
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "SMB2_02" => Ok(Protocol::Smb202),
        "SMB2" | "SMB2_10" => Ok(Protocol::Smb210),
        "SMB3_00" => Ok(Protocol::Smb300),
        "SMB3_02" => Ok(Protocol::Smb302),
        "SMB3" | "SMB3_11" => Ok(Protocol::Smb311),
        _ => Err(
            "allowed are SMB2_02, SMB2_10 (or SMB2), SMB3_00, SMB3_02 and SMB3_11 (or SMB3)".into(),
        ),
    }
}

/// Declares an enum, its reader and its form in a file, from one list of words; the first word of a
/// variant is shown.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $reader:ident, $allowed:literal: $($(#[$variant_doc:meta])* $variant:ident = $first:literal $(| $other:literal)*,)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $($name::$variant => $first,)+ })
            }
        }

        pub(super) fn $reader(text: &str) -> Result<$name, String> {
            match text.to_ascii_lowercase().as_str() {
                $($first $(| $other)* => Ok($name::$variant),)+
                _ => Err(concat!("allowed are ", $allowed).into()),
            }
        }
    };
}

words! {
    /// Whether sessions must be signed. Every server offers it (MS-SMB2 2.2.4), even one with
    /// `Disabled`.
    ServerSigning, server_signing, "default, auto, mandatory and disabled":
    /// A client that asks for signing gets it.
    Auto = "auto" | "default",
    /// A client that does not sign gets no session.
    Mandatory = "mandatory" | "required" | "force",
    Disabled = "disabled",
}

words! {
    /// Whether sessions are encrypted.
    ServerEncryption, server_encryption, "off, if_required, desired and required":
    /// A client that asks for encryption gets it.
    IfRequired = "if_required" | "default" | "auto" | "enabled",
    /// Nobody gets it.
    Off = "off" | "no" | "false" | "disabled",
    /// A client that can is told to encrypt.
    Desired = "desired",
    /// A client that can't encrypt gets no session.
    Required = "required" | "mandatory" | "force",
}

words! {
    /// Who becomes the guest account.
    MapToGuest, map_to_guest, "never and bad user":
    Never = "never",
    /// A client naming a user that does not exist. A wrong password is refused all the same.
    BadUser = "bad user",
}

words! {
    /// Whether passwords are a proof at all. NTLMv1 and LM never are.
    NtlmAuth, ntlm_auth, "ntlmv2-only and disabled; NTLMv1 and LM are never accepted":
    NtlmV2Only = "ntlmv2-only" | "no",
    /// Kerberos or nothing.
    Disabled = "disabled",
}

words! {
    /// Where the keys are that Kerberos tickets are judged with.
    KerberosMethod, kerberos_method, "secrets only (no Kerberos), system keytab and dedicated keytab":
    /// There is no other store of machine secrets here, so: nowhere.
    SecretsOnly = "secrets only" | "default",
    SystemKeytab = "system keytab" | "secrets and keytab",
    DedicatedKeytab = "dedicated keytab",
}

words! {
    /// How much of the name a client wants to log on to must be this server's.
    ServerNameHardening, server_name_hardening, "off, if_present and required":
    /// The kind of service.
    Off = "off" | "no",
    IfPresent = "if_present" | "accept",
    Required = "required" | "mandatory",
}

words! {
    /// Whether names that differ in letter case are different names.
    CaseSensitive, case_sensitive, "auto, yes and no":
    /// By what the client says it can do.
    Auto = "auto",
    Yes = "yes" | "true" | "1" | "on",
    No = "no" | "false" | "0" | "off",
}

words! {
    /// Whether messages with a share's data are compressed.
    ShareCompression, share_compression, "off, if_required and desired":
    /// A client that asks for a compressed answer gets it.
    IfRequired = "if_required" | "default" | "auto" | "yes" | "true",
    /// Nothing is.
    Off = "off" | "no" | "false" | "disabled",
    /// Clients are told to compress.
    Desired = "desired",
}

words! {
    /// What is logged.
    LogLevel, log_level, "error, warn, info, debug and trace, or Samba's 0 (error) to 10 (trace)":
    Error = "error" | "0",
    Warn = "warn" | "1",
    Info = "info" | "2" | "3",
    Debug = "debug" | "4" | "5" | "6" | "7" | "8" | "9",
    Trace = "trace" | "10",
}

/// Which RDMA devices are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdmaDevices {
    All,
    Named(Vec<String>),
}

impl RdmaDevices {
    pub fn includes(&self, device: &str) -> bool {
        match self {
            RdmaDevices::All => true,
            RdmaDevices::Named(names) => names.iter().any(|name| name == device),
        }
    }
}

impl fmt::Display for RdmaDevices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdmaDevices::All => formatter.write_str("all"),
            RdmaDevices::Named(names) => formatter.write_str(&names.join(", ")),
        }
    }
}

pub(super) fn rdma_devices(text: &str) -> Result<RdmaDevices, String> {
    let names = list(text)?;
    let is_device = |name: &String| {
        !name.is_empty()
            && name.len() < 64
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
    };
    match names.as_slice() {
        [all] if all.eq_ignore_ascii_case("all") => Ok(RdmaDevices::All),
        [] => Err("allowed are all, or names of devices (see `rdma link`)".into()),
        _ if names.iter().all(is_device) => Ok(RdmaDevices::Named(names)),
        _ => Err("allowed are all, or names of devices (see `rdma link`)".into()),
    }
}

/// A value with a % in it would mean something else in Samba than here.
pub(super) fn no_macro(text: &str) -> Result<(), String> {
    match text.find('%') {
        None => Ok(()),
        Some(at) => {
            let found: String = text.get(at..).unwrap_or_default().chars().take(2).collect();
            Err(format!(
                "{found:?} is not replaced here; only %S, in path and comment of a share, is"
            ))
        }
    }
}
