//! Who this server is to its clients: the GUID and the times of NEGOTIATE, the names of NTLM.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use proto::smb2::{FileTime, Guid};

use crate::config::Config;
use crate::security::ntlm::ServerNames;

/// Told to every client alike, whichever process serves it.
#[derive(Debug, Clone)]
pub struct ServerIdentity {
    /// ServerGuid (MS-SMB2 3.3.1.5).
    pub guid: Guid,
    /// Names in NTLM's challenge.
    pub names: ServerNames,
}

impl ServerIdentity {
    /// Made of the machine's identity and the server's name, so that every child of every run
    /// says the same: a client compares the GUIDs of its channels.
    pub fn of(config: &Config) -> ServerIdentity {
        let name = config.global.server_name();
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"smbdirect server GUID");
        context.update(&machine);
        context.update(name.as_bytes());
        let mut guid = [0; 16];
        guid.iter_mut()
            .zip(context.finish().as_ref())
            .for_each(|(byte, digest)| *byte = *digest);
        ServerIdentity {
            guid: Guid(guid),
            names: ServerNames {
                netbios_domain: name.clone(),
                dns_name: name.to_lowercase(),
                dns_domain: String::new(),
                netbios_name: name,
            },
        }
    }
}

/// The time now.
pub fn now() -> FileTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    FileTime::from_unix(
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        since.subsec_nanos(),
    )
}
