//! The client's end of NTLM (MS-NLMP 3.1.5.1): NTLMv2 with key exchange and a MIC, or nobody at
//! all.
//!
//! Called by `spnego` for the project's own client and its tests. Random bytes come from the
//! caller.

use std::fmt;

use super::av_pairs::AvPairs;
use super::message::{Authenticate, Challenge, Malformed, Negotiate, NegotiateFlags};
use super::response::{NtlmV2Response, ResponseKey, message_integrity_code, rc4};
use super::{NtHash, SessionKey};

/// What this client asks for.
const OFFERED: NegotiateFlags = NegotiateFlags::UNICODE
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

/// Who a client says it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    User {
        user: String,
        domain: String,
        hash: NtHash,
    },
    Anonymous,
}

impl Credentials {
    pub fn with_password(user: &str, domain: &str, password: &str) -> Credentials {
        Credentials::User {
            user: user.to_owned(),
            domain: domain.to_owned(),
            hash: NtHash::of_password(password),
        }
    }
}

/// The random bytes one authentication needs.
#[derive(Clone)]
pub struct InitiatorRandom {
    pub client_challenge: [u8; 8],
    /// Becomes the ExportedSessionKey.
    pub session_key: [u8; 16],
}

impl fmt::Debug for InitiatorRandom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InitiatorRandom(redacted)")
    }
}

/// A finished exchange, as the client sees it: its last message and the key both ends now hold.
#[derive(Debug)]
pub struct Initiated {
    pub authenticate: Vec<u8>,
    pub session_key: SessionKey,
    pub flags: NegotiateFlags,
}

/// One authentication. `negotiate` then `authenticate`.
#[derive(Debug)]
pub struct Initiator {
    credentials: Credentials,
    /// The server as the user named it, for MsvAvTargetName: `cifs/host`, or empty.
    target: String,
    workstation: String,
    random: InitiatorRandom,
    /// Used when the server's challenge carries no time. A FILETIME.
    timestamp: u64,
    negotiate: Vec<u8>,
}

impl Initiator {
    pub fn new(
        credentials: Credentials,
        workstation: &str,
        target: &str,
        random: InitiatorRandom,
        timestamp: u64,
    ) -> Initiator {
        let negotiate = Negotiate { flags: OFFERED }.build();
        let workstation = workstation.to_owned();
        Initiator {
            credentials,
            target: target.to_owned(),
            workstation,
            random,
            timestamp,
            negotiate,
        }
    }

    pub fn negotiate(&self) -> &[u8] {
        &self.negotiate
    }

    /// Answers a CHALLENGE message.
    pub fn authenticate(&self, challenge_message: &[u8]) -> Result<Initiated, Malformed> {
        self.authenticate_as(challenge_message, |_| {})
    }

    /// As [`Initiator::authenticate`], with other AV pairs under the proof than an honest client's.
    pub fn authenticate_as(
        &self,
        challenge_message: &[u8],
        change: impl FnOnce(&mut AvPairs),
    ) -> Result<Initiated, Malformed> {
        let challenge = Challenge::parse(challenge_message)?;
        let flags = OFFERED & challenge.flags;
        let (mut claim, base_key) = match &self.credentials {
            Credentials::User { user, domain, hash } => {
                self.prove(&challenge, user, domain, hash, change)?
            }
            Credentials::Anonymous => self.say_nobody(),
        };
        let session_key = if flags.contains(NegotiateFlags::KEY_EXCHANGE) {
            claim.encrypted_session_key =
                rc4(base_key.as_bytes(), self.random.session_key).to_vec();
            SessionKey::from_bytes(self.random.session_key)
        } else {
            base_key
        };
        claim.flags |= flags;
        let mut message = claim.build();
        if let Some((before, after)) = Authenticate::around_mic(&message)
            && matches!(self.credentials, Credentials::User { .. })
        {
            let mic = message_integrity_code(
                &session_key,
                &self.negotiate,
                challenge_message,
                before,
                after,
            );
            Authenticate::set_mic(&mut message, &mic);
        }
        Ok(Initiated {
            authenticate: message,
            session_key,
            flags: claim.flags,
        })
    }

    fn prove(
        &self,
        challenge: &Challenge,
        user: &str,
        domain: &str,
        hash: &NtHash,
        change: impl FnOnce(&mut AvPairs),
    ) -> Result<(Authenticate, SessionKey), Malformed> {
        let mut av_pairs = AvPairs::parse(&challenge.target_info)?;
        let timestamp = av_pairs.timestamp().unwrap_or(self.timestamp);
        av_pairs.add_client_pairs(&self.target);
        change(&mut av_pairs);
        let blob =
            NtlmV2Response::build_blob(timestamp, &self.random.client_challenge, &av_pairs.build());
        let key = ResponseKey::new(hash, user, domain);
        let proof = key.proof(&challenge.server_challenge, &blob);
        let claim = Authenticate {
            flags: NegotiateFlags::empty(),
            // With a time from the server the LM response is 24 zeros (MS-NLMP 3.1.5.1.2).
            lm_response: match av_pairs.timestamp() {
                Some(_) => vec![0; 24],
                None => key.lm_response(&challenge.server_challenge, &self.random.client_challenge),
            },
            nt_response: [proof.as_slice(), &blob].concat(),
            domain: domain.to_owned(),
            user: user.to_owned(),
            workstation: self.workstation.clone(),
            encrypted_session_key: Vec::new(),
            mic: None,
        };
        Ok((claim, key.session_base_key(&proof)))
    }

    fn say_nobody(&self) -> (Authenticate, SessionKey) {
        let claim = Authenticate {
            flags: NegotiateFlags::ANONYMOUS,
            lm_response: vec![0],
            nt_response: Vec::new(),
            domain: String::new(),
            user: String::new(),
            workstation: self.workstation.clone(),
            encrypted_session_key: Vec::new(),
            mic: None,
        };
        (claim, SessionKey::from_bytes([0; 16]))
    }
}
