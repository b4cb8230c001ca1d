//! What Microsoft's suite does not try: payload changed on its way, lengths around every bound, bare
//! payload beside a transform, keys of further channels, what the configuration asks for.

use proto::smb2::read::ReadResponse;
use proto::smb2::{Channel, Command, MessageId, NtStatus};
use smbd::security::encryption::Cipher;
use smbd::security::signing::SigningAlgorithm;
use tests::client::{Access, Offer, OpenOptions, Protection, read_body, write_protected_body};
use tests::hazards::pattern;
use tests::server::{PASSWORD, USER};

use super::client::{BOTH, Client, Terms};
use crate::endpoint::Endpoint;
use crate::scene::Scene;
use crate::table::{Case, Devices, Group, Settings};

const BLOCK: u32 = 100_000;

const SIGNING: Settings = Settings {
    global: &["server signing = mandatory"],
    ..crate::table::PLAIN
};
const ENCRYPTION: Settings = Settings {
    global: &["server smb encrypt = required"],
    ..crate::table::PLAIN
};
const OFF: Settings = Settings {
    global: &["rdma transform = no"],
    ..crate::table::PLAIN
};

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let case = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Beyond, name, section, rule, play);
    let no_windows = "the test's memory cannot be invalidated by a peer there: verbs ask for a memory window";
    vec![
        case("Transform_Lengths", "MS-SMB2 3.3.5.12, .13",
            "payload of any length survives each algorithm and cipher", lengths),
        case("Transform_Invalidation", "MS-SMB2 3.3.5.13",
            "a transform may ask to have its token invalidated", invalidation)
            .without(Devices::Rxe, no_windows).without(Devices::Siw, no_windows),
        case("Transform_ChangedPayload", "MS-SMB2 3.3.5.13",
            "payload changed on its way is not written", changed_payload),
        case("Transform_Bare", "MS-SMB2 3.3.5.13",
            "a bare WRITE is refused where a sealed one is served", bare),
        case("Transform_Channels", "MS-SMB2 3.3.5.13",
            "each channel of a session seals with its own key", channels),
        case("Transform_MandatorySigning", "MS-SMB2 3.3.5.4",
            "a server that must sign still moves payload by RDMA", |scene| whole_payload(scene, Terms::SIGNED)).with(&SIGNING),
        case("Transform_RequiredEncryption", "MS-SMB2 3.3.5.4",
            "a server that must encrypt still moves payload by RDMA", |scene| whole_payload(scene, Terms::ENCRYPTED)).with(&ENCRYPTION),
        case("Transform_SwitchedOff", "MS-SMB2 3.3.5.4",
            "a server without transforms leaves the offer unanswered", switched_off).with(&OFF),
        case("Transform_ReadByTransform", "MS-SMB2 2.2.19",
            "a READ does not choose its transform", read_by_transform),
    ]
}

/// Each algorithm and cipher, at lengths around what is done at once and what is cut in pieces.
fn lengths<E: Endpoint>(scene: &Scene<E>) {
    let mut terms: Vec<Terms> = Vec::new();
    for signing in [
        SigningAlgorithm::HmacSha256,
        SigningAlgorithm::AesCmac,
        SigningAlgorithm::AesGmac,
    ] {
        terms.push(Terms {
            signing,
            ..Terms::SIGNED
        });
    }
    terms.extend(Cipher::PREFERENCE.map(|cipher| Terms {
        cipher: Some(cipher),
        ..Terms::ENCRYPTED
    }));
    for terms in terms {
        let mut client = Client::of(scene, terms, None);
        let mut expected = Vec::new();
        for (length, pieces) in [(1, 1), (4096, 2), (65_536, 3), (65_537, 1), (300_001, 7)] {
            let data = pattern(length as usize, u64::from(length));
            let offset = expected.len() as u64;
            let written = client.connection.write_protected(
                client.tree,
                client.file,
                offset,
                &data,
                terms.session,
                pieces,
            );
            assert_eq!(written.expect("WRITE"), length, "{terms:?}");
            let back = client.connection.read_protected(
                client.tree,
                client.file,
                offset,
                length,
                terms.session,
                pieces,
            );
            assert!(back.expect("READ") == data, "{terms:?}: {length}");
            expected.extend(data);
        }
        // What ends before it was asked for is as long as it is.
        let end = expected.len() as u64 - 10;
        let back = client.connection.read_protected(
            client.tree,
            client.file,
            end,
            BLOCK,
            terms.session,
            1,
        );
        assert_eq!(back.expect("READ"), expected[end as usize..]);
        let behind = client.connection.read_protected(
            client.tree,
            client.file,
            end + 10,
            BLOCK,
            terms.session,
            1,
        );
        assert_eq!(
            behind.unwrap_err().status(),
            Some(NtStatus::END_OF_FILE),
            "{terms:?}"
        );
        assert!(client.stored() == expected, "{terms:?}");
        client.leave();
    }
}

/// A transform that names the invalidating channel has its first token invalidated, by an error too.
fn invalidation<E: Endpoint>(scene: &Scene<E>) {
    for (terms, forged, status) in [
        (Terms::SIGNED, false, NtStatus::SUCCESS),
        (Terms::ENCRYPTED, false, NtStatus::SUCCESS),
        (Terms::ENCRYPTED, true, NtStatus::AUTH_TAG_MISMATCH),
    ] {
        for channel in [Channel::RdmaV1, Channel::RdmaV1Invalidate] {
            let mut client = Client::of(scene, terms, None);
            let data = pattern(BLOCK as usize, 8);
            let connection = &mut client.connection;
            let header = connection.payload_header(Command::Write, client.tree, BLOCK);
            let mut sealed = connection
                .seal_payload(client.session.id, header.message_id, terms.session, &data)
                .expect("seal");
            sealed.signature[0] ^= u8::from(forged);
            let rdma = connection.rdma().expect("RDMA");
            let memory = rdma.expose(&sealed.payload, Access::RemoteRead);
            let memory = memory.expect("memory");
            let information = sealed.information(channel, &[memory.descriptor]);
            let body = write_protected_body(client.file, 0, BLOCK, &information);
            let reply = connection.exchange(header, &body).expect("an answer");
            assert_eq!(reply.header.status, status);
            let invalidated = connection.rdma().unwrap().withdraw(memory).unwrap();
            assert_eq!(invalidated, channel == Channel::RdmaV1Invalidate);
            client.leave();
        }
    }
}

/// The signature or tag is of other bytes than the server fetches: nothing of them is written.
fn changed_payload<E: Endpoint>(scene: &Scene<E>) {
    for (terms, status) in [
        (Terms::SIGNED, NtStatus::INVALID_SIGNATURE),
        (Terms::ENCRYPTED, NtStatus::AUTH_TAG_MISMATCH),
    ] {
        for length in [4096, 1 << 18] {
            let mut client = Client::of(scene, terms, None);
            let data = pattern(length as usize, 1);
            let connection = &mut client.connection;
            let header = connection.payload_header(Command::Write, client.tree, length);
            let mut sealed = connection
                .seal_payload(client.session.id, header.message_id, terms.session, &data)
                .expect("seal");
            sealed.payload[length as usize / 2] ^= 1;
            let rdma = connection.rdma().expect("RDMA");
            let memory = rdma.expose(&sealed.payload, Access::RemoteRead);
            let memory = memory.expect("memory");
            let information = sealed.information(Channel::RdmaV1, &[memory.descriptor]);
            let body = write_protected_body(client.file, 0, length, &information);
            let reply = connection.exchange(header, &body).expect("an answer");
            assert_eq!(reply.header.status, status, "{length}");
            connection.rdma().unwrap().withdraw(memory).unwrap();
            assert_eq!(client.stored(), b"");
            client.leave();
        }
    }
    let log = scene.server.log();
    assert!(log.contains("is not what its sender sealed"), "{log}");
}

/// In a session that must be signed or encrypted a bare WRITE is refused before anything moves, a
/// READ is sealed whatever it asks for, and payload in messages is served.
fn bare<E: Endpoint>(scene: &Scene<E>) {
    let mut client = Client::of(scene, Terms::ENCRYPTED, None);
    let (tree, file) = (client.tree, client.file);
    let connection = &mut client.connection;
    let data = pattern(BLOCK as usize, 2);
    let refused = connection.write_rdma(tree, file, 0, &data, Channel::RdmaV1, 1);
    assert_eq!(refused.unwrap_err().status(), Some(NtStatus::ACCESS_DENIED));
    let inline = &data[..60_000];
    assert_eq!(connection.write(tree, file, 0, inline).unwrap(), 60_000);
    assert_eq!(connection.read(tree, file, 0, 60_000).unwrap(), inline);
    let sealed = connection.read_protected(tree, file, 0, 60_000, Protection::Encryption, 1);
    assert_eq!(sealed.expect("READ"), inline);
    client.leave();
}

/// A further channel signs with its own key, and encrypts with the session's.
fn channels<E: Endpoint>(scene: &Scene<E>) {
    for terms in [Terms::SIGNED, Terms::ENCRYPTED] {
        let offer = terms.offer();
        let mut first = scene.connect(offer.clone()).expect("negotiate");
        let session = first.log_on(USER, PASSWORD).expect("log on");
        let mut second = scene.connect(offer).expect("negotiate");
        second.bind(session, &first, USER, PASSWORD).expect("bind");
        if terms.session == Protection::Encryption {
            first.encrypt(session).unwrap();
            second.encrypt_like(session, &first).unwrap();
        }
        let tree = first.tree_connect(session, "share").expect("connect");
        let options = OpenOptions::read_write();
        let file = first.open(tree, "channels", options).expect("open");
        (0..4).for_each(|_| first.echo().and(second.echo()).expect("echo"));
        let data = pattern(BLOCK as usize, 3);
        for connection in [&mut first, &mut second] {
            let written = connection.write_protected(tree, file, 0, &data, terms.session, 2);
            assert_eq!(written.expect("WRITE"), BLOCK);
            let back = connection.read_protected(tree, file, 0, BLOCK, terms.session, 2);
            assert!(back.expect("READ") == data);
        }
        if terms.session == Protection::Signing {
            let sealed = first
                .seal_payload(session.id, MessageId(9), Protection::Signing, &data)
                .expect("seal");
            let reply = second
                .write_sealed(tree, file, 0, &data, Protection::Signing, |_, memory| {
                    sealed.information(Channel::RdmaV1, &[memory])
                })
                .expect("an answer");
            assert_eq!(
                reply.header.status,
                NtStatus::INVALID_SIGNATURE,
                "signed with the other channel's key"
            );
        }
        second.close(tree, file).expect("close");
        first.log_off(session).expect("log off");
    }
}

/// Where every session must be protected, a client that knows the transform moves as much at once as
/// any, and one that does not is told what fits a message.
fn whole_payload<E: Endpoint>(scene: &Scene<E>, terms: Terms) {
    let mut client = Client::of(scene, terms, None);
    let most = client.connection.negotiated().max_write_size;
    assert_eq!(most, 8 << 20);
    let data = pattern(2 << 20, 4);
    let (tree, file) = (client.tree, client.file);
    let written = client
        .connection
        .write_protected(tree, file, 0, &data, terms.session, 2);
    assert_eq!(written.expect("WRITE"), 2 << 20);
    let back = client
        .connection
        .read_protected(tree, file, 0, 2 << 20, terms.session, 2);
    assert!(back.expect("READ") == data);
    client.leave();
    let without = Terms {
        transforms: &[],
        ..terms
    };
    let mut client = Client::of(scene, without, None);
    let most = client.connection.negotiated().max_write_size;
    assert!(most < 2 << 20, "{most}");
    refused_by_rdma(&mut client, NtStatus::ACCESS_DENIED);
    client.leave();
}

/// `rdma transform = no`: the offer is not answered, and the channel is an invalid one.
fn switched_off<E: Endpoint>(scene: &Scene<E>) {
    let mut client = Client::of(scene, Terms::ENCRYPTED, None);
    let negotiated = client.connection.negotiated();
    assert_eq!(negotiated.rdma_transforms, None);
    let (tree, file) = (client.tree, client.file);
    let reply = client.connection.write_protected(
        tree,
        file,
        0,
        &pattern(BLOCK as usize, 5),
        Protection::Encryption,
        1,
    );
    let status = reply.unwrap_err().status();
    assert_eq!(status, Some(NtStatus::INVALID_PARAMETER));
    refused_by_rdma(&mut client, NtStatus::ACCESS_DENIED);
    client.leave();
}

/// How a READ's payload is protected is not the request's to say (MS-SMB2 2.2.19); and what is
/// answered to an offer are the transforms in common, in its order.
fn read_by_transform<E: Endpoint>(scene: &Scene<E>) {
    let data = pattern(BLOCK as usize, 6);
    let mut client = Client::of(scene, Terms::ENCRYPTED, Some(&data));
    let answered = client.connection.negotiated().rdma_transforms.clone();
    assert_eq!(answered.as_deref(), Some(BOTH));
    let (tree, file) = (client.tree, client.file);
    let read = client
        .connection
        .read_rdma(tree, file, 0, BLOCK, Channel::RdmaTransform, 1);
    let status = read.unwrap_err().status();
    assert_eq!(status, Some(NtStatus::INVALID_PARAMETER));
    // A READ of nothing has nothing to seal.
    let body = read_body(file, 0, 0, Channel::RdmaV1, &[]);
    let header = client.connection.payload_header(Command::Read, tree, 0);
    let reply = client.connection.exchange(header, &body).unwrap();
    let reply = reply.check().expect("READ of no bytes");
    let response = ReadResponse::decode(&reply.element).unwrap();
    assert_eq!((response.flags, response.data.len()), (0, 0));
    client.leave();
    let unknown = Offer {
        rdma_transforms: vec![9, 7],
        ..Offer::default()
    };
    let connection = scene.connect(unknown).expect("negotiate");
    let answered = connection.negotiated().rdma_transforms.clone();
    assert_eq!(answered, Some(vec![0]), "none in common");
}

/// Bare payload is refused both ways.
fn refused_by_rdma(client: &mut Client, status: NtStatus) {
    let (tree, file) = (client.tree, client.file);
    let data = pattern(4096, 7);
    let connection = &mut client.connection;
    let written = connection.write_rdma(tree, file, 0, &data, Channel::RdmaV1, 1);
    assert_eq!(written.unwrap_err().status(), Some(status));
    let read = connection.read_rdma(tree, file, 0, 4096, Channel::RdmaV1, 1);
    assert_eq!(read.unwrap_err().status(), Some(status));
    let inline = connection.write(tree, file, 0, &data);
    assert_eq!(inline.expect("in the message"), 4096);
}
