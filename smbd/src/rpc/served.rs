//! What the pipes tell of this server: its names and the shares one user may see.

use proto::rpc::srvsvc::share::{ShareInfo, ShareType};
use proto::smb2::FileTime;

use crate::config::Config;

/// A view of the server, made for one pipe.
#[derive(Debug, Clone)]
pub struct Served {
    /// The NetBIOS name.
    pub server_name: String,
    /// `server string`.
    pub comment: String,
    /// The workgroup.
    pub workgroup: String,
    /// All that can be connected to, IPC$ among them.
    pub shares: Vec<ServedShare>,
    /// The clock, for NetrRemoteTOD.
    pub now: fn() -> FileTime,
}

/// One share.
#[derive(Debug, Clone)]
pub struct ServedShare {
    /// Its name.
    pub name: String,
    /// Its comment.
    pub comment: String,
    /// A directory or IPC$; administrative if the name ends in `$`.
    pub share_type: ShareType,
    /// Whether lists show it. Who knows its name may ask for it all the same.
    pub browseable: bool,
}

impl Served {
    /// What a configuration serves.
    pub fn of(config: &Config, now: fn() -> FileTime) -> Served {
        let global = &config.global;
        let mut shares: Vec<ServedShare> = config
            .shares
            .iter()
            .filter(|share| share.available)
            .map(|share| ServedShare {
                name: share.name.clone(),
                comment: share.comment.clone(),
                share_type: match share.name.ends_with('$') {
                    true => ShareType::DISK.special(),
                    false => ShareType::DISK,
                },
                browseable: share.browseable,
            })
            .collect();
        shares.push(ServedShare {
            name: "IPC$".into(),
            comment: format!("IPC Service ({})", global.server_string),
            share_type: ShareType::IPC.special(),
            browseable: true,
        });
        Served {
            server_name: global.server_name(),
            comment: global.server_string.clone(),
            workgroup: global.workgroup.clone(),
            shares,
            now,
        }
    }
}

impl ServedShare {
    pub(super) fn info(&self) -> ShareInfo<'_> {
        ShareInfo {
            name: &self.name,
            share_type: self.share_type,
            remark: &self.comment,
        }
    }
}
