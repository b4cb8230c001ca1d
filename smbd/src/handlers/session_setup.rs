//! SESSION_SETUP (MS-SMB2 3.3.5.5): an authentication exchange, and the session it ends in.
//!
//! Nothing of a session exists or changes before the exchange has succeeded. A user's Unix identity
//! is looked up on the pool.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::smb2::negotiate::SecurityMode;
use proto::smb2::session_setup::{
    SessionFlags, SessionSetupFlags, SessionSetupRequest, SessionSetupResponse,
};
use proto::smb2::{Dialect, NtStatus, SessionId};

use super::logon::{self, Refused, Verdict};
use super::{Context, PreauthTarget, Response, malformed, session_binding, tree_connect};
use crate::child;
use crate::config::{
    MapToGuest, NtlmAuth, ServerEncryption, ServerNameHardening, ServerSigning, hosts_admit,
};
use crate::security::encryption::{End, SessionCipher};
use crate::security::keys::KeySchedule;
use crate::security::ntlm::{Acceptor, NameHardening, TargetCheck};
use crate::security::signing::SigningKey;
use crate::security::spnego::{Authenticated, Authenticator, LogonKind, Mechanism};
use crate::security::users::{Identity, UserFile, accounts_of};
use crate::state::{Logon, Negotiated, Purpose, Session, SessionParts, SessionUser};
use crate::stop_point;
use crate::sys::pool::RunAs;
use crate::sys::random;

/// Exchanges a connection may have under way.
const MAX_LOGONS: usize = 16;
/// Before a refused binding is answered where nobody has logged on: the loop is the client's whose
/// session it is, and whoever says its ClientGuid shares it.
const BINDING_PAUSE: Duration = Duration::from_millis(50);

pub async fn handle(element: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = SessionSetupRequest::decode(element).map_err(malformed)?;
    let negotiated = cx
        .connection
        .negotiated
        .get()
        .ok_or(NtStatus::INVALID_PARAMETER)?;
    let config = &cx.child.config;
    let peer = cx.connection.channel.peer().ip();
    if !hosts_admit(&config.hosts_allow, &config.hosts_deny, peer) {
        return Err(cx.refuse(
            "hosts allow and hosts deny of [global] keep this address out",
            NtStatus::ACCESS_DENIED,
        ));
    }
    let binds = request.flags.contains(SessionSetupFlags::BINDING);
    if binds {
        session_binding::permit(cx)?;
    }
    let bound = match binds {
        false => None,
        true if cx.child.sessions.find(cx.header.session_id).is_none() => {
            let status = session_binding::pass_on(element, cx).await;
            return Err(refuse_binding(cx, status).await);
        }
        true => match session_binding::check(element, cx, negotiated) {
            Ok(session) => Some(session),
            Err(status) => return Err(refuse_binding(cx, status).await),
        },
    };
    let (id, logon) = find_logon(cx, bound)?;
    if negotiated.dialect == Dialect::Smb311 {
        logon.hash.borrow_mut().update(&[element]);
    }
    let outcome = step(&request, cx, negotiated, id, &logon).await;
    if outcome.is_err() {
        cx.connection.logons.borrow_mut().remove(&id);
        // MS-SMB2 3.3.5.5.3: a session whose user could not prove itself again is nobody's.
        if let Purpose::Renew(session) = &logon.purpose {
            cx.child.end_session(session, Some(&cx.connection));
        }
    }
    let mut response = outcome?;
    response.header.session = Some(id);
    Ok(response)
}

/// Not at once, where nobody has logged on.
async fn refuse_binding(cx: &Context, status: NtStatus) -> NtStatus {
    if !cx.connection.is_authenticated() && !cx.connection.is_handed_over() {
        logon::hold(cx, BINDING_PAUSE).await;
    }
    status
}

async fn step(
    request: &SessionSetupRequest<'_>,
    cx: &Context,
    negotiated: &Negotiated,
    id: SessionId,
    logon: &Rc<Logon>,
) -> Result<Response, NtStatus> {
    // Taken: a second token that overtakes this one finds none, and fails.
    let authenticator = logon
        .authenticator
        .take()
        .ok_or(NtStatus::INVALID_PARAMETER)?;
    let token = request.security_buffer;
    match logon::judge(cx, authenticator, &logon.purpose, token).await? {
        Verdict::Continue(authenticator, token) => {
            logon.authenticator.replace(Some(authenticator));
            let mut response = response(SessionFlags::empty(), &token);
            response.status = NtStatus::MORE_PROCESSING_REQUIRED;
            if let Purpose::Bind(session) = &logon.purpose {
                response.header.signing_key.clone_from(&session.signing_key);
            }
            if negotiated.dialect == Dialect::Smb311 {
                response.header.preauth = Some(PreauthTarget::Logon(Rc::clone(logon)));
            }
            Ok(response)
        }
        Verdict::Done(authenticated, users, attempt) => {
            cx.connection.logons.borrow_mut().remove(&id);
            let outcome = match &logon.purpose {
                Purpose::Establish => {
                    establish(request, cx, negotiated, id, logon, authenticated, &users).await
                }
                Purpose::Renew(session) => renew(cx, session, &authenticated, &users).await,
                Purpose::Bind(session) => bind(cx, negotiated, session, logon, &authenticated),
            };
            match outcome {
                Ok((session, response)) => {
                    attempt.accepted(cx, &session);
                    Ok(response)
                }
                Err(Refused { why, status }) => Err(attempt.refused(cx, why, status)),
            }
        }
    }
}

/// The exchange a request belongs to: one under way, a session that authenticates anew
/// (MS-SMB2 3.3.5.5.2), one of another connection that is bound, or a new one (3.3.5.5.1).
fn find_logon(
    cx: &Context,
    bound: Option<Rc<Session>>,
) -> Result<(SessionId, Rc<Logon>), NtStatus> {
    let asked = cx.header.session_id;
    let mut logons = cx.connection.logons.borrow_mut();
    if let Some(logon) = logons.get(&asked) {
        // Every message of an exchange is for the same thing.
        return match (&logon.purpose, bound) {
            (Purpose::Bind(_), Some(_)) => Ok((asked, Rc::clone(logon))),
            (Purpose::Establish | Purpose::Renew(_), None) => Ok((asked, Rc::clone(logon))),
            _ => Err(NtStatus::INVALID_PARAMETER),
        };
    }
    let purpose = match (bound, &cx.session) {
        (Some(session), _) => Purpose::Bind(session),
        (None, Some(session)) => Purpose::Renew(Rc::clone(session)),
        (None, None) if asked == SessionId(0) => Purpose::Establish,
        (None, None) => return Err(NtStatus::USER_SESSION_DELETED),
    };
    if logons.len() >= MAX_LOGONS || !cx.child.sessions.has_room() {
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    let id = match &purpose {
        Purpose::Bind(session) | Purpose::Renew(session) => session.id,
        Purpose::Establish => fresh_id(cx)?,
    };
    let logon = Rc::new(Logon {
        hash: RefCell::new(cx.connection.preauth.borrow().clone()),
        authenticator: RefCell::new(Some(authenticator(cx)?)),
        purpose,
    });
    logons.insert(id, Rc::clone(&logon));
    Ok((id, logon))
}

/// Random, so that other processes' sessions are hardly ever given the same. Of 32 bits: there are
/// clients that keep no more of it.
fn fresh_id(cx: &Context) -> Result<SessionId, NtStatus> {
    loop {
        let id = SessionId(u32::from_le_bytes(random::bytes()?).into());
        if id != SessionId(0) && id != SessionId::RELATED && cx.child.sessions.find(id).is_none() {
            return Ok(id);
        }
    }
}

fn authenticator(cx: &Context) -> Result<Authenticator, NtStatus> {
    let global = &cx.child.config.global;
    let guests = global.map_to_guest == MapToGuest::BadUser;
    let challenge = random::bytes()?;
    let names = cx.child.identity.names.clone();
    let acceptor = Acceptor::new(names, challenge, child::now().0)
        .allow_anonymous(guests && global.restrict_anonymous < 2)
        .target(TargetCheck {
            hardening: match global.server_name_hardening {
                ServerNameHardening::Off => NameHardening::Service,
                ServerNameHardening::IfPresent => NameHardening::IfPresent,
                ServerNameHardening::Required => NameHardening::Required,
            },
            names: own_names(cx),
        });
    let authenticator = Authenticator::new(acceptor)
        .ntlm(global.ntlm_auth != NtlmAuth::Disabled)
        .guest_for_unknown(guests);
    #[cfg(feature = "kerberos")]
    if global.has_kerberos() {
        let keytab = crate::sys::gssapi::Keytab::new(global.keytab());
        return Ok(authenticator.kerberos(Box::new(keytab), &global.realm));
    }
    Ok(authenticator)
}

/// What a client may call this server: its names, and the address it reached.
fn own_names(cx: &Context) -> Vec<String> {
    let global = &cx.child.config.global;
    if global.server_name_hardening == ServerNameHardening::Off {
        return Vec::new();
    }
    let ntlm = global.ntlm_names();
    let address = cx.connection.channel.local().ip().to_canonical();
    let names = [ntlm.netbios_name, ntlm.dns_name, address.to_string()];
    let mut names = names.map(|name| name.to_lowercase()).to_vec();
    names.extend(
        global
            .netbios_aliases
            .iter()
            .map(|name| name.to_lowercase()),
    );
    if address.is_loopback() {
        names.push("localhost".into());
    }
    names
}

/// MS-SMB2 3.3.5.5.3: keys, flags, the session's place in the tables.
async fn establish(
    request: &SessionSetupRequest<'_>,
    cx: &Context,
    negotiated: &Negotiated,
    id: SessionId,
    logon: &Logon,
    authenticated: Authenticated,
    users: &UserFile,
) -> Result<(Rc<Session>, Response), Refused> {
    let global = &cx.child.config.global;
    let kind = authenticated.logon.kind;
    let must_sign = global.server_signing == ServerSigning::Mandatory;
    if must_sign && kind != LogonKind::User {
        return Err(Refused {
            why: "a guest is refused: it can't sign, and server signing = mandatory".into(),
            status: NtStatus::ACCESS_DENIED,
        });
    }
    let user = identify(cx, &authenticated, users).await?;
    still_connected(cx)?;
    same_dialect(request, cx, negotiated, &user)?;
    let hash = logon.hash.borrow().clone();
    let schedule = match negotiated.dialect {
        Dialect::Smb311 => KeySchedule::Smb311(&hash),
        Dialect::Smb300 | Dialect::Smb302 => KeySchedule::Smb30,
        _ => KeySchedule::Smb2,
    };
    let key = authenticated.session_key;
    // Nobody's key is all zeros (MS-NLMP 3.2.5.1.2): it promises nothing, and who uses it must use it
    // right. A guest's client has derived one from a password that is not known here.
    let signing_key = (kind != LogonKind::Guest).then(|| {
        let key = schedule.signing_key(&key);
        Rc::new(SigningKey::new(negotiated.signing, &key))
    });
    let application_key = schedule.application_key(&key);
    let cipher = signing_key
        .as_ref()
        .and(negotiated.cipher)
        .and_then(|cipher| {
            let keys = schedule.cipher_keys(&key, cipher.key_length())?;
            Some(Arc::new(SessionCipher::new(cipher, &keys, End::Server)))
        });
    let encrypt_data = match global.server_smb_encrypt {
        ServerEncryption::Off | ServerEncryption::IfRequired => false,
        ServerEncryption::Desired => cipher.is_some() && kind == LogonKind::User,
        ServerEncryption::Required if cipher.is_none() || kind != LogonKind::User => {
            let dialect = negotiated.dialect;
            return Err(Refused {
                why: format!(
                    "server smb encrypt = required, and {:?} can't encrypt with {dialect:?}",
                    user.name
                ),
                status: NtStatus::ACCESS_DENIED,
            });
        }
        ServerEncryption::Required => true,
    };
    let asked = request.security_mode | negotiated.client_security_mode;
    let client_signs = asked.contains(SecurityMode::SIGNING_REQUIRED);
    let signing_required = kind == LogonKind::User && (must_sign || client_signs);
    let session = Rc::new(Session::new(SessionParts {
        id,
        user,
        dialect: negotiated.dialect,
        signing: negotiated.signing,
        signing_key: signing_key.clone(),
        cipher,
        encrypt_data,
        signing_required,
        supports_notifications: negotiated.supports_notifications(),
        application_key,
    }));
    session.expires.set(expiry(authenticated.lifetime));
    session.add_channel(cx.connection.id, signing_key.clone());
    cx.child.sessions.add(Rc::clone(&session))?;
    if kind == LogonKind::User {
        cx.child.broker.session_opened(id.0);
    }
    end_previous(request, cx, &session).await;
    cx.child.authenticated(&cx.connection);
    stop_point::reach("session-authenticated");
    if kind == LogonKind::User {
        cx.connection.proven.set(true);
    }
    let mut flags = session_flags(kind);
    flags.set(SessionFlags::ENCRYPT_DATA, encrypt_data);
    let mut response = response(flags, &authenticated.reply);
    // Signed whenever there is a key; 3.1.1 clients insist on it.
    response.header.signing_key = signing_key.filter(|_| kind == LogonKind::User);
    Ok((session, response))
}

/// MS-SMB2 3.3.5.5.3: a session that authenticated anew keeps its keys. Its user may be another from
/// now on; what is open stays as it was granted.
async fn renew(
    cx: &Context,
    session: &Rc<Session>,
    authenticated: &Authenticated,
    users: &UserFile,
) -> Result<(Rc<Session>, Response), Refused> {
    let user = identify(cx, authenticated, users).await?;
    still_connected(cx)?;
    let before = session.user();
    let is_another = user.kind != before.kind || user.identity != before.identity;
    let mut response = response(session_flags(user.kind), &authenticated.reply);
    session.set_user(user);
    session.expires.set(expiry(authenticated.lifetime));
    if is_another {
        tree_connect::decide_again(cx, session).await?;
    }
    response.header.signing_key = session.signing_key(cx.connection.id);
    Ok((Rc::clone(session), response))
}

/// MS-SMB2 3.3.5.5.3: a session gets this connection as a further channel.
fn bind(
    cx: &Context,
    negotiated: &Negotiated,
    session: &Rc<Session>,
    logon: &Logon,
    authenticated: &Authenticated,
) -> Result<(Rc<Session>, Response), Refused> {
    still_connected(cx)?;
    same_user(session, authenticated)?;
    let key = &authenticated.session_key;
    let key = session_binding::bind(cx, negotiated, session, logon, key)?;
    let mut response = response(session_flags(session.user().kind), &authenticated.reply);
    response.header.signing_key = Some(key);
    Ok((Rc::clone(session), response))
}

/// A connection that was lost while its user was looked up gets no session: it has let go of its
/// sessions already, and one more would never end.
fn still_connected(cx: &Context) -> Result<(), NtStatus> {
    match cx.connection.ended() {
        Some(_) => Err(NtStatus::CONNECTION_DISCONNECTED),
        None => Ok(()),
    }
}

/// MS-SMB2 3.3.5.5.3: connections of one ClientGuid have one dialect. Held against a client whose user
/// has a session here, not against whoever says the same ClientGuid: that would keep others out.
fn same_dialect(
    request: &SessionSetupRequest<'_>,
    cx: &Context,
    negotiated: &Negotiated,
    user: &SessionUser,
) -> Result<(), Refused> {
    let sessions = cx.child.sessions.all();
    let other = sessions.iter().find(|other| {
        let other_user = other.user();
        other.dialect != negotiated.dialect
            && other.id != request.previous_session_id
            && (other_user.kind, &other_user.identity) == (user.kind, &user.identity)
    });
    match other {
        None => Ok(()),
        Some(other) => Err(Refused {
            why: format!(
                "the client has a session of {:?}, and this connection speaks {:?}",
                other.dialect, negotiated.dialect
            ),
            status: NtStatus::USER_SESSION_DELETED,
        }),
    }
}

/// All channels of a session are its user's.
fn same_user(session: &Session, authenticated: &Authenticated) -> Result<(), Refused> {
    let logon = &authenticated.logon;
    let user = session.user();
    let same_user = logon.kind == user.kind
        && (logon.kind != LogonKind::User || logon.user.to_lowercase() == user.name.to_lowercase());
    if !same_user {
        return Err(Refused {
            why: format!("the session is {:?}'s", user.name),
            status: NtStatus::ACCESS_DENIED,
        });
    }
    Ok(())
}

/// The user's name and Unix identity. Guests and nobody are the guest account.
async fn identify(
    cx: &Context,
    authenticated: &Authenticated,
    users: &UserFile,
) -> Result<SessionUser, Refused> {
    let kind = authenticated.logon.kind;
    let found = match authenticated.logon.kind {
        LogonKind::User => {
            let user = &authenticated.logon.user;
            let entry = users.find(user).cloned();
            let by_ticket = authenticated.logon.mechanism == Mechanism::Kerberos;
            if by_ticket && entry.as_ref().is_some_and(|entry| entry.disabled) {
                return Err(Refused {
                    why: format!(
                        "user {user:?} is disabled; `smbd passwd enable` lets it in again"
                    ),
                    status: NtStatus::LOGON_FAILURE,
                });
            }
            if !by_ticket && entry.is_none() {
                return Err(NtStatus::LOGON_FAILURE.into());
            }
            let name = entry.as_ref().map_or(user, |entry| &entry.name).clone();
            let global = &cx.child.config.global;
            let accounts = match global.realm.is_empty() {
                // krb5.conf has said which account it is.
                true => vec![name.clone()],
                false => accounts_of(&name, &global.realm, &global.workgroup),
            };
            let lookup = move || match entry {
                Some(entry) => Identity::of_entry(&entry),
                None => Identity::of_ticket(&accounts),
            };
            let identity = cx.child.pool.run(RunAs::Server, lookup).await;
            let identity = identity.map_err(NtStatus::from)?;
            identity.map(|identity| (name, identity))
        }
        LogonKind::Guest | LogonKind::Anonymous => {
            let account = cx.child.config.global.guest_account.clone();
            let name = account.clone();
            let lookup = move || Identity::of_account(&account);
            let identity = cx.child.pool.run(RunAs::Server, lookup).await;
            let identity = identity.map_err(NtStatus::from)?;
            identity.map(|identity| (name, identity))
        }
    };
    let (name, identity) = found.map_err(|error| Refused {
        why: error.to_string(),
        status: NtStatus::LOGON_FAILURE,
    })?;
    Ok(SessionUser {
        name,
        kind,
        identity: Arc::new(identity),
    })
}

/// PreviousSessionId (MS-SMB2 3.3.5.5.3): the same user's lost session ends at once.
async fn end_previous(request: &SessionSetupRequest<'_>, cx: &Context, session: &Session) {
    let previous = request.previous_session_id;
    if previous == SessionId(0) || previous == session.id {
        return;
    }
    let user = session.user();
    match cx.child.sessions.find(previous) {
        Some(previous) => {
            let owner = previous.user();
            if owner.kind == user.kind && owner.identity == user.identity {
                cx.child.end_session(&previous, Some(&cx.connection));
            }
        }
        None if user.kind == LogonKind::User => {
            let (name, uid) = (user.name.clone(), user.identity.uid);
            cx.child.broker.end_previous(previous.0, name, uid).await;
        }
        None => {}
    }
}

/// When a session that is good for so long ends.
fn expiry(lifetime: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(lifetime?)
}

fn session_flags(kind: LogonKind) -> SessionFlags {
    match kind {
        LogonKind::User => SessionFlags::empty(),
        LogonKind::Guest => SessionFlags::IS_GUEST,
        LogonKind::Anonymous => SessionFlags::IS_NULL,
    }
}

fn response(session_flags: SessionFlags, token: &[u8]) -> Response {
    let mut body = Vec::new();
    SessionSetupResponse {
        session_flags,
        security_buffer: token,
    }
    .encode(&mut body);
    Response::of(body)
}
