//! Both ends against the published example (MS-NLMP 4.2.4) and against each other, honest and not.

use proptest::prelude::*;

use super::message::Authenticate;
use super::response::{ResponseKey, hmac_md5, md5, rc4};
use super::*;

mod pairs;

const SERVER_CHALLENGE: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF];
/// 2026-01-01, as a FILETIME.
const NOW: u64 = 134_116_992_000_000_000;
const HOUR: u64 = 3600 * 10_000_000;

/// The AUTHENTICATE_MESSAGE of MS-NLMP 4.2.4.3.
const PUBLISHED_AUTHENTICATE: &str = "
    4e544c4d53535000 03000000 180018006c000000 5400540084000000 0c000c0048000000 0800080054000000
    100010005c000000 10001000d8000000 358288e2 0501280a0000000f
    44006f006d00610069006e00 5500730065007200 43004f004d0050005500540045005200
    86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa
    68cd0ab851e51c96aabc927bebef6a1c
    01010000000000000000000000000000aaaaaaaaaaaaaaaa00000000
    02000c0044006f006d00610069006e0001000c005300650072007600650072000000000000000000
    c5dad2544fc979909 4ce1ce90bc9d03e";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn names() -> ServerNames {
    ServerNames {
        netbios_name: "FILES".into(),
        netbios_domain: "FILES".into(),
        dns_name: "files.example".into(),
        dns_domain: "example".into(),
    }
}

fn acceptor() -> Acceptor {
    Acceptor::new(names(), SERVER_CHALLENGE, NOW)
}

fn initiator(user: &str, password: &str) -> Initiator {
    client(Credentials::with_password(user, "WORKGROUP", password))
}

fn client(credentials: Credentials) -> Initiator {
    let random = InitiatorRandom {
        client_challenge: [0xAA; 8],
        session_key: [0x55; 16],
    };
    Initiator::new(credentials, "DESK", "cifs/files", random, NOW)
}

/// Knows one user, `alice`, whatever the letters' case.
fn lookup(user: &str) -> Account {
    match user.to_lowercase().as_str() {
        "alice" => Account::Enabled(NtHash::of_password("Sésame-42")),
        "bob" => Account::Disabled,
        _ => Account::Unknown,
    }
}

/// Runs an exchange in which `alter` may change the last message.
fn exchange(
    client: &Initiator,
    alter: impl FnOnce(&mut Vec<u8>),
) -> (Result<Accepted, Refusal>, Initiated) {
    let mut server = acceptor();
    let challenge = server.challenge(client.negotiate()).unwrap();
    let mut initiated = client.authenticate(&challenge).unwrap();
    alter(&mut initiated.authenticate);
    (
        server.authenticate(&initiated.authenticate, &lookup),
        initiated,
    )
}

fn refusal(client: &Initiator, alter: impl FnOnce(&mut Vec<u8>)) -> Refusal {
    exchange(client, alter).0.unwrap_err()
}

/// Parses, changes and rebuilds the last message, without a new MIC.
fn rewrite(message: &mut Vec<u8>, change: impl FnOnce(&mut Authenticate)) {
    let mut claim = Authenticate::parse(message).unwrap();
    change(&mut claim);
    *message = claim.build();
}

#[test]
fn the_published_example_is_computed() {
    let hash = NtHash::of_password("Password");
    assert_eq!(
        hash.as_bytes().to_vec(),
        hex("a4f49c406510bdcab6824ee7c30fd852")
    );
    let published = Authenticate::parse(&hex(PUBLISHED_AUTHENTICATE)).unwrap();
    let key = ResponseKey::new(&hash, "User", "Domain");
    let (expected_proof, blob) = published.nt_response.split_at(16);
    let proof = key.proof(&SERVER_CHALLENGE, blob);
    assert_eq!(proof, expected_proof);
    let base = key.session_base_key(&proof);
    assert_eq!(
        base.as_bytes().to_vec(),
        hex("8de40ccadbc14a82f15cb0ad0de95ca3")
    );
    assert_eq!(
        key.lm_response(&SERVER_CHALLENGE, &[0xAA; 8]),
        published.lm_response
    );
    assert_eq!(
        rc4(base.as_bytes(), [0x55; 16]).to_vec(),
        published.encrypted_session_key
    );
}

#[test]
fn the_published_example_is_accepted() {
    let mut server = Acceptor::new(names(), SERVER_CHALLENGE, 0);
    server.challenge(initiator("", "").negotiate()).unwrap();
    let accepted = server
        .authenticate(&hex(PUBLISHED_AUTHENTICATE), &|_| {
            Account::Enabled(NtHash::of_password("Password"))
        })
        .unwrap();
    assert_eq!(
        (accepted.user.as_str(), accepted.domain.as_str()),
        ("User", "Domain")
    );
    assert_eq!(accepted.workstation, "COMPUTER");
    assert_eq!(accepted.session_key.as_bytes(), &[0x55; 16]);
}

/// MS-NLMP 4.2.4.4: there the RC4 stream seals a text first, then the checksum.
#[test]
fn the_published_signature_is_computed() {
    let text = hex("50006c00610069006e007400650078007400");
    let key = SessionKey::from_bytes([0x55; 16]);
    let flags = NegotiateFlags::EXTENDED_SESSION_SECURITY | NegotiateFlags::KEY_128;
    let signature = MessageSignatures::new(&key, flags)
        .unwrap()
        .by_client(&text);
    assert_eq!(
        signature.to_vec(),
        hex("01000000 70352851f2564309 00000000")
    );

    let sealing = md5(&[
        &[0x55; 16],
        b"session key to client-to-server sealing key magic constant\0",
    ]);
    assert_eq!(sealing.to_vec(), hex("59f600973cc4960a25480a7c196e4c58"));
    let mut stream = [0; 26];
    stream[..18].copy_from_slice(&text);
    stream[18..].copy_from_slice(&signature[4..12]);
    assert_eq!(
        rc4(&sealing, stream).to_vec(),
        hex("54e50165bf1936dc996020c1811b0f06fb5f 7fb38ec5c55d4976")
    );
}

#[test]
fn the_right_password_is_accepted_with_one_key_on_both_ends() {
    let (accepted, initiated) = exchange(&initiator("alice", "Sésame-42"), |_| {});
    let accepted = accepted.unwrap();
    assert_eq!(accepted.session_key, initiated.session_key);
    assert_eq!(accepted.user, "alice");
    assert_eq!(accepted.workstation, "DESK");
    assert!(!accepted.anonymous);
}

#[test]
fn letter_case_of_the_user_and_the_domain_do_not_matter() {
    for (user, domain) in [("ALICE", "x"), ("Alice", ""), ("alice", "files")] {
        let client = client(Credentials::with_password(user, domain, "Sésame-42"));
        assert!(exchange(&client, |_| {}).0.is_ok(), "{user} {domain}");
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_alike() {
    let wrong = refusal(&initiator("alice", "sésame-42"), |_| {});
    assert_eq!(
        wrong,
        Refusal::WrongPassword {
            user: "alice".into()
        }
    );
    let unknown = refusal(&initiator("mallory", "Sésame-42"), |_| {});
    assert_eq!(
        unknown,
        Refusal::UnknownUser {
            user: "mallory".into()
        }
    );
    assert_eq!(wrong.status(), unknown.status());
    let disabled = refusal(&initiator("bob", "Sésame-42"), |_| {});
    assert_eq!(disabled, Refusal::DisabledUser { user: "bob".into() });
    assert_eq!(wrong.status(), disabled.status());
    // Whoever knows the stand-in for a missing hash gets in no better.
    let zeros = Credentials::User {
        user: "mallory".into(),
        domain: String::new(),
        hash: NtHash::from_bytes([0; 16]),
    };
    assert!(matches!(
        refusal(&client(zeros), |_| {}),
        Refusal::UnknownUser { .. }
    ));
}

#[test]
fn an_altered_proof_is_a_wrong_password() {
    for place in [0, 7, 15, 30] {
        let refused = refusal(&initiator("alice", "Sésame-42"), |message| {
            rewrite(message, |claim| claim.nt_response[place] ^= 1);
        });
        assert_eq!(
            refused,
            Refusal::WrongPassword {
                user: "alice".into()
            },
            "byte {place}"
        );
    }
}

#[test]
fn an_altered_mic_is_refused() {
    let refused = refusal(&initiator("alice", "Sésame-42"), |message| {
        message[72] ^= 1
    });
    assert_eq!(
        refused,
        Refusal::AlteredExchange {
            user: "alice".into()
        }
    );
}

#[test]
fn flags_taken_away_on_the_wire_are_noticed_by_the_mic() {
    let refused = refusal(&initiator("alice", "Sésame-42"), |message| {
        let mut claim = Authenticate::parse(message).unwrap();
        claim.flags.remove(NegotiateFlags::SEAL);
        *message = claim.build();
    });
    assert_eq!(
        refused,
        Refusal::AlteredExchange {
            user: "alice".into()
        }
    );
}

#[test]
fn a_challenge_altered_on_its_way_is_noticed_by_the_mic() {
    let client = initiator("alice", "Sésame-42");
    let mut server = acceptor();
    let mut challenge = server.challenge(client.negotiate()).unwrap();
    challenge[20] ^= 0x20;
    let initiated = client.authenticate(&challenge).unwrap();
    let refused = server
        .authenticate(&initiated.authenticate, &lookup)
        .unwrap_err();
    assert_eq!(
        refused,
        Refusal::AlteredExchange {
            user: "alice".into()
        }
    );
}

#[test]
fn a_response_to_another_challenge_is_refused() {
    let client = initiator("alice", "Sésame-42");
    let mut other = Acceptor::new(names(), [9; 8], NOW);
    let replayed = client
        .authenticate(&other.challenge(client.negotiate()).unwrap())
        .unwrap();
    let mut server = acceptor();
    server.challenge(client.negotiate()).unwrap();
    let refused = server
        .authenticate(&replayed.authenticate, &lookup)
        .unwrap_err();
    assert_eq!(
        refused,
        Refusal::WrongPassword {
            user: "alice".into()
        }
    );
}

#[test]
fn ntlm_1_and_lm_responses_are_refused() {
    for (nt_length, lm_length) in [(24, 24), (0, 24), (16, 0)] {
        let refused = refusal(&initiator("alice", "Sésame-42"), |message| {
            rewrite(message, |claim| {
                claim.nt_response = vec![0; nt_length];
                claim.lm_response = vec![1; lm_length];
            });
        });
        assert_eq!(
            refused,
            Refusal::OldResponse {
                user: "alice".into()
            }
        );
    }
}

#[test]
fn nobody_comes_in_only_where_nobody_is_allowed() {
    let client = client(Credentials::Anonymous);
    assert_eq!(refusal(&client, |_| {}), Refusal::Anonymous);
    let mut server = acceptor().allow_anonymous(true);
    let challenge = server.challenge(client.negotiate()).unwrap();
    let initiated = client.authenticate(&challenge).unwrap();
    let accepted = server
        .authenticate(&initiated.authenticate, &lookup)
        .unwrap();
    assert!(accepted.anonymous && accepted.user.is_empty());
    assert_eq!(accepted.session_key, initiated.session_key);
}

#[test]
fn a_user_without_a_response_is_not_nobody() {
    let mut server = acceptor().allow_anonymous(true);
    let client = initiator("alice", "Sésame-42");
    let challenge = server.challenge(client.negotiate()).unwrap();
    let mut message = client.authenticate(&challenge).unwrap().authenticate;
    rewrite(&mut message, |claim| claim.nt_response.clear());
    let refused = server.authenticate(&message, &lookup).unwrap_err();
    assert_eq!(
        refused,
        Refusal::OldResponse {
            user: "alice".into()
        }
    );
}

#[test]
fn a_clock_may_be_a_day_off_but_not_a_week() {
    // The client repeats the time of the challenge, so the server's own clock moves between the
    // two.
    let with_skew = |skew: u64| {
        let client = initiator("alice", "Sésame-42");
        let mut early = Acceptor::new(names(), SERVER_CHALLENGE, NOW);
        let challenge = early.challenge(client.negotiate()).unwrap();
        let initiated = client.authenticate(&challenge).unwrap();
        let mut message = initiated.authenticate;
        let mut late = Acceptor::new(names(), SERVER_CHALLENGE, NOW + skew);
        let late_challenge = late.challenge(client.negotiate()).unwrap();
        let parts = Authenticate::around_mic(&message).unwrap();
        let mic = hmac_md5(
            initiated.session_key.as_bytes(),
            &[
                client.negotiate(),
                &late_challenge,
                parts.0,
                &[0; 16],
                parts.1,
            ],
        );
        Authenticate::set_mic(&mut message, &mic);
        late.authenticate(&message, &lookup)
            .map(|accepted| accepted.user)
    };
    assert!(with_skew(24 * HOUR).is_ok());
    assert_eq!(
        with_skew(7 * 24 * HOUR),
        Err(Refusal::ClockSkew {
            user: "alice".into()
        })
    );
}

#[test]
fn a_client_that_asks_for_no_key_exchange_uses_the_base_key() {
    let client = initiator("alice", "Sésame-42");
    let mut negotiate = client.negotiate().to_vec();
    negotiate[15] &= !0x40;
    let mut server = acceptor();
    let challenge = server.challenge(&negotiate).unwrap();
    let flags = Challenge::parse(&challenge).unwrap().flags;
    assert!(!flags.contains(NegotiateFlags::KEY_EXCHANGE));
    let initiated = client.authenticate(&challenge).unwrap();
    assert_ne!(initiated.session_key.as_bytes(), &[0x55; 16]);
    // The MIC covers the message the client believes it sent: it notices.
    let refused = server
        .authenticate(&initiated.authenticate, &lookup)
        .unwrap_err();
    assert_eq!(
        refused,
        Refusal::AlteredExchange {
            user: "alice".into()
        }
    );
}

#[test]
fn a_key_of_the_wrong_length_is_malformed() {
    let refused = refusal(&initiator("alice", "Sésame-42"), |message| {
        rewrite(message, |claim| claim.encrypted_session_key.truncate(8));
    });
    assert_eq!(
        refused,
        Refusal::Malformed(Malformed {
            field: "EncryptedRandomSessionKey"
        })
    );
}

#[test]
fn messages_out_of_turn_are_refused() {
    let client = initiator("alice", "Sésame-42");
    assert_eq!(
        acceptor().authenticate(&[], &lookup).unwrap_err(),
        Refusal::OutOfTurn
    );
    let mut server = acceptor();
    let challenge = server.challenge(client.negotiate()).unwrap();
    assert_eq!(
        server.challenge(client.negotiate()),
        Err(Refusal::OutOfTurn)
    );
    let initiated = client.authenticate(&challenge).unwrap();
    server
        .authenticate(&initiated.authenticate, &lookup)
        .unwrap();
    let again = server
        .authenticate(&initiated.authenticate, &lookup)
        .unwrap_err();
    assert_eq!(again, Refusal::OutOfTurn);
}

#[test]
fn a_client_without_unicode_is_refused() {
    let mut negotiate = initiator("alice", "x").negotiate().to_vec();
    negotiate[12] &= !1;
    assert_eq!(acceptor().challenge(&negotiate), Err(Refusal::NoUnicode));
}

#[test]
fn a_short_negotiate_without_version_is_answered() {
    // What impacket sends: nothing behind the flags counts.
    assert!(
        acceptor()
            .challenge(&initiator("alice", "x").negotiate()[..16])
            .is_ok()
    );
}

#[test]
fn truncated_messages_are_malformed_at_every_length() {
    let client = initiator("alice", "Sésame-42");
    for length in 0..16 {
        let refused = acceptor()
            .challenge(&client.negotiate()[..length])
            .unwrap_err();
        assert!(matches!(refused, Refusal::Malformed(_)), "{length}");
    }
    let mut server = acceptor();
    let challenge = server.challenge(client.negotiate()).unwrap();
    let whole = client.authenticate(&challenge).unwrap().authenticate;
    for length in 0..whole.len() {
        let refused = refusal(&client, |message| message.truncate(length));
        assert!(
            matches!(refused, Refusal::Malformed(_)),
            "{length}: {refused}"
        );
    }
    for length in 0..48 {
        assert!(Challenge::parse(&challenge[..length]).is_err(), "{length}");
    }
}

#[test]
fn av_pairs_survive_a_round_trip_and_stop_at_their_end() {
    let pairs = AvPairs::of_server(&names(), NOW);
    assert_eq!(pairs.timestamp(), Some(NOW));
    let mut bytes = pairs.build();
    bytes.extend_from_slice(&[0xFF; 5]);
    assert_eq!(AvPairs::parse(&bytes).unwrap(), pairs);
    assert!(AvPairs::parse(&bytes[..bytes.len() - 9]).is_err());
    assert!(AvPairs::parse(&[]).is_err());
}

#[test]
fn secrets_are_not_printed() {
    let shown = format!(
        "{:?} {:?}",
        NtHash::from_bytes([0xAB; 16]),
        SessionKey::from_bytes([0xAB; 16])
    );
    assert!(!shown.contains("ab") && !shown.contains("171"), "{shown}");
    let client = initiator("alice", "Sésame-42");
    assert!(!format!("{client:?}").contains("85, 85"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_acceptor_panic(first in any::<Vec<u8>>(), mut last in any::<Vec<u8>>()) {
        let _ = acceptor().challenge(&first);
        let mut server = acceptor();
        server.challenge(initiator("", "").negotiate()).unwrap();
        last.splice(0..0, *b"NTLMSSP\0\x03\0\0\0");
        let _ = server.authenticate(&last, &lookup);
        let _ = Challenge::parse(&last);
    }

    #[test]
    fn no_altered_byte_lets_anyone_in_or_makes_anything_panic(place in 0usize..400, flip in 1u8..) {
        let (outcome, initiated) = exchange(&initiator("alice", "Sésame-42"), |message| {
            let place = place % message.len();
            message[place] ^= flip;
        });
        // Not all bytes mean something: MaxLength and the version's own fields stand under the MIC
        // too.
        let refused = outcome.map(|accepted| (accepted.user, initiated)).unwrap_err();
        prop_assert!(refused.status().is_error());
    }

    #[test]
    fn no_challenge_makes_the_initiator_panic(bytes in any::<Vec<u8>>(), place in 0usize..300, flip in any::<u8>()) {
        let client = initiator("alice", "Sésame-42");
        let _ = client.authenticate(&bytes);
        let mut challenge = acceptor().challenge(client.negotiate()).unwrap();
        let place = place % challenge.len();
        challenge[place] ^= flip;
        let _ = client.authenticate(&challenge);
    }
}
