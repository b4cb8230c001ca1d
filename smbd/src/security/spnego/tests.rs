//! Tokens against known bytes, and whole exchanges of both ends, honest and not.

use proptest::prelude::*;

use std::time::Duration;

use super::token::*;
use super::*;
use crate::security::kerberos::{Ticket, TicketError, Tickets};
use crate::security::ntlm::{
    Acceptor, Account, Credentials, Initiator as NtlmInitiator, InitiatorRandom, NtHash, Refusal,
    ServerNames,
};

const NOW: u64 = 134_116_992_000_000_000;

fn lookup(user: &str) -> Account {
    match user.to_lowercase().as_str() {
        "alice" => Account::Enabled(NtHash::of_password("secret")),
        "bob" => Account::Disabled,
        _ => Account::Unknown,
    }
}

fn acceptor() -> Acceptor {
    let names = ServerNames {
        netbios_name: "FILES".into(),
        ..ServerNames::default()
    };
    Acceptor::new(names, [7; 8], NOW)
}

fn ntlm(user: &str, password: &str) -> NtlmInitiator {
    let random = InitiatorRandom {
        client_challenge: [0xAA; 8],
        session_key: [0x55; 16],
    };
    let credentials = Credentials::with_password(user, "", password);
    NtlmInitiator::new(credentials, "DESK", "cifs/files", random, NOW)
}

/// Runs an exchange to the server's verdict; `alter` may change each of the client's tokens,
/// numbered from 0.
fn exchange(
    client: &mut Initiator,
    server: &mut Authenticator,
    alter: impl Fn(usize, Vec<u8>) -> Vec<u8>,
) -> Result<Authenticated, Refusal> {
    let mut token = client.first_token();
    for round in 0..5 {
        token = match server.step(&alter(round, token), &lookup) {
            Step::Done(authenticated) => return Ok(authenticated),
            Step::Failed(refusal) => return Err(refusal),
            Step::Continue(reply) => match client.step(&reply)? {
                InitiatorStep::Continue(next) => next,
                InitiatorStep::Done => panic!("the client was done before the server"),
            },
        };
    }
    panic!("the exchange did not end");
}

fn honest(client: &mut Initiator) -> Authenticated {
    let mut server = Authenticator::new(acceptor());
    let authenticated = exchange(client, &mut server, |_, token| token).unwrap();
    assert_eq!(Some(&authenticated.session_key), client.session_key());
    assert!(matches!(
        client.step(&authenticated.reply),
        Ok(InitiatorStep::Done)
    ));
    authenticated
}

#[test]
fn the_hint_names_ntlm_and_nothing_that_rfc_4178_does_not_know() {
    let expected = [
        0x60, 0x1c, 0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02, 0xa0, 0x12, 0x30, 0x10, 0xa0,
        0x0e, 0x30, 0x0c, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a,
    ];
    assert_eq!(negotiate_hint(false, true), expected);
    let parsed = NegTokenInit::parse(&negotiate_hint(false, true)).unwrap();
    assert_eq!(parsed.mechanisms, [NTLMSSP]);
    assert_eq!(parsed.mech_token, None);
}

#[test]
fn tokens_survive_a_round_trip() {
    let init = NegTokenInit::new(&[MS_KERBEROS, KERBEROS, NTLMSSP], Some(vec![1; 300]));
    assert_eq!(NegTokenInit::parse(&init.build()).unwrap(), init);
    let response = NegTokenResp {
        state: Some(NegState::RequestMic),
        mechanism: Some(NTLMSSP),
        response_token: Some(vec![2; 70_000]),
        mech_list_mic: Some(vec![3; 16]),
    };
    assert_eq!(NegTokenResp::parse(&response.build()).unwrap(), response);
    assert_eq!(
        NegTokenResp::parse(&NegTokenResp::default().build()).unwrap(),
        NegTokenResp::default()
    );
}

#[test]
fn an_optimistic_client_is_in_after_two_tokens_and_both_lists_are_signed() {
    let mut client = Initiator::new(ntlm("alice", "secret"));
    let authenticated = honest(&mut client);
    assert_eq!(authenticated.logon.kind, LogonKind::User);
    assert_eq!(authenticated.logon.user, "alice");
    let last = NegTokenResp::parse(&authenticated.reply).unwrap();
    assert_eq!(last.state, Some(NegState::AcceptCompleted));
    assert_eq!(last.mech_list_mic.map(|mic| mic.len()), Some(16));
}

#[test]
fn a_client_that_prefers_kerberos_falls_back_and_must_sign_its_list() {
    honest(&mut Initiator::with_mechanisms(
        ntlm("alice", "secret"),
        &[MS_KERBEROS, KERBEROS, NTLMSSP],
    ));
    let mut client = Initiator::with_mechanisms(ntlm("alice", "secret"), &[KERBEROS, NTLMSSP]);
    let refused = exchange(
        &mut client,
        &mut Authenticator::new(acceptor()),
        |round, token| {
            if round < 2 {
                token
            } else {
                without_mic(&token)
            }
        },
    );
    assert_eq!(refused.unwrap_err(), Refusal::AlteredMechanisms);
}

#[test]
fn another_mechanisms_optimistic_token_is_left_alone() {
    let init = NegTokenInit::new(&[KERBEROS, NTLMSSP], Some(b"a Kerberos ticket".to_vec()));
    let Step::Continue(reply) = Authenticator::new(acceptor()).step(&init.build(), &lookup) else {
        panic!("refused");
    };
    let reply = NegTokenResp::parse(&reply).unwrap();
    assert_eq!(reply.state, Some(NegState::RequestMic));
    assert_eq!(reply.mechanism, Some(NTLMSSP));
    assert_eq!(reply.response_token, None);
}

#[test]
fn a_mechanism_taken_off_the_list_on_the_wire_is_noticed() {
    let mut client = Initiator::with_mechanisms(ntlm("alice", "secret"), &[KERBEROS, NTLMSSP]);
    let refused = exchange(
        &mut client,
        &mut Authenticator::new(acceptor()),
        |round, token| {
            if round == 0 {
                NegTokenInit::new(&[NTLMSSP], None).build()
            } else {
                token
            }
        },
    );
    assert_eq!(refused.unwrap_err(), Refusal::AlteredMechanisms);
}

#[test]
fn a_client_that_signs_no_list_gets_no_signature_back() {
    let mut client = Initiator::new(ntlm("alice", "secret"));
    let authenticated = exchange(
        &mut client,
        &mut Authenticator::new(acceptor()),
        |round, token| {
            if round == 0 {
                token
            } else {
                without_mic(&token)
            }
        },
    )
    .unwrap();
    assert_eq!(
        NegTokenResp::parse(&authenticated.reply)
            .unwrap()
            .mech_list_mic,
        None
    );
}

#[test]
fn the_client_notices_a_wrong_signature_of_the_server() {
    let mut client = Initiator::new(ntlm("alice", "secret"));
    let mut server = Authenticator::new(acceptor());
    let authenticated = exchange(&mut client, &mut server, |_, token| token).unwrap();
    let mut last = NegTokenResp::parse(&authenticated.reply).unwrap();
    last.mech_list_mic.as_mut().unwrap()[9] ^= 1;
    assert_eq!(
        client.step(&last.build()).unwrap_err(),
        Refusal::AlteredMechanisms
    );
}

#[test]
fn ntlm_without_spnego_is_accepted() {
    let authenticated = honest(&mut Initiator::bare(ntlm("ALICE", "secret")));
    assert!(authenticated.reply.is_empty());
    assert_eq!(authenticated.logon.user, "ALICE");
}

#[test]
fn a_wrong_password_fails_and_ends_the_exchange() {
    let mut client = Initiator::new(ntlm("alice", "guess"));
    let mut server = Authenticator::new(acceptor());
    let refused = exchange(&mut client, &mut server, |_, token| token).unwrap_err();
    assert_eq!(
        refused,
        Refusal::WrongPassword {
            user: "alice".into()
        }
    );
    let Step::Failed(refused) = server.step(
        &Initiator::new(ntlm("alice", "secret")).first_token(),
        &lookup,
    ) else {
        panic!("a second try in the same exchange");
    };
    assert_eq!(refused, Refusal::OutOfTurn);
}

#[test]
fn only_an_unknown_user_becomes_the_guest_and_only_where_guests_are_wanted() {
    let outcome = |user: &str, guests: bool| {
        let mut client = Initiator::new(ntlm(user, "guess"));
        let mut server = Authenticator::new(acceptor()).guest_for_unknown(guests);
        exchange(&mut client, &mut server, |_, token| token)
    };
    let guest = outcome("mallory", true).unwrap();
    assert_eq!(
        (guest.logon.kind, guest.logon.user.as_str()),
        (LogonKind::Guest, "mallory")
    );
    assert_eq!(
        NegTokenResp::parse(&guest.reply).unwrap().mech_list_mic,
        None
    );
    assert!(matches!(
        outcome("mallory", false),
        Err(Refusal::UnknownUser { .. })
    ));
    assert!(matches!(
        outcome("alice", true),
        Err(Refusal::WrongPassword { .. })
    ));
    assert!(matches!(
        outcome("bob", true),
        Err(Refusal::DisabledUser { .. })
    ));
}

#[test]
fn a_client_without_ntlm_is_told_so() {
    let token = NegTokenInit::new(&[KERBEROS], None).build();
    let Step::Failed(refusal) = Authenticator::new(acceptor()).step(&token, &lookup) else {
        panic!("accepted");
    };
    assert_eq!(refusal, Refusal::NoCommonMechanism);
}

#[test]
fn more_mechanisms_than_anyone_has_are_refused() {
    let many = vec![KERBEROS; 33];
    let refused = NegTokenInit::parse(&NegTokenInit::new(&many, None).build()).unwrap_err();
    assert_eq!(refused, Refusal::MalformedToken { field: "mechTypes" });
}

#[test]
fn truncated_tokens_are_malformed_at_every_length() {
    let init = Initiator::new(ntlm("alice", "secret")).first_token();
    for length in 0..init.len() {
        assert!(NegTokenInit::parse(&init[..length]).is_err(), "{length}");
    }
    let response = NegTokenResp {
        mechanism: Some(NTLMSSP),
        ..NegTokenResp::default()
    }
    .build();
    for length in 0..response.len() {
        assert!(
            NegTokenResp::parse(&response[..length]).is_err(),
            "{length}"
        );
    }
}

fn without_mic(token: &[u8]) -> Vec<u8> {
    NegTokenResp {
        mech_list_mic: None,
        ..NegTokenResp::parse(token).unwrap()
    }
    .build()
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in any::<Vec<u8>>()) {
        let _ = NegTokenInit::parse(&bytes);
        let _ = NegTokenResp::parse(&bytes);
        let _ = Authenticator::new(acceptor()).step(&bytes, &lookup);
        let _ = Initiator::new(ntlm("alice", "secret")).step(&bytes);
    }

    #[test]
    fn an_altered_byte_of_any_token_makes_nothing_panic(round in 0usize..3, place in any::<usize>(), flip in 1u8..) {
        let mut client = Initiator::with_mechanisms(ntlm("alice", "secret"), &[KERBEROS, NTLMSSP]);
        let mut server = Authenticator::new(acceptor());
        let _ = exchange(&mut client, &mut server, |at, mut token| {
            if at == round {
                let place = place % token.len();
                token[place] ^= flip;
            }
            token
        });
    }
}

/// Takes one token for alice's ticket; signatures are the message behind a letter.
#[derive(Debug)]
struct OneTicket;

impl Tickets for OneTicket {
    fn accept(&mut self, token: &[u8]) -> Result<Ticket, TicketError> {
        match token {
            b"alice's ticket" => Ok(Ticket {
                reply: b"AP-REP".to_vec(),
                principal: "alice@EXAMPLE.ORG".into(),
                local_name: None,
                session_key: vec![9; 32].into(),
                lifetime: Some(Duration::from_secs(60)),
            }),
            _ => Err(TicketError::Refused("not a ticket".into())),
        }
    }

    fn sign(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        Some([b"S", message].concat())
    }

    fn is_signature(&mut self, message: &[u8], signature: &[u8]) -> bool {
        signature == [b"C", message].concat()
    }
}

fn with_kerberos(realm: &str) -> Authenticator {
    Authenticator::new(acceptor()).kerberos(Box::new(OneTicket), realm)
}

fn tickets_token(mechanisms: &[der::asn1::ObjectIdentifier], ticket: &[u8]) -> Vec<u8> {
    NegTokenInit::new(mechanisms, Some(ticket.to_vec())).build()
}

#[test]
fn a_favourites_ticket_is_enough() {
    for favourite in [KERBEROS, MS_KERBEROS] {
        let token = tickets_token(&[favourite, NTLMSSP], b"alice's ticket");
        let mut server = with_kerberos("EXAMPLE.ORG");
        assert!(server.has_ticket(&token));
        assert_eq!(server.mechanism(&token), KERBEROS_NAME);
        let Step::Done(authenticated) = server.step(&token, &lookup) else {
            panic!("not in");
        };
        assert_eq!(authenticated.logon.user, "alice");
        assert_eq!(authenticated.logon.mechanism, Mechanism::Kerberos);
        assert_eq!(authenticated.session_key.full(), [9; 32]);
        assert_eq!(authenticated.lifetime, Some(Duration::from_secs(60)));
        let reply = NegTokenResp::parse(&authenticated.reply).unwrap();
        assert_eq!(reply.state, Some(NegState::AcceptCompleted));
        assert_eq!(reply.mechanism, Some(favourite), "the client's own number");
        assert_eq!(reply.response_token, Some(b"AP-REP".to_vec()));
    }
}

#[test]
fn a_bad_ticket_or_another_realms_is_refused_and_ends_the_exchange() {
    let refused = |realm: &str, ticket: &[u8]| {
        let mut server = with_kerberos(realm);
        let token = tickets_token(&[KERBEROS, NTLMSSP], ticket);
        let Step::Failed(refusal) = server.step(&token, &lookup) else {
            panic!("not refused");
        };
        assert!(matches!(
            server.step(&token, &lookup),
            Step::Failed(Refusal::OutOfTurn)
        ));
        refusal
    };
    assert!(matches!(
        refused("EXAMPLE.ORG", b"no ticket"),
        Refusal::Ticket(TicketError::Refused(_))
    ));
    for realm in ["OTHER.ORG", ""] {
        let principal = "alice@EXAMPLE.ORG".into();
        assert_eq!(
            refused(realm, b"alice's ticket"),
            Refusal::ForeignPrincipal { principal }
        );
    }
}

/// As a client that prefers what this server does not have: it must sign its list, so that nobody
/// can have put Kerberos behind what it wanted.
#[test]
fn a_ticket_of_no_favourite_is_good_only_with_a_signed_list() {
    let favourite = der::asn1::ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.2.30");
    let begun = || {
        let mut server = with_kerberos("EXAMPLE.ORG");
        let init = NegTokenInit::new(&[favourite, KERBEROS], Some(b"for another".to_vec()));
        let Step::Continue(reply) = server.step(&init.build(), &lookup) else {
            panic!("refused");
        };
        let reply = NegTokenResp::parse(&reply).unwrap();
        assert_eq!(reply.state, Some(NegState::RequestMic));
        assert_eq!(reply.mechanism, Some(KERBEROS));
        let ticket = NegTokenResp {
            response_token: Some(b"alice's ticket".to_vec()),
            ..NegTokenResp::default()
        }
        .build();
        assert!(server.has_ticket(&ticket));
        let Step::Continue(reply) = server.step(&ticket, &lookup) else {
            panic!("in without a signature");
        };
        let reply = NegTokenResp::parse(&reply).unwrap();
        let ours = [b"S", init.mechanism_list.as_slice()].concat();
        assert_eq!(reply.mech_list_mic, Some(ours));
        (server, init.mechanism_list)
    };
    let last = |signature: Option<Vec<u8>>| {
        NegTokenResp {
            mech_list_mic: signature,
            ..NegTokenResp::default()
        }
        .build()
    };
    let (mut server, list) = begun();
    let signed = last(Some([b"C", list.as_slice()].concat()));
    assert!(matches!(server.step(&signed, &lookup), Step::Done(_)));
    for signature in [None, Some(b"Canything".to_vec())] {
        let (mut server, _) = begun();
        assert!(matches!(
            server.step(&last(signature), &lookup),
            Step::Failed(Refusal::AlteredMechanisms)
        ));
    }
}

#[test]
fn ntlm_is_refused_where_it_is_disabled_in_every_wrapping() {
    let disabled = || with_kerberos("EXAMPLE.ORG").ntlm(false);
    let mut bare = Initiator::bare(ntlm("alice", "secret"));
    let mut wrapped = Initiator::new(ntlm("alice", "secret"));
    for token in [bare.first_token(), wrapped.first_token()] {
        assert!(matches!(
            disabled().step(&token, &lookup),
            Step::Failed(Refusal::NtlmDisabled)
        ));
    }
    let token = tickets_token(&[NTLMSSP, KERBEROS], b"alice's ticket");
    let Step::Continue(reply) = disabled().step(&token, &lookup) else {
        panic!("refused");
    };
    assert_eq!(
        NegTokenResp::parse(&reply).unwrap().mechanism,
        Some(KERBEROS)
    );
    let hint = NegTokenInit::parse(&negotiate_hint(true, false)).unwrap();
    assert_eq!(hint.mechanisms, [MS_KERBEROS, KERBEROS]);
}
