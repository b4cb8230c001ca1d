//! The server's end: one exchange of SESSION_SETUP tokens, from first to verdict.
//!
//! ```text
//! Start ── NegTokenInit with NTLM's token, or bare NTLM ────────────► AwaitAuthenticate ──► Finished
//!   ├───── NegTokenInit with another's token ──► AwaitNegotiate ───────────┘                  ▲
//!   └───── … that prefers Kerberos ──► (AwaitTicket ──► AwaitListMic) ────────────────────────┘
//! ```
//! The mechanism is the first of the client's list that this server has. Its token may come along at
//! once if it is the client's favourite; a favourite of others' is asked to sign the list instead.
//! Any error ends the exchange: the next token is refused too.

use std::time::Duration;

use crate::security::kerberos::Tickets;
use crate::security::ntlm::{
    Accepted, Acceptor, Account, Authenticate, MessageSignatures, MessageType, Refusal, SessionKey,
};

use der::asn1::ObjectIdentifier;

use super::token::{KERBEROS, MS_KERBEROS, NTLMSSP, NegState, NegTokenInit, NegTokenResp};

/// What the log calls Kerberos.
pub const KERBEROS_NAME: &str = "Kerberos";

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
    /// How long it is good; `None` for ever.
    pub lifetime: Option<Duration>,
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
    pub mechanism: Mechanism,
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

/// What proved who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Ntlm,
    Kerberos,
}

#[derive(Debug)]
pub struct Authenticator {
    acceptor: Acceptor,
    accepts_ntlm: bool,
    guest_for_unknown: bool,
    kerberos: Option<Kerberos>,
    state: State,
}

/// What judges tickets, and whose users they may be.
#[derive(Debug)]
struct Kerberos {
    tickets: Box<dyn Tickets>,
    realm: String,
}

#[derive(Debug)]
enum State {
    Start,
    AwaitNegotiate(Negotiation),
    /// `None` without SPNEGO.
    AwaitAuthenticate(Option<Negotiation>),
    AwaitTicket(Negotiation),
    /// A ticket was accepted, and the client's signature of its list is due.
    AwaitListMic(Negotiation, Box<Authenticated>),
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
            accepts_ntlm: true,
            guest_for_unknown: false,
            kerberos: None,
            state: State::Start,
        }
    }

    /// `ntlm auth = disabled`: Kerberos or nothing.
    pub fn ntlm(mut self, accept: bool) -> Authenticator {
        self.accepts_ntlm = accept;
        self
    }

    /// Accepts Kerberos from users of `realm`; of an empty one, krb5.conf says whose.
    pub fn kerberos(mut self, tickets: Box<dyn Tickets>, realm: &str) -> Authenticator {
        self.kerberos = Some(Kerberos {
            tickets,
            realm: realm.to_owned(),
        });
        self
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

    /// The mechanism this token is for, for the log.
    pub fn mechanism(&self, token: &[u8]) -> &'static str {
        match &self.state {
            State::AwaitAuthenticate(None) => "NTLM without SPNEGO",
            _ if self.has_ticket(token) => KERBEROS_NAME,
            State::AwaitListMic(..) => KERBEROS_NAME,
            _ => "NTLM",
        }
    }

    /// Whether `step` will judge a Kerberos ticket in this token, and may wait for disks then.
    pub fn has_ticket(&self, token: &[u8]) -> bool {
        match &self.state {
            State::Start => NegTokenInit::parse(token).is_ok_and(|init| {
                let favourite = init.mechanisms.first();
                self.kerberos.is_some()
                    && favourite.is_some_and(is_kerberos)
                    && init.mech_token.is_some()
            }),
            State::AwaitTicket(_) => true,
            _ => false,
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
            State::AwaitTicket(negotiation) => response_token(token)
                .and_then(|(ticket, _)| self.judge_ticket(&ticket, negotiation, None)),
            State::AwaitListMic(negotiation, authenticated) => {
                self.check_list(token, &negotiation, *authenticated)
            }
            State::Finished => Err(Refusal::OutOfTurn),
        };
        outcome.unwrap_or_else(Step::Failed)
    }

    fn bare_negotiate(&mut self, token: &[u8]) -> Result<Step, Refusal> {
        if !self.accepts_ntlm {
            return Err(Refusal::NtlmDisabled);
        }
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
            lifetime: None,
        }))
    }

    fn first_token(&mut self, token: &[u8]) -> Result<Step, Refusal> {
        let init = NegTokenInit::parse(token)?;
        let (place, mechanism) = self.choose(&init.mechanisms)?;
        let negotiation = Negotiation {
            mechanism_list: init.mechanism_list,
            mic_required: place != 0,
        };
        // The optimistic token is the favourite's; another's is of no use here.
        let optimistic = init.mech_token.filter(|_| place == 0);
        if is_kerberos(&mechanism)
            && let Some(ticket) = &optimistic
        {
            return self.judge_ticket(ticket, negotiation, Some(mechanism));
        }
        let mut reply = NegTokenResp {
            mechanism: Some(mechanism),
            ..NegTokenResp::default()
        };
        reply.state = Some(if negotiation.mic_required {
            NegState::RequestMic
        } else {
            NegState::AcceptIncomplete
        });
        match optimistic {
            _ if is_kerberos(&mechanism) => self.state = State::AwaitTicket(negotiation),
            Some(token) if MessageType::of(&token) == Some(MessageType::Negotiate) => {
                reply.response_token = Some(self.acceptor.challenge(&token)?);
                self.state = State::AwaitAuthenticate(Some(negotiation));
            }
            _ => self.state = State::AwaitNegotiate(negotiation),
        }
        Ok(Step::Continue(reply.build()))
    }

    /// The client's first mechanism that is to be had here, and its place in the client's list.
    fn choose(&self, offered: &[ObjectIdentifier]) -> Result<(usize, ObjectIdentifier), Refusal> {
        let has = |mechanism: &ObjectIdentifier| match is_kerberos(mechanism) {
            true => self.kerberos.is_some(),
            false => *mechanism == NTLMSSP && self.accepts_ntlm,
        };
        match offered.iter().position(has) {
            Some(place) => Ok((place, offered.get(place).copied().unwrap_or(NTLMSSP))),
            None if !self.accepts_ntlm => Err(Refusal::NtlmDisabled),
            None => Err(Refusal::NoCommonMechanism),
        }
    }

    /// With a favourite's ticket the exchange is over; else the client has to sign its list.
    fn judge_ticket(
        &mut self,
        ticket: &[u8],
        negotiation: Negotiation,
        mechanism: Option<ObjectIdentifier>,
    ) -> Result<Step, Refusal> {
        let Some(kerberos) = &mut self.kerberos else {
            return Err(Refusal::NoCommonMechanism);
        };
        let ticket = kerberos.tickets.accept(ticket)?;
        let user = ticket
            .user(&kerberos.realm)
            .ok_or_else(|| Refusal::ForeignPrincipal {
                principal: ticket.principal.clone(),
            })?;
        let mut authenticated = Authenticated {
            reply: Vec::new(),
            logon: Logon {
                kind: LogonKind::User,
                mechanism: Mechanism::Kerberos,
                user: user.to_owned(),
                domain: ticket.realm().to_owned(),
                workstation: String::new(),
            },
            session_key: ticket.key(),
            lifetime: ticket.lifetime,
        };
        let mut reply = NegTokenResp {
            state: Some(NegState::AcceptCompleted),
            mechanism,
            response_token: Some(ticket.reply),
            mech_list_mic: None,
        };
        if !negotiation.mic_required {
            authenticated.reply = reply.build();
            return Ok(Step::Done(authenticated));
        }
        let signature = kerberos.tickets.sign(&negotiation.mechanism_list);
        reply.state = Some(NegState::AcceptIncomplete);
        reply.mech_list_mic = Some(signature.ok_or(Refusal::AlteredMechanisms)?);
        self.state = State::AwaitListMic(negotiation, Box::new(authenticated));
        Ok(Step::Continue(reply.build()))
    }

    /// The client's signature of its list, of a Kerberos that was not its favourite.
    fn check_list(
        &mut self,
        token: &[u8],
        negotiation: &Negotiation,
        mut authenticated: Authenticated,
    ) -> Result<Step, Refusal> {
        let signature = NegTokenResp::parse(token)?.mech_list_mic;
        let is_signed = match (&mut self.kerberos, signature) {
            (Some(kerberos), Some(signature)) => kerberos
                .tickets
                .is_signature(&negotiation.mechanism_list, &signature),
            _ => false,
        };
        if !is_signed {
            return Err(Refusal::AlteredMechanisms);
        }
        authenticated.reply = NegTokenResp {
            state: Some(NegState::AcceptCompleted),
            ..NegTokenResp::default()
        }
        .build();
        Ok(Step::Done(authenticated))
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
            lifetime: None,
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
            mechanism: Mechanism::Ntlm,
            user: accepted.user.clone(),
            domain: accepted.domain.clone(),
            workstation: accepted.workstation.clone(),
        };
        Ok((logon, accepted))
    }
}

/// Either number of it.
fn is_kerberos(mechanism: &ObjectIdentifier) -> bool {
    [KERBEROS, MS_KERBEROS].contains(mechanism)
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
