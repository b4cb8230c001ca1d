//! The server's end of NTLM: NEGOTIATE in, CHALLENGE out, AUTHENTICATE judged (MS-NLMP 3.2.5.1).
//!
//! Called by `spnego`. An unknown user costs the same work as a wrong password and is answered
//! alike. Any domain is accepted: every user of this server is a local one.

use thiserror::Error;
use zeroize::Zeroize;

use proto::smb2::NtStatus;

use super::av_pairs::{AvFlags, AvPairs};
use super::message::{Authenticate, Challenge, Malformed, Negotiate, NegotiateFlags};
use super::response::{NtlmV2Response, ResponseKey, message_integrity_code, rc4, same};
use super::target::TargetCheck;
use super::{NtHash, SessionKey};
use crate::security::kerberos::TicketError;

/// How far a client's clock may be off: what Windows allows (MS-NLMP 3.1.1.1, MaxLifetime), in
/// FILETIME ticks.
const MAX_CLOCK_SKEW: u64 = 36 * 3600 * 10_000_000;

/// What this server grants when a client asks for it.
const SUPPORTED: NegotiateFlags = NegotiateFlags::UNICODE
    .union(NegotiateFlags::REQUEST_TARGET)
    .union(NegotiateFlags::SIGN)
    .union(NegotiateFlags::SEAL)
    .union(NegotiateFlags::NTLM)
    .union(NegotiateFlags::ALWAYS_SIGN)
    .union(NegotiateFlags::EXTENDED_SESSION_SECURITY)
    .union(NegotiateFlags::VERSION)
    .union(NegotiateFlags::KEY_128)
    .union(NegotiateFlags::KEY_56)
    .union(NegotiateFlags::KEY_EXCHANGE);

/// What a user file says of a name, whatever its letters' case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    Unknown,
    /// Known, but may not log on: told as a wrong password is, and never let in as a guest.
    Disabled,
    Enabled(NtHash),
}

/// The names a server puts into its challenge. Empty ones are sent empty, as Samba does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    pub netbios_name: String,
    /// A stand-alone server's own name, unless it says otherwise.
    pub netbios_domain: String,
    pub dns_name: String,
    pub dns_domain: String,
}

/// A client that proved who it is, or that said it is nobody.
#[derive(Debug)]
pub struct Accepted {
    /// As the client wrote it; empty for an anonymous logon.
    pub user: String,
    pub domain: String,
    pub workstation: String,
    /// ExportedSessionKey.
    pub session_key: SessionKey,
    pub flags: NegotiateFlags,
    pub anonymous: bool,
}

/// Why a logon was refused. For the log: the client learns only `status`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a message out of turn")]
    OutOfTurn,
    #[error("the client does not speak Unicode")]
    NoUnicode,
    #[error("anonymous logon is not allowed here")]
    Anonymous,
    #[error("user {user:?} is unknown; add it with `smbd passwd add`")]
    UnknownUser { user: String },
    #[error("user {user:?} is disabled; `smbd passwd enable` lets it in again")]
    DisabledUser { user: String },
    #[error("wrong password for user {user:?}")]
    WrongPassword { user: String },
    #[error(
        "user {user:?} answered with NTLMv1 or LM, which are not accepted; let the client use NTLMv2"
    )]
    OldResponse { user: String },
    #[error(
        "the message integrity code of user {user:?} is wrong: the exchange was altered on its way"
    )]
    AlteredExchange { user: String },
    #[error("the clock of the client of user {user:?} is more than 36 hours off; set it")]
    ClockSkew { user: String },
    #[error("no mechanism in common: the client did not offer NTLM")]
    NoCommonMechanism,
    #[error(
        "the client of user {user:?} logs on through another channel (channel bindings), not to this one: somebody may be relaying it"
    )]
    ForeignChannel { user: String },
    #[error(
        "the client of user {user:?} means to log on to {target:?}, which is not this server's; see `server name hardening` and `netbios aliases`"
    )]
    ForeignTarget { user: String, target: String },
    #[error("NTLM is not accepted here (ntlm auth = disabled)")]
    NtlmDisabled,
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error("{principal:?} is no user of this server; see `realm`, or krb5.conf's auth_to_local")]
    ForeignPrincipal { principal: String },
    #[error("malformed SPNEGO token: {field}")]
    MalformedToken { field: &'static str },
    #[error("the client's list of mechanisms was altered on its way, or is not signed")]
    AlteredMechanisms,
}

impl Refusal {
    /// What the client is told. Every failed proof is told alike.
    pub fn status(&self) -> NtStatus {
        match self {
            Refusal::Malformed(_)
            | Refusal::OutOfTurn
            | Refusal::NoUnicode
            | Refusal::NoCommonMechanism
            | Refusal::MalformedToken { .. } => NtStatus::INVALID_PARAMETER,
            Refusal::Anonymous
            | Refusal::AlteredMechanisms
            | Refusal::ForeignTarget { .. }
            | Refusal::ForeignChannel { .. } => NtStatus::ACCESS_DENIED,
            Refusal::NtlmDisabled => NtStatus::NTLM_BLOCKED,
            Refusal::Ticket(_) | Refusal::ForeignPrincipal { .. } => NtStatus::LOGON_FAILURE,
            Refusal::UnknownUser { .. }
            | Refusal::DisabledUser { .. }
            | Refusal::WrongPassword { .. }
            | Refusal::OldResponse { .. }
            | Refusal::AlteredExchange { .. }
            | Refusal::ClockSkew { .. } => NtStatus::LOGON_FAILURE,
        }
    }
}

/// One authentication. `challenge` then `authenticate`, once each.
#[derive(Debug)]
pub struct Acceptor {
    names: ServerNames,
    server_challenge: [u8; 8],
    timestamp: u64,
    allow_anonymous: bool,
    target: TargetCheck,
    exchange: Option<Exchange>,
}

/// The two messages a MIC covers beside the last.
#[derive(Debug)]
struct Exchange {
    negotiate: Vec<u8>,
    challenge: Vec<u8>,
}

impl Acceptor {
    /// `server_challenge` must be fresh random bytes; `timestamp` is now, as a FILETIME.
    pub fn new(names: ServerNames, server_challenge: [u8; 8], timestamp: u64) -> Acceptor {
        Acceptor {
            names,
            server_challenge,
            timestamp,
            allow_anonymous: false,
            target: TargetCheck::default(),
            exchange: None,
        }
    }

    /// Which server a client may mean to log on to.
    pub fn target(mut self, target: TargetCheck) -> Acceptor {
        self.target = target;
        self
    }

    /// Lets a client that names no user in, as nobody.
    pub fn allow_anonymous(mut self, allow: bool) -> Acceptor {
        self.allow_anonymous = allow;
        self
    }

    /// Answers a NEGOTIATE message with a CHALLENGE message.
    pub fn challenge(&mut self, negotiate: &[u8]) -> Result<Vec<u8>, Refusal> {
        if self.exchange.is_some() {
            return Err(Refusal::OutOfTurn);
        }
        let offered = Negotiate::parse(negotiate)?.flags;
        if !offered.contains(NegotiateFlags::UNICODE) {
            return Err(Refusal::NoUnicode);
        }
        let challenge = Challenge {
            flags: (offered & SUPPORTED)
                | NegotiateFlags::NTLM
                | NegotiateFlags::REQUEST_TARGET
                | NegotiateFlags::TARGET_TYPE_SERVER
                | NegotiateFlags::TARGET_INFO,
            target_name: self.names.netbios_name.clone(),
            server_challenge: self.server_challenge,
            target_info: AvPairs::of_server(&self.names, self.timestamp).build(),
        }
        .build();
        self.exchange = Some(Exchange {
            negotiate: negotiate.to_vec(),
            challenge: challenge.clone(),
        });
        Ok(challenge)
    }

    /// Judges an AUTHENTICATE message.
    pub fn authenticate(
        &mut self,
        message: &[u8],
        lookup: &dyn Fn(&str) -> Account,
    ) -> Result<Accepted, Refusal> {
        let exchange = self.exchange.take().ok_or(Refusal::OutOfTurn)?;
        let claim = Authenticate::parse(message)?;
        if claim.user.is_empty() && claim.nt_response.is_empty() {
            return self.accept_anonymous(claim);
        }
        // NTLMv1 is 24 bytes and LMv2 comes with no NT response at all (MS-NLMP 2.2.2.6, 2.2.2.8).
        if claim.nt_response.len() <= 24 {
            return Err(Refusal::OldResponse { user: claim.user });
        }
        let response = NtlmV2Response::parse(&claim.nt_response)?;
        // Whoever sends a blob that can't be read is told so: it proves nothing either way.
        let av_pairs = AvPairs::parse(response.av_pairs)?;

        // Without a user there is nothing to prove against; the work is done all the same.
        let account = lookup(&claim.user);
        let no_hash = NtHash::from_bytes([0; 16]);
        let hash = if let Account::Enabled(hash) = &account {
            hash
        } else {
            &no_hash
        };
        let key = ResponseKey::new(hash, &claim.user, &claim.domain);
        let proof = key.proof(&self.server_challenge, response.blob);
        let proven = same(&proof, &response.proof);
        let session_key = exported_session_key(&claim, key.session_base_key(&proof))?;
        match account {
            Account::Unknown => return Err(Refusal::UnknownUser { user: claim.user }),
            Account::Disabled => return Err(Refusal::DisabledUser { user: claim.user }),
            Account::Enabled(_) => {}
        }
        if !proven {
            return Err(Refusal::WrongPassword { user: claim.user });
        }

        // From here on the blob is what the user's own client made: it stands under the proof.
        if av_pairs.flags().contains(AvFlags::MIC_PRESENT)
            && !mic_matches(&claim, message, &exchange, &session_key)
        {
            return Err(Refusal::AlteredExchange { user: claim.user });
        }
        // SMB has no channel of its own to bind to (MS-NLMP 3.2.5.1.2): all zeros, or nothing.
        if av_pairs
            .channel_bindings()
            .is_some_and(|bindings| bindings.iter().any(|byte| *byte != 0))
        {
            return Err(Refusal::ForeignChannel { user: claim.user });
        }
        if let Err(target) = self.target.check(&av_pairs) {
            let user = claim.user;
            return Err(Refusal::ForeignTarget { user, target });
        }
        if response.timestamp.abs_diff(self.timestamp) > MAX_CLOCK_SKEW {
            return Err(Refusal::ClockSkew { user: claim.user });
        }
        Ok(Accepted {
            user: claim.user,
            domain: claim.domain,
            workstation: claim.workstation,
            session_key,
            flags: claim.flags,
            anonymous: false,
        })
    }

    /// Takes an unknown user's word for its name. There is no shared key: the session key is all
    /// zeros.
    pub fn accept_as_guest(message: &[u8]) -> Result<Accepted, Refusal> {
        let claim = Authenticate::parse(message)?;
        Ok(Accepted {
            user: claim.user,
            domain: claim.domain,
            workstation: claim.workstation,
            session_key: SessionKey::from_bytes([0; 16]),
            flags: claim.flags,
            anonymous: false,
        })
    }

    fn accept_anonymous(&self, claim: Authenticate) -> Result<Accepted, Refusal> {
        if !self.allow_anonymous {
            return Err(Refusal::Anonymous);
        }
        let session_key = exported_session_key(&claim, SessionKey::from_bytes([0; 16]))?;
        Ok(Accepted {
            user: String::new(),
            domain: claim.domain,
            workstation: claim.workstation,
            session_key,
            flags: claim.flags,
            anonymous: true,
        })
    }
}

/// ExportedSessionKey (MS-NLMP 3.2.5.1.2). For NTLMv2 the key exchange key is the session base key.
/// A client that asks for key exchange but neither signs nor seals sends no key and uses the base
/// key.
fn exported_session_key(claim: &Authenticate, base: SessionKey) -> Result<SessionKey, Malformed> {
    if !claim.flags.contains(NegotiateFlags::KEY_EXCHANGE) {
        return Ok(base);
    }
    let protects = claim
        .flags
        .intersects(NegotiateFlags::SIGN | NegotiateFlags::SEAL);
    match claim.encrypted_session_key.as_slice().try_into() {
        Ok(encrypted) => {
            let mut key: [u8; 16] = rc4(base.as_bytes(), encrypted);
            let exported = SessionKey::from_bytes(key);
            key.zeroize();
            Ok(exported)
        }
        Err(_) if claim.encrypted_session_key.is_empty() && !protects => Ok(base),
        Err(_) => Err(Malformed {
            field: "EncryptedRandomSessionKey",
        }),
    }
}

fn mic_matches(
    claim: &Authenticate,
    message: &[u8],
    exchange: &Exchange,
    key: &SessionKey,
) -> bool {
    let (Some(mic), Some((before, after))) = (claim.mic, Authenticate::around_mic(message)) else {
        return false;
    };
    let expected =
        message_integrity_code(key, &exchange.negotiate, &exchange.challenge, before, after);
    same(&expected, &mic)
}
