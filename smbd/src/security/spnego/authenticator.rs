//! The server's end: one exchange of SESSION_SETUP tokens, from first to verdict.
//!
//! ```text
//! Start ── NegTokenInit with our token, or bare NTLM ──────────────► AwaitAuthenticate ──► Finished
//!   └───── NegTokenInit with another's token ──► AwaitNegotiate ───────────┘
//! ```
//! Any error ends the exchange: the next token is refused too.

use crate::security::ntlm::{
    Accepted, Acceptor, Account, Authenticate, MessageSignatures, MessageType, Refusal, SessionKey,
};

use super::token::{NTLMSSP, NegState, NegTokenInit, NegTokenResp};

/// What a token led to.
#[derive(Debug)]
pub enum Step {
    /// Send this with STATUS_MORE_PROCESSING_REQUIRED.
    Continue(Vec<u8>),
    Done(Authenticated),
    /// Answer with the refusal's status; log its text.
    Failed(Refusal),
}

/// A finished exchange.
#[derive(Debug)]
pub struct Authenticated {
    /// The last token to send; empty without SPNEGO.
    pub reply: Vec<u8>,
    pub logon: Logon,
    pub session_key: SessionKey,
}

/// Whose proof a token carries, in the client's own words, before anything of it is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub user: String,
    pub domain: String,
    pub workstation: String,
}

/// Who logged on, in the client's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logon {
    pub kind: LogonKind,
    pub user: String,
    pub domain: String,
    pub workstation: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogonKind {
    User,
    /// An unknown user, let in as the guest account: holds no key, so nothing can be signed.
    Guest,
    Anonymous,
}

#[derive(Debug)]
pub struct Authenticator {
    acceptor: Acceptor,
    guest_for_unknown: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    AwaitNegotiate(Negotiation),
    /// `None` without SPNEGO.
    AwaitAuthenticate(Option<Negotiation>),
    Finished,
}

#[derive(Debug)]
struct Negotiation {
    mechanism_list: Vec<u8>,
    /// The client preferred another mechanism: only a MIC shows nobody took it off the list (RFC
    /// 4178 5).
    mic_required: bool,
}

impl Authenticator {
    pub fn new(acceptor: Acceptor) -> Authenticator {
        Authenticator {
            acceptor,
            guest_for_unknown: false,
            state: State::Start,
        }
    }

    /// `map to guest = bad user`: an unknown name, and only that, becomes the guest.
    pub fn guest_for_unknown(mut self, allow: bool) -> Authenticator {
        self.guest_for_unknown = allow;
        self
    }

    /// Whose proof this token carries, if it is the client's next and carries one: then `step` will
    /// judge it.
    pub fn claim(&self, token: &[u8]) -> Option<Claim> {
        let message = match &self.state {
            State::AwaitAuthenticate(None) => token.to_vec(),
            State::AwaitAuthenticate(Some(_)) => response_token(token).ok()?.0,
            _ => return None,
        };
        let message = Authenticate::parse(&message).ok()?;
        Some(Claim {
            user: message.user,
            domain: message.domain,
            workstation: message.workstation,
        })
    }

    /// The mechanism in use, for the log.
    pub fn mechanism(&self) -> &'static str {
        match &self.state {
            State::AwaitAuthenticate(None) => "NTLM without SPNEGO",
            _ => "NTLM",
        }
    }

    /// Takes the client's next token. `lookup` is asked once, for the name the client gives.
    pub fn step(&mut self, token: &[u8], lookup: &dyn Fn(&str) -> Account) -> Step {
        let outcome = match std::mem::replace(&mut self.state, State::Finished) {
            State::Start if MessageType::of(token).is_some() => self.bare_negotiate(token),
            State::Start => self.first_token(token),
            State::AwaitNegotiate(negotiation) => self.late_negotiate(token, negotiation),
            State::AwaitAuthenticate(None) => self.bare_authenticate(token, lookup),
            State::AwaitAuthenticate(Some(negotiation)) => {
                self.authenticate(token, negotiation, lookup)
            }
            State::Finished => Err(Refusal::OutOfTurn),
        };
        outcome.unwrap_or_else(Step::Failed)
    }

    fn bare_negotiate(&mut self, token: &[u8]) -> Result<Step, Refusal> {
        let challenge = self.acceptor.challenge(token)?;
        self.state = State::AwaitAuthenticate(None);
        Ok(Step::Continue(challenge))
    }

    fn bare_authenticate(
        &mut self,
        token: &[u8],
        lookup: &dyn Fn(&str) -> Account,
    ) -> Result<Step, Refusal> {
        let (logon, accepted) = self.judge(token, lookup)?;
        Ok(Step::Done(Authenticated {
            reply: Vec::new(),
            logon,
            session_key: accepted.session_key,
        }))
    }

    fn first_token(&mut self, token: &[u8]) -> Result<Step, Refusal> {
        let init = NegTokenInit::parse(token)?;
        let place = init
            .mechanisms
            .iter()
            .position(|mechanism| *mechanism == NTLMSSP);
        let mic_required = place.ok_or(Refusal::NoCommonMechanism)? != 0;
        let negotiation = Negotiation {
            mechanism_list: init.mechanism_list,
            mic_required,
        };
        let mut reply = NegTokenResp {
            mechanism: Some(NTLMSSP),
            ..NegTokenResp::default()
        };
        reply.state = Some(if mic_required {
            NegState::RequestMic
        } else {
            NegState::AcceptIncomplete
        });
        // The optimistic token is the preferred mechanism's; another's is of no use here.
        match init.mech_token {
            Some(token) if MessageType::of(&token) == Some(MessageType::Negotiate) => {
                reply.response_token = Some(self.acceptor.challenge(&token)?);
                self.state = State::AwaitAuthenticate(Some(negotiation));
            }
            _ => self.state = State::AwaitNegotiate(negotiation),
        }
        Ok(Step::Continue(reply.build()))
    }

    fn late_negotiate(&mut self, token: &[u8], negotiation: Negotiation) -> Result<Step, Refusal> {
        let reply = NegTokenResp {
            state: Some(NegState::AcceptIncomplete),
            response_token: Some(self.acceptor.challenge(&response_token(token)?.0)?),
            ..NegTokenResp::default()
        };
        self.state = State::AwaitAuthenticate(Some(negotiation));
        Ok(Step::Continue(reply.build()))
    }

    fn authenticate(
        &mut self,
        token: &[u8],
        negotiation: Negotiation,
        lookup: &dyn Fn(&str) -> Account,
    ) -> Result<Step, Refusal> {
        let (message, client_mic) = response_token(token)?;
        let (logon, accepted) = self.judge(&message, lookup)?;
        let mech_list_mic = match logon.kind {
            // A guest's key is unknown here and an anonymous one is no secret: neither signs
            // anything.
            LogonKind::Guest | LogonKind::Anonymous => None,
            LogonKind::User => check_mic(&negotiation, client_mic.as_deref(), &accepted)?,
        };
        let reply = NegTokenResp {
            state: Some(NegState::AcceptCompleted),
            mech_list_mic,
            ..NegTokenResp::default()
        };
        let session_key = accepted.session_key;
        Ok(Step::Done(Authenticated {
            reply: reply.build(),
            logon,
            session_key,
        }))
    }

    fn judge(
        &mut self,
        message: &[u8],
        lookup: &dyn Fn(&str) -> Account,
    ) -> Result<(Logon, Accepted), Refusal> {
        let (kind, accepted) = match self.acceptor.authenticate(message, lookup) {
            Ok(accepted) if accepted.anonymous => (LogonKind::Anonymous, accepted),
            Ok(accepted) => (LogonKind::User, accepted),
            Err(Refusal::UnknownUser { .. }) if self.guest_for_unknown => {
                (LogonKind::Guest, Acceptor::accept_as_guest(message)?)
            }
            Err(refusal) => return Err(refusal),
        };
        let logon = Logon {
            kind,
            user: accepted.user.clone(),
            domain: accepted.domain.clone(),
            workstation: accepted.workstation.clone(),
        };
        Ok((logon, accepted))
    }
}

/// Checks the client's signature of its mechanism list and makes ours. Without one from the client,
/// none is due.
fn check_mic(
    negotiation: &Negotiation,
    client_mic: Option<&[u8]>,
    accepted: &Accepted,
) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(client_mic) = client_mic else {
        return if negotiation.mic_required {
            Err(Refusal::AlteredMechanisms)
        } else {
            Ok(None)
        };
    };
    let signatures = MessageSignatures::new(&accepted.session_key, accepted.flags)
        .ok_or(Refusal::AlteredMechanisms)?;
    if !signatures.is_by_client(&negotiation.mechanism_list, client_mic) {
        return Err(Refusal::AlteredMechanisms);
    }
    Ok(Some(
        signatures.by_server(&negotiation.mechanism_list).to_vec(),
    ))
}

/// The mechanism's token and the MIC of a NegTokenResp.
fn response_token(token: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Refusal> {
    let response = NegTokenResp::parse(token)?;
    if response.state == Some(NegState::Reject) {
        return Err(Refusal::NoCommonMechanism);
    }
    let message = response.response_token.ok_or(Refusal::MalformedToken {
        field: "responseToken",
    })?;
    Ok((message, response.mech_list_mic))
}
