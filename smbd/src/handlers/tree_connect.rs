//! TREE_CONNECT (MS-SMB2 3.3.5.7): a session begins to use a share.
//!
//! Who may is the configuration's: hosts, users, groups, guests. Group and account look-ups may
//! block, so the decision is made on the pool.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use nix::unistd::{Gid, Group, User};
use proto::smb2::tree_connect::{
    ShareCapabilities, ShareFlags, ShareType, TreeConnectRequest, TreeConnectResponse,
};
use proto::smb2::{AccessMask, Dialect, NtStatus, utf16};

use super::{Context, Response, malformed};
use crate::config::{ServerEncryption, Share, ShareCompression, ShareRight, hosts_admit};
use crate::refusals::Refusals;
use crate::security::spnego::LogonKind;
use crate::security::users::Identity;
use crate::state::{Session, Tree, TreeKind};
use crate::sys::pool::RunAs;
use crate::vfs;

/// What IPC$ gives: pipes are opened for reading and writing.
const PIPE_ACCESS: AccessMask = AccessMask::FILE_ALL_ACCESS;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = TreeConnectRequest::decode(request).map_err(malformed)?;
    let session = cx.session()?;
    // MS-SMB2 3.3.5.7: a downgrade would show here first.
    if cx.connection.dialect() == Some(Dialect::Smb311)
        && !session.is_guest()
        && !cx.header.is_signed()
        && !cx.encrypted
    {
        cx.connection
            .end("a TREE_CONNECT of dialect 3.1.1 neither signed nor encrypted (MS-SMB2 3.3.5.7)");
        return Err(NtStatus::ACCESS_DENIED);
    }
    let path = utf16::decode(request.path, "PathName").map_err(|_| NtStatus::BAD_NETWORK_NAME)?;
    let mut compression = ShareCompression::Off;
    let name = share_name(&path).ok_or(NtStatus::BAD_NETWORK_NAME)?;
    let tree = if name.eq_ignore_ascii_case("IPC$") {
        session.trees.add(|id| Tree {
            id,
            kind: TreeKind::Pipe,
            identity: Arc::clone(&session.user().identity),
            maximal_access: PIPE_ACCESS,
            read_only: false,
            compress: false,
            encrypt_data: false,
            ended: Default::default(),
        })?
    } else {
        let share = cx.child.config.share(name).cloned().ok_or_else(|| {
            refused(
                cx,
                session,
                name,
                "there is no such share",
                NtStatus::BAD_NETWORK_NAME,
            )
        })?;
        compression = share.smb3_compression;
        let access = decide(cx, session, share)
            .await?
            .map_err(|(why, status)| refused(cx, session, name, why, status))?;
        session.trees.add(|id| Tree {
            id,
            kind: TreeKind::Disk(access.files),
            identity: access.identity,
            maximal_access: access.maximal,
            read_only: access.read_only,
            compress: compression != ShareCompression::Off,
            encrypt_data: access.encrypt_data,
            ended: Default::default(),
        })?
    };
    let mut share_flags = ShareFlags::empty();
    share_flags.set(ShareFlags::NO_CACHING, tree.is_pipe());
    share_flags.set(ShareFlags::ENCRYPT_DATA, tree.encrypt_data);
    // MS-SMB2 3.3.5.7: clients are told to compress only where it was negotiated.
    share_flags.set(
        ShareFlags::COMPRESS_DATA,
        compression == ShareCompression::Desired && cx.connection.compression().is_some(),
    );
    let mut body = Vec::new();
    TreeConnectResponse {
        share_type: match tree.kind {
            TreeKind::Disk(_) => ShareType::Disk,
            TreeKind::Pipe => ShareType::Pipe,
        },
        share_flags,
        capabilities: ShareCapabilities::empty(),
        maximal_access: tree.maximal_access,
    }
    .encode(&mut body);
    let mut response = Response::of(body);
    response.header.tree = Some(tree.id);
    Ok(response)
}

/// The session's user is another: what its tree connects may be used for is decided again. One that
/// the new user could not have made opens nothing; what is open stays as it is.
pub async fn decide_again(cx: &Context, session: &Session) -> Result<(), NtStatus> {
    for tree in session.trees.all() {
        let denied = Tree {
            id: tree.id,
            kind: tree.kind.clone(),
            identity: Arc::clone(&session.user().identity),
            maximal_access: AccessMask::empty(),
            read_only: true,
            compress: tree.compress,
            encrypt_data: tree.encrypt_data,
            ended: Rc::clone(&tree.ended),
        };
        let again = match &tree.kind {
            TreeKind::Pipe => Tree {
                maximal_access: tree.maximal_access,
                read_only: tree.read_only,
                ..denied
            },
            TreeKind::Disk(files) => match cx.child.config.share(files.name()).cloned() {
                None => denied,
                Some(share) => match decide(cx, session, share).await? {
                    Ok(access) => Tree {
                        kind: TreeKind::Disk(access.files),
                        identity: access.identity,
                        maximal_access: access.maximal,
                        read_only: access.read_only,
                        ..denied
                    },
                    Err((why, status)) => {
                        refused(cx, session, files.name(), why, status);
                        denied
                    }
                },
            },
        };
        session.trees.replace(again);
    }
    Ok(())
}

async fn decide(
    cx: &Context,
    session: &Session,
    share: Arc<Share>,
) -> Result<Result<Access, Refused>, NtStatus> {
    let user = session.user();
    let question = Question {
        share,
        identity: Arc::clone(&user.identity),
        user: user.name.clone(),
        guest: user.kind != LogonKind::User,
        can_encrypt: session.cipher.is_some() && user.kind == LogonKind::User,
        peer: cx.connection.channel.peer().ip(),
        refusals: Arc::clone(cx.connection.refusals()),
    };
    Ok(cx
        .child
        .pool
        .run(RunAs::Server, move || question.decide())
        .await?)
}

/// The share of `\\server\share`; any server name is ours (MS-SMB2 3.3.5.7).
fn share_name(path: &str) -> Option<&str> {
    let (server, share) = path.strip_prefix("\\\\")?.split_once('\\')?;
    (!server.is_empty() && !share.is_empty() && !share.contains('\\')).then_some(share)
}

fn refused(cx: &Context, session: &Session, share: &str, why: &str, status: NtStatus) -> NtStatus {
    tracing::warn!(
        peer = %cx.connection.channel.peer(),
        user = ?session.user().name,
        ?share,
        why,
        "a share is refused"
    );
    status
}

/// Everything the decision depends on, for a pool thread.
struct Question {
    share: Arc<Share>,
    identity: Arc<Identity>,
    user: String,
    guest: bool,
    can_encrypt: bool,
    peer: IpAddr,
    refusals: Arc<Refusals>,
}

/// What a tree connect is given.
struct Access {
    files: Arc<vfs::Share>,
    identity: Arc<Identity>,
    maximal: AccessMask,
    read_only: bool,
    encrypt_data: bool,
}

type Refused = (&'static str, NtStatus);

impl Question {
    fn decide(self) -> Result<Access, Refused> {
        let share = &self.share;
        let denied = |why| (why, NtStatus::ACCESS_DENIED);
        if !hosts_admit(&share.hosts_allow, &share.hosts_deny, self.peer) {
            return Err(denied("hosts allow and hosts deny keep this address out"));
        }
        if self.guest && !share.guest_ok {
            return Err(denied("guests may not connect (guest ok = no)"));
        }
        let encrypt_data = match share.smb_encrypt {
            ServerEncryption::Off | ServerEncryption::IfRequired => false,
            ServerEncryption::Desired => self.can_encrypt,
            ServerEncryption::Required if !self.can_encrypt => {
                return Err(denied(
                    "smb encrypt = required, and this client or guest can't encrypt",
                ));
            }
            ServerEncryption::Required => true,
        };
        // Whoever may be in a group that keeps its members out stays out until that is known.
        let unknown = Cell::new(false);
        let is_account = |name: &str| match User::from_name(name) {
            Ok(found) => found.is_some_and(|user| user.uid.as_raw() == self.identity.uid),
            Err(_) => {
                unknown.set(true);
                false
            }
        };
        let is_member = |group: &str| match Group::from_name(group) {
            Ok(Some(group)) => self.identity.groups.contains(&group.gid.as_raw()),
            Ok(None) => false,
            Err(_) => {
                unknown.set(true);
                false
            }
        };
        let right = share.right_of(&self.user, is_account, is_member);
        if unknown.get() {
            return Err(denied(
                "a user or group of its lists can't be looked up; see nsswitch.conf",
            ));
        }
        let right = right.ok_or(denied("valid users and invalid users keep this user out"))?;
        // A directory that is not there is told when it is asked for, not at each file.
        let files = vfs::Share::of_config(share).map_err(|status| {
            (
                "the share's path is no directory; create it or correct path",
                status,
            )
        })?;
        let read_only = right == ShareRight::ReadOnly;
        Ok(Access {
            files: Arc::new(files.telling(self.refusals.clone())),
            identity: self.forced_identity()?,
            maximal: match read_only {
                true => AccessMask::FILE_GENERIC_READ | AccessMask::FILE_GENERIC_EXECUTE,
                false => AccessMask::FILE_ALL_ACCESS,
            },
            read_only,
            encrypt_data,
        })
    }

    /// `force user` and `force group`.
    fn forced_identity(&self) -> Result<Arc<Identity>, Refused> {
        let share = &self.share;
        let broken = |why| (why, NtStatus::ACCESS_DENIED);
        let mut identity = match share.force_user.as_str() {
            "" => Arc::clone(&self.identity),
            account => account_of(account)
                .ok_or(broken("force user names no Unix account of this machine"))?,
        };
        if !share.force_group.is_empty() {
            let gid = group_of(&share.force_group)
                .ok_or(broken("force group names no Unix group of this machine"))?;
            let forced = Arc::make_mut(&mut identity);
            forced.gid = gid;
            if !forced.groups.contains(&gid) {
                forced.groups.push(gid);
            }
        }
        Ok(identity)
    }
}

fn account_of(account: &str) -> Option<Arc<Identity>> {
    let identity = match account.parse::<u32>() {
        Ok(uid) => Identity::of_uid(uid),
        Err(_) => Identity::of_account(account),
    };
    identity.ok().map(Arc::new)
}

fn group_of(group: &str) -> Option<u32> {
    let found = match group.parse::<u32>() {
        Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
        Err(_) => Group::from_name(group),
    };
    Some(found.ok().flatten()?.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_the_last_of_two_parts() {
        assert_eq!(share_name("\\\\server\\share"), Some("share"));
        assert_eq!(share_name("\\\\10.0.0.1\\IPC$"), Some("IPC$"));
        for wrong in [
            "",
            "share",
            "\\share",
            "\\\\server",
            "\\\\server\\",
            "\\\\\\share",
            "\\\\s\\a\\b",
        ] {
            assert_eq!(share_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_may_connect_is_the_configurations_word() {
        let identity = Arc::new(Identity {
            user: "alice".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
        });
        let ask = |share: Share, guest| {
            Question {
                share: Arc::new(Share {
                    path: "/".into(),
                    ..share
                }),
                identity: Arc::clone(&identity),
                user: "alice".into(),
                guest,
                can_encrypt: false,
                peer: IpAddr::from([10, 0, 0, 1]),
                refusals: Arc::new(Refusals::of(([10, 0, 0, 1], 1).into())),
            }
            .decide()
            .map(|access| access.read_only)
            .map_err(|(_, status)| status)
        };
        assert_eq!(
            ask(Share::default(), false),
            Ok(true),
            "read only by default"
        );
        let writable = Share {
            read_only: false,
            ..Share::default()
        };
        assert_eq!(ask(writable.clone(), false), Ok(false));
        assert_eq!(ask(writable.clone(), true), Err(NtStatus::ACCESS_DENIED));
        let for_guests = Share {
            guest_ok: true,
            ..writable.clone()
        };
        assert_eq!(ask(for_guests, true), Ok(false));
        let without_alice = Share {
            invalid_users: vec![crate::config::NameMatch::User("ALICE".into())],
            ..writable.clone()
        };
        assert_eq!(ask(without_alice, false), Err(NtStatus::ACCESS_DENIED));
        let sealed = Share {
            smb_encrypt: ServerEncryption::Required,
            ..writable.clone()
        };
        assert_eq!(ask(sealed, false), Err(NtStatus::ACCESS_DENIED));
        let elsewhere = Share {
            hosts_deny: vec![crate::config::HostPattern::All],
            ..writable
        };
        assert_eq!(ask(elsewhere, false), Err(NtStatus::ACCESS_DENIED));
    }
}
