//! Logging on: SPNEGO tokens, NTLM messages, and whole exchanges of SESSION_SETUP tokens in which
//! nobody knows a password.

use smbd::security::ntlm::{
    Acceptor, Account, Authenticate, AvPairs, Challenge, Credentials, Initiator as Ntlm,
    InitiatorRandom, Negotiate, NtHash, ServerNames,
};
use smbd::security::spnego::{
    Authenticator, Initiator, InitiatorStep, KERBEROS, LogonKind, MS_KERBEROS, NTLMSSP,
    NegTokenInit, NegTokenResp, Step, negotiate_hint,
};

use crate::{joined, pieces};

const NOW: u64 = 134_116_992_000_000_000;

fn authenticator() -> Authenticator {
    let names = ServerNames {
        netbios_name: "FILES".into(),
        ..ServerNames::default()
    };
    Authenticator::new(Acceptor::new(names, [7; 8], NOW))
}

fn lookup(user: &str) -> Account {
    match user.to_lowercase().as_str() {
        "alice" => Account::Enabled(NtHash::of_password("secret")),
        "bob" => Account::Disabled,
        _ => Account::Unknown,
    }
}

fn client(password: &str) -> Ntlm {
    let random = InitiatorRandom {
        client_challenge: [0xAA; 8],
        session_key: [0x55; 16],
    };
    let credentials = Credentials::with_password("alice", "", password);
    Ntlm::new(credentials, "DESK", "cifs/files", random, NOW)
}

/// A token that is understood is built again and means the same.
pub fn spnego(data: &[u8]) {
    if let Ok(token) = NegTokenInit::parse(data) {
        let again = NegTokenInit::parse(&token.build());
        assert_eq!(again.expect("its own token"), token);
    }
    if let Ok(token) = NegTokenResp::parse(data) {
        let again = NegTokenResp::parse(&token.build());
        assert_eq!(again.expect("its own token"), token);
    }
}

pub fn spnego_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        negotiate_hint(false, true),
        negotiate_hint(true, true),
        NegTokenInit::new(&[MS_KERBEROS, KERBEROS, NTLMSSP], Some(vec![1; 40])).build(),
    ];
    seeds.extend(exchange("secret"));
    seeds.extend(answers());
    seeds
}

pub fn ntlm(data: &[u8]) {
    let _ = Negotiate::parse(data);
    let _ = Challenge::parse(data);
    let _ = Authenticate::parse(data);
    if let Ok(pairs) = AvPairs::parse(data) {
        let _ = (pairs.flags(), pairs.timestamp(), pairs.target_name());
        assert!(AvPairs::parse(&pairs.build()).is_ok());
    }
    if data.len() < 1 << 14 {
        // A client must survive a hostile server as well.
        let _ = client("secret").authenticate(data);
        let mut acceptor = Acceptor::new(ServerNames::default(), [7; 8], NOW);
        let _ = acceptor.challenge(data);
    }
}

pub fn ntlm_seeds() -> Vec<Vec<u8>> {
    let mut acceptor = Acceptor::new(ServerNames::default(), [7; 8], NOW);
    let client = client("secret");
    let negotiate = client.negotiate().to_vec();
    let challenge = acceptor.challenge(&negotiate).unwrap_or_default();
    let mut seeds = vec![negotiate, challenge.clone()];
    if let Ok(initiated) = client.authenticate(&challenge) {
        seeds.push(initiated.authenticate);
    }
    seeds.push(AvPairs::of_server(&ServerNames::default(), NOW).build());
    seeds
}

/// Tokens one after the other. An empty one stands for what a client with a wrong password would
/// send next. Whatever comes, nobody is logged on as a user.
pub fn session_setup(data: &[u8]) {
    let mut server = authenticator();
    let mut wrong = Initiator::new(client("wrong"));
    let mut next = Some(wrong.first_token());
    for piece in pieces(data).take(8) {
        let token = match piece {
            [] => next.take().unwrap_or_default(),
            sent => sent.to_vec(),
        };
        let _ = server.claim(&token);
        let _ = server.mechanism(&token);
        match server.step(&token, &lookup) {
            Step::Continue(reply) => {
                if let Ok(InitiatorStep::Continue(token)) = wrong.step(&reply) {
                    next = Some(token);
                }
            }
            Step::Done(authenticated) => {
                assert_ne!(authenticated.logon.kind, LogonKind::User, "logged on");
            }
            Step::Failed(_) => {}
        }
    }
}

pub fn session_setup_seeds() -> Vec<Vec<u8>> {
    let tokens = exchange("other");
    let tokens: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
    vec![joined(&tokens), joined(&[b"", b""]), joined(&[b"", b"x"])]
}

/// The client's tokens of a whole exchange.
fn exchange(password: &str) -> Vec<Vec<u8>> {
    let mut server = authenticator();
    let mut client = Initiator::new(client(password));
    let mut tokens = vec![client.first_token()];
    while let Some(token) = tokens.last()
        && let Step::Continue(reply) = server.step(token, &lookup)
        && let Ok(InitiatorStep::Continue(next)) = client.step(&reply)
    {
        tokens.push(next);
    }
    tokens
}

/// The server's first token.
fn answers() -> Vec<Vec<u8>> {
    let mut client = Initiator::new(client("secret"));
    match authenticator().step(&client.first_token(), &lookup) {
        Step::Continue(reply) => vec![reply],
        _ => Vec::new(),
    }
}
