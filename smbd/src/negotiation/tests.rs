use proto::smb2::negotiate::NegotiateOffer;
use proto::smb2::negotiate_context::{
    self, ContextType, PreauthIntegrity, RawContext, SHA_512, algorithms_data,
    decode_rdma_transforms, rdma_transform, rdma_transforms_data,
};
use proto::smb2::{Command, Header, MessageId};

use super::*;
use crate::config::{Protocol, ShareCompression};

const LIMITS: ChannelLimits = ChannelLimits {
    max_send: 1 << 16,
    max_receive: 1 << 20,
    max_rdma: 4 << 20,
};
const CLIENT: Guid = Guid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

fn tcp(config: &Config) -> Policy<'_> {
    Policy {
        config,
        transport: Transport::Tcp,
        limits: LIMITS,
    }
}

fn rdma(config: &Config) -> Policy<'_> {
    Policy {
        transport: Transport::Rdma,
        ..tcp(config)
    }
}

fn with(change: impl FnOnce(&mut Global)) -> Config {
    let mut config = Config::default();
    change(&mut config.global);
    config
}

fn request(dialects: &[u16], contexts: &[(ContextType, Vec<u8>)]) -> Vec<u8> {
    let raw: Vec<RawContext<'_>> = contexts
        .iter()
        .map(|(context_type, data)| RawContext {
            context_type: *context_type,
            data,
        })
        .collect();
    let mut element = Vec::new();
    Header::request(Command::Negotiate, MessageId(0)).encode(&mut element);
    NegotiateOffer {
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::all(),
        client_guid: CLIENT,
        dialects,
        contexts: &raw,
    }
    .encode(&mut element);
    element
}

fn answer(dialects: &[u16], policy: Policy<'_>) -> Result<Negotiated, NtStatus> {
    let element = request(dialects, &[preauth()]);
    agree(&NegotiateRequest::decode(&element).unwrap(), &policy)
        .map(|agreement| agreement.negotiated)
}

fn contexts_with(
    config: &Config,
    contexts: &[(ContextType, Vec<u8>)],
) -> Result<Contexts, NtStatus> {
    let element = request(&[0x0311], contexts);
    agree(&NegotiateRequest::decode(&element).unwrap(), &tcp(config))
        .map(|agreement| agreement.contexts)
}

fn contexts_of(contexts: &[(ContextType, Vec<u8>)]) -> Result<Contexts, NtStatus> {
    contexts_with(&Config::default(), contexts)
}

fn preauth() -> (ContextType, Vec<u8>) {
    (
        ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
        PreauthIntegrity::data(&[SHA_512], &[7; 32]),
    )
}

fn signing(algorithms: &[u16]) -> (ContextType, Vec<u8>) {
    (
        ContextType::SIGNING_CAPABILITIES,
        algorithms_data(algorithms),
    )
}

fn ciphers(ciphers: &[u16]) -> (ContextType, Vec<u8>) {
    (
        ContextType::ENCRYPTION_CAPABILITIES,
        algorithms_data(ciphers),
    )
}

#[test]
fn the_best_common_dialect_is_chosen_within_the_configured_bounds() {
    let config = Config::default();
    let choose = |dialects: &[u16], config: &Config| {
        answer(dialects, tcp(config)).map(|negotiated| negotiated.dialect)
    };
    assert_eq!(
        choose(&[0x0202, 0x0210, 0x0302], &config),
        Ok(Dialect::Smb302)
    );
    assert_eq!(choose(&[0x0202], &config), Ok(Dialect::Smb202));
    assert_eq!(choose(&[0x0300, 0x0399], &config), Ok(Dialect::Smb300));
    assert_eq!(choose(&[], &config), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(
        choose(&[0x02FF], &config),
        Err(NtStatus::NOT_SUPPORTED),
        "a wildcard is a server's word"
    );
    let bounded = with(|global| {
        global.server_min_protocol = Protocol::Smb210;
        global.server_max_protocol = Protocol::Smb300;
    });
    assert_eq!(
        choose(&[0x0202, 0x0210, 0x0300, 0x0302], &bounded),
        Ok(Dialect::Smb300)
    );
    assert_eq!(choose(&[0x0202], &bounded), Err(NtStatus::NOT_SUPPORTED));
}

#[test]
fn smb_direct_carries_no_dialect_before_3_0() {
    let config = Config::default();
    assert_eq!(
        answer(&[0x0202, 0x0210], rdma(&config)).err(),
        Some(NtStatus::NOT_SUPPORTED)
    );
    assert_eq!(
        answer(&[0x0202, 0x0210, 0x0300], rdma(&config)).map(|found| found.dialect),
        Ok(Dialect::Smb300)
    );
}

#[test]
fn dialect_2_0_2_has_one_credit_a_request_and_no_capability() {
    let config = Config::default();
    let negotiated = answer(&[0x0202], tcp(&config)).unwrap();
    assert_eq!(negotiated.capabilities, Capabilities::empty());
    assert_eq!(
        (
            negotiated.max_transact,
            negotiated.max_read,
            negotiated.max_write
        ),
        (65_536, 65_536, 65_536)
    );
    assert_eq!(negotiated.signing, SigningAlgorithm::HmacSha256);
    assert_eq!(negotiated.cipher, None);
    let later = answer(&[0x0210], tcp(&config)).unwrap();
    assert_eq!(later.capabilities, Capabilities::LARGE_MTU);
    assert_eq!(later.max_read, MAX_TCP_PAYLOAD);
}

#[test]
fn an_smb1_negotiate_leads_to_the_wildcard_or_to_2_0_2_or_nowhere() {
    let outcome = |wildcard, first, policy: Policy<'_>| {
        let offered = MultiProtocolNegotiate {
            offers_wildcard: wildcard,
            offers_202: first,
        };
        match multi_protocol(offered, &policy) {
            Some(MultiProtocolAnswer::GoOn(negotiated)) => ("go on", negotiated.dialect.into()),
            Some(MultiProtocolAnswer::Settled(negotiated)) => {
                ("settled", negotiated.dialect.into())
            }
            None => ("nothing", 0u16),
        }
    };
    let config = Config::default();
    assert_eq!(outcome(true, true, tcp(&config)), ("go on", 0x02FF));
    assert_eq!(outcome(true, false, tcp(&config)), ("go on", 0x02FF));
    assert_eq!(outcome(false, true, tcp(&config)), ("settled", 0x0202));
    assert_eq!(outcome(false, false, tcp(&config)).0, "nothing");
    let oldest = with(|global| global.server_max_protocol = Protocol::Smb202);
    assert_eq!(outcome(true, true, tcp(&oldest)), ("settled", 0x0202));
    assert_eq!(outcome(true, false, tcp(&oldest)).0, "nothing");
    let newer = with(|global| global.server_min_protocol = Protocol::Smb210);
    assert_eq!(outcome(false, true, tcp(&newer)).0, "nothing");
    assert_eq!(outcome(false, true, rdma(&config)).0, "nothing");
    assert_eq!(outcome(true, true, rdma(&config)), ("go on", 0x02FF));
}

#[test]
fn exactly_one_preauth_context_with_sha_512_is_needed() {
    assert_eq!(contexts_of(&[]), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(
        contexts_of(&[preauth(), preauth()]),
        Err(NtStatus::INVALID_PARAMETER)
    );
    let with_hashes = |hashes: &[u16]| {
        contexts_of(&[(
            ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
            PreauthIntegrity::data(hashes, &[]),
        )])
    };
    assert_eq!(
        with_hashes(&[0x99]),
        Err(NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP)
    );
    assert_eq!(with_hashes(&[]), Err(NtStatus::INVALID_PARAMETER));
    assert!(with_hashes(&[0x99, SHA_512]).is_ok());
    assert_eq!(contexts_of(&[preauth()]).unwrap().signing, None);
}

#[test]
fn unknown_contexts_are_ignored_wherever_they_stand() {
    let unknown = |number: u16, length: usize| (ContextType(number), vec![0xEE; length]);
    let contexts = [
        unknown(0, 0),
        unknown(0x0100, 3),
        signing(&[2]),
        unknown(0x7777, 5000),
        unknown(0x7777, 1),
        preauth(),
        (ContextType::NETNAME_NEGOTIATE_CONTEXT_ID, vec![b'a', 0, 0]),
    ];
    let found = contexts_of(&contexts).unwrap();
    assert_eq!(found.signing, Some(SigningAlgorithm::AesGmac));
    assert_eq!(found.answer(&[1; SALT_LENGTH]).len(), 2);
}

#[test]
fn a_known_context_that_is_cut_or_there_twice_refuses_the_request() {
    let transport = |length: usize| (ContextType::TRANSPORT_CAPABILITIES, vec![0; length]);
    for hostile in [
        vec![signing(&[1]), signing(&[1])],
        vec![ciphers(&[1]), ciphers(&[2])],
        vec![transport(4), transport(4)],
        vec![transport(3)],
        vec![(ContextType::SIGNING_CAPABILITIES, vec![1])],
        vec![(ContextType::SIGNING_CAPABILITIES, vec![2, 0, 1, 0])],
        vec![(ContextType::ENCRYPTION_CAPABILITIES, vec![0xff, 0xff, 1, 0])],
        vec![(ContextType::ENCRYPTION_CAPABILITIES, vec![])],
    ] {
        let mut contexts = vec![preauth()];
        contexts.extend(hostile.clone());
        assert_eq!(
            contexts_of(&contexts),
            Err(NtStatus::INVALID_PARAMETER),
            "{hostile:?}"
        );
    }
    let salt_beyond = (
        ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
        vec![1, 0, 33, 0, 1, 0, 0, 0],
    );
    assert_eq!(
        contexts_of(&[salt_beyond]),
        Err(NtStatus::INVALID_PARAMETER)
    );
    assert!(contexts_of(&[preauth(), transport(4)]).is_ok());
}

#[test]
fn contexts_mean_nothing_before_3_1_1() {
    let element = request(&[0x0302], &[]);
    let policy = Config::default();
    let agreement = agree(&NegotiateRequest::decode(&element).unwrap(), &tcp(&policy)).unwrap();
    assert_eq!(agreement.contexts, Contexts::default());
    assert!(agreement.contexts.answer(&[1; SALT_LENGTH]).is_empty());
}

#[test]
fn the_fastest_common_signing_algorithm_is_chosen() {
    let chosen = |algorithms: &[u16]| {
        contexts_of(&[preauth(), signing(algorithms)])
            .unwrap()
            .signing
    };
    assert_eq!(chosen(&[0, 1, 2]), Some(SigningAlgorithm::AesGmac));
    assert_eq!(chosen(&[0, 1]), Some(SigningAlgorithm::AesCmac));
    assert_eq!(chosen(&[0]), Some(SigningAlgorithm::HmacSha256));
    assert_eq!(chosen(&[0x77]), None);
    assert_eq!(
        contexts_of(&[preauth(), signing(&[])]),
        Err(NtStatus::INVALID_PARAMETER)
    );
}

#[test]
fn a_cipher_is_chosen_only_where_one_was_offered() {
    let chosen =
        |list: &[u16]| contexts_of(&[preauth(), ciphers(list)]).map(|contexts| contexts.cipher);
    assert_eq!(contexts_of(&[preauth()]).unwrap().cipher, None);
    assert_eq!(chosen(&[4, 2, 1, 3]), Ok(Some(Some(Cipher::Aes128Gcm))));
    assert_eq!(chosen(&[4, 3]), Ok(Some(Some(Cipher::Aes256Gcm))));
    assert_eq!(chosen(&[1, 3]), Ok(Some(Some(Cipher::Aes128Ccm))));
    assert_eq!(chosen(&[0x55]), Ok(Some(None)), "told that there is none");
    assert_eq!(chosen(&[]), Err(NtStatus::INVALID_PARAMETER));
    let off = with(|global| global.server_smb_encrypt = ServerEncryption::Off);
    let contexts = contexts_with(&off, &[preauth(), ciphers(&[1, 2])]);
    assert_eq!(contexts.unwrap().cipher, Some(None));
}

fn compression(flags: u32, ids: &[u16]) -> (ContextType, Vec<u8>) {
    let flags = negotiate_context::CompressionFlags::from_bits_retain(flags);
    (
        ContextType::COMPRESSION_CAPABILITIES,
        negotiate_context::Compression::data(flags, ids),
    )
}

fn with_share(compression: ShareCompression) -> Config {
    let share = crate::config::Share {
        smb3_compression: compression,
        ..Default::default()
    };
    Config {
        shares: vec![share.into()],
        ..Config::default()
    }
}

#[test]
fn compression_is_chosen_where_a_share_may_be_compressed() {
    let config = with_share(ShareCompression::IfRequired);
    let answered = |flags, ids: &[u16]| {
        let contexts = contexts_with(&config, &[preauth(), compression(flags, ids)])?;
        let answer = contexts.answer(&[1; SALT_LENGTH]);
        let (_, data) = answer
            .into_iter()
            .find(|(found, _)| *found == ContextType::COMPRESSION_CAPABILITIES)
            .expect("an answer");
        let found = negotiate_context::Compression::decode(&data).unwrap();
        Ok((found.flags.bits(), found.algorithms.iter().collect()))
    };
    assert_eq!(answered(1, &[1, 4, 5, 2]), Ok((1, vec![4, 5])));
    assert_eq!(answered(0, &[1, 4, 5, 2]), Ok((0, vec![5])));
    assert_eq!(answered(1, &[1, 2, 3]), Ok((0, vec![0])), "none in common");
    assert_eq!(answered(1, &[]), Err(NtStatus::INVALID_PARAMETER));
    let cut = (
        ContextType::COMPRESSION_CAPABILITIES,
        vec![1, 0, 0, 0, 0, 0, 0, 0],
    );
    let twice = [preauth(), compression(0, &[5]), compression(0, &[5])];
    for hostile in [&[preauth(), cut][..], &twice] {
        assert_eq!(
            contexts_with(&config, hostile),
            Err(NtStatus::INVALID_PARAMETER)
        );
    }
    let off = with_share(ShareCompression::Off);
    let contexts = contexts_with(&off, &[preauth(), compression(1, &[5])]).unwrap();
    assert_eq!(contexts.compression, None, "not even answered");
}

#[test]
fn payload_that_can_only_travel_in_messages_is_clamped_to_them() {
    const BY_RDMA: (u32, u32) = (4 << 20, 4 << 20);
    const INLINE: (u32, u32) = (65_024, 1_048_064);
    let mut config = Config::default();
    let asked = |config: &Config, ids: &[u16], client: SecurityMode| {
        let transforms = RdmaTransforms::of(ids.iter().copied());
        let sizes = Sizes::of(Dialect::Smb311, &rdma(config), transforms, client);
        (sizes.read, sizes.write)
    };
    let sizes = |config: &Config, ids: &[u16]| asked(config, ids, SecurityMode::SIGNING_ENABLED);
    assert_eq!(sizes(&config, &[]), BY_RDMA);
    let requires = SecurityMode::SIGNING_ENABLED | SecurityMode::SIGNING_REQUIRED;
    assert_eq!(asked(&config, &[], requires), (BY_RDMA.0, INLINE.1));
    let signing = [rdma_transform::SIGNING];
    assert_eq!(asked(&config, &signing, requires), BY_RDMA);
    config.global.server_signing = ServerSigning::Mandatory;
    assert_eq!(sizes(&config, &[]), INLINE);
    assert_eq!(sizes(&config, &[rdma_transform::ENCRYPTION]), INLINE);
    assert_eq!(sizes(&config, &[rdma_transform::SIGNING]), BY_RDMA);
    config.global.server_smb_encrypt = ServerEncryption::Required;
    assert_eq!(sizes(&config, &[rdma_transform::SIGNING]), INLINE);
    assert_eq!(sizes(&config, &[rdma_transform::ENCRYPTION]), BY_RDMA);
    config.rdma.allow_unprotected_payload = true;
    assert_eq!(sizes(&config, &[]), BY_RDMA);
}

#[test]
fn rdma_transforms_are_agreed_on_in_the_clients_order() {
    let asked = |ids: &[u16]| {
        (
            ContextType::RDMA_TRANSFORM_CAPABILITIES,
            rdma_transforms_data(ids),
        )
    };
    let answered = |config: &Config, contexts: &[(ContextType, Vec<u8>)]| {
        let contexts = contexts_with(config, contexts)?;
        let answer = contexts.answer(&[1; SALT_LENGTH]);
        let mut found = answer
            .iter()
            .filter(|(kind, _)| *kind == ContextType::RDMA_TRANSFORM_CAPABILITIES);
        let ids = found
            .next()
            .map(|(_, data)| decode_rdma_transforms(data).unwrap().iter().collect());
        Ok((contexts.rdma_transforms(), ids))
    };
    let config = Config::default();
    let (none, signing) = (
        RdmaTransforms::default(),
        RdmaTransforms {
            signing: true,
            encryption: false,
        },
    );
    let both = RdmaTransforms {
        encryption: true,
        signing: true,
    };
    let all = [preauth(), ciphers(&[1]), asked(&[2, 9, 1, 2])];
    assert_eq!(
        answered(&config, &all),
        Ok((both, Some(vec![2, 1]))),
        "each once"
    );
    let uncommon = [preauth(), ciphers(&[1]), asked(&[0, 9])];
    assert_eq!(answered(&config, &uncommon), Ok((none, Some(vec![0]))));
    assert_eq!(answered(&config, &[preauth()]), Ok((none, None)));
    // Without a cipher there is nothing to encrypt with.
    let without_cipher = [preauth(), asked(&[1, 2])];
    assert_eq!(
        answered(&config, &without_cipher),
        Ok((signing, Some(vec![2])))
    );
    let mut off = Config::default();
    off.rdma.transform = false;
    assert_eq!(answered(&off, &all), Ok((none, None)));
    for hostile in [
        vec![asked(&[])],
        vec![asked(&[1]), asked(&[1])],
        vec![(ContextType::RDMA_TRANSFORM_CAPABILITIES, vec![1, 0])],
        vec![(
            ContextType::RDMA_TRANSFORM_CAPABILITIES,
            vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        )],
    ] {
        let mut contexts = vec![preauth()];
        contexts.extend(hostile);
        for config in [&config, &off] {
            assert_eq!(
                answered(config, &contexts),
                Err(NtStatus::INVALID_PARAMETER)
            );
        }
    }
}

#[test]
fn encryption_is_a_capability_before_3_1_1_alone() {
    let global = Global::default();
    let has = |dialect, global: &Global| {
        capabilities(dialect, Capabilities::all(), global).contains(Capabilities::ENCRYPTION)
    };
    assert!(has(Dialect::Smb302, &global));
    assert!(!has(Dialect::Smb210, &global) && !has(Dialect::Smb311, &global));
    let off = Global {
        server_smb_encrypt: ServerEncryption::Off,
        ..Global::default()
    };
    assert!(!has(Dialect::Smb302, &off));
}

#[test]
fn multichannel_is_told_to_clients_of_smb3_that_know_it() {
    let global = Global::default();
    let all = Capabilities::all();
    assert_eq!(
        capabilities(Dialect::Smb302, all - Capabilities::ENCRYPTION, &global),
        Capabilities::LARGE_MTU | Capabilities::MULTI_CHANNEL
    );
    assert_eq!(
        capabilities(Dialect::Smb210, all, &global),
        Capabilities::LARGE_MTU
    );
    assert_eq!(
        capabilities(Dialect::Smb302, Capabilities::LARGE_MTU, &global),
        Capabilities::LARGE_MTU
    );
}

#[test]
fn notifications_are_told_to_clients_of_3_1_1_that_know_them() {
    let has = |dialect, client| {
        capabilities(dialect, client, &Global::default()).contains(Capabilities::NOTIFICATIONS)
    };
    assert!(has(Dialect::Smb311, Capabilities::all()));
    assert!(!has(
        Dialect::Smb311,
        Capabilities::all() - Capabilities::NOTIFICATIONS
    ));
    assert!(!has(Dialect::Smb302, Capabilities::all()));
}
