//! SMB Direct's negotiation, MS-SMBD 3.1.5.6: the suite's 18 cases.

use std::time::{Duration, Instant};

use proto::smbdirect::messages::{NegotiateRequest, NegotiateResponse};
use tests::client::{ClientError, PATIENCE};

use crate::endpoint::Endpoint;
use crate::scene::Scene;
use crate::table::{Case, Group};
use crate::wire::{BASIC, PROMPTLY};

/// MS-SMBD 2.2.2.
const STATUS_NOT_SUPPORTED: u32 = 0xc000_00bb;
/// MS-SMBD 3.1.2.1, on the passive side.
const NEGOTIATION_TIMER: Duration = Duration::from_secs(5);

#[rustfmt::skip]
pub fn cases<E: Endpoint>() -> Vec<Case<E>> {
    let case = |name, section, rule, play: fn(&Scene<E>)| Case::new(Group::Negotiate, name, section, rule, play);
    vec![
        case("BVT_SmbdNegotiate_Basic", "MS-SMBD 3.1.5.6",
            "a request with good values is accepted", |scene| accepted(scene, BASIC)),
        case("SmbdNegotiate_PreferredSendSizeWithZero", "MS-SMBD 3.1.5.6",
            "a PreferredSendSize of 0 is taken for 128",
            |scene| preferred_send_size(scene, 0, 128)),
        case("SmbdNegotiate_PreferredSendSizeLessThan128", "MS-SMBD 3.1.5.6",
            "a PreferredSendSize below 128 is taken for 128", |scene| {
                preferred_send_size(scene, 127, 128);
                preferred_send_size(scene, 128, 128);
                preferred_send_size(scene, 129, 129);
            }),
        case("SmbdNegotiate_PreferredSendSizeMaxValue", "MS-SMBD 3.1.5.6",
            "a PreferredSendSize above the own MaxReceiveSize is cut to it",
            |scene| accepted(scene, NegotiateRequest { preferred_send_size: u32::MAX, ..BASIC })),
        case("SmbdNegotiate_Redundancy", "MS-SMBD 3.1.7.2",
            "bytes behind the request are ignored, up to 512 in all", redundancy),
        case("SmbdNegotiate_DisconnectAfterNegotiate", "MS-SMBD 3.1.7.3",
            "a client that leaves after negotiation harms nobody", disconnect_after_negotiate),
        case("SmbdNegotiate_UncompletedMessage", "MS-SMBD 3.1.5.6",
            "a request shorter than 20 bytes ends the connection", |scene| {
                dropped(scene, &BASIC.encode()[..19]);
                dropped(scene, &[0]);
                accepted(scene, BASIC);
            }),
        case("SmbdNegotiate_VersionRangeNotCover0x0100_LessThanMinVersion", "MS-SMBD 3.1.5.6",
            "a range above 0x0100 is answered STATUS_NOT_SUPPORTED",
            |scene| not_supported(scene, 0x0101, u16::MAX)),
        case("SmbdNegotiate_VersionRangeNotCover0x0100_LargerThanMaxVersion", "MS-SMBD 3.1.5.6",
            "a range below 0x0100 is answered STATUS_NOT_SUPPORTED",
            |scene| not_supported(scene, 0, 0x00ff)),
        case("SmbdNegotiate_VersionRangeCover0x0100_EqualMinVersion", "MS-SMBD 3.1.5.6",
            "a range from 0x0100 is accepted", |scene| versions(scene, 0x0100, u16::MAX)),
        case("SmbdNegotiate_VersionRangeCover0x0100_EqualMaxVersion", "MS-SMBD 3.1.5.6",
            "a range up to 0x0100 is accepted", |scene| versions(scene, 0, 0x0100)),
        case("SmbdNegotiate_VersionRangeCover0x0100_InMiddle", "MS-SMBD 3.1.5.6",
            "a range around 0x0100 is accepted", |scene| versions(scene, 0x00ff, 0x0101)),
        case("SmbdNegotiate_VersionRangeCover0x0100_EqualMinVersionAndMaxVersion", "MS-SMBD 3.1.5.6",
            "0x0100 alone is accepted", |scene| versions(scene, 0x0100, 0x0100)),
        case("SmbdNegotiate_NegativeParameter_CreditsRequested", "MS-SMBD 3.1.5.6",
            "CreditsRequested of 0 ends the connection", |scene| {
                let requesting = |credits_requested| NegotiateRequest { credits_requested, ..BASIC };
                dropped(scene, &requesting(0).encode());
                accepted(scene, requesting(1));
                accepted(scene, requesting(u16::MAX));
            }),
        case("SmbdNegotiate_NegativeParameter_MaxReceiveSize", "MS-SMBD 3.1.5.6",
            "a MaxReceiveSize below 128 ends the connection", |scene| {
                let receiving = |max_receive_size| NegotiateRequest { max_receive_size, ..BASIC };
                dropped(scene, &receiving(127).encode());
                dropped(scene, &receiving(0).encode());
                accepted(scene, receiving(128));
                accepted(scene, receiving(u32::MAX));
            }),
        case("SmbdNegotiate_NegativeParameter_MaxFragmentedSize", "MS-SMBD 3.1.5.6",
            "a MaxFragmentedSize below 131,072 ends the connection", |scene| {
                let reassembling = |max_fragmented_size| NegotiateRequest { max_fragmented_size, ..BASIC };
                dropped(scene, &reassembling(131_071).encode());
                dropped(scene, &reassembling(0).encode());
                accepted(scene, reassembling(131_072));
                accepted(scene, reassembling(u32::MAX));
            }),
        case("SmbdNegotiate_NegotiationTimer", "MS-SMBD 3.1.2.1",
            "a client has 5 s for its request", timer).waiting(),
        case("SmbdNegotiate_NegotiationTimer_Timeout", "MS-SMBD 3.1.6.1",
            "a client that sends no request for 5 s is let go", timeout).waiting(),
    ]
}

/// The request is accepted, with an answer that keeps to what was asked.
#[track_caller]
fn accepted<E: Endpoint>(scene: &Scene<E>, request: NegotiateRequest) {
    let answer = exchange(scene, &request.encode());
    check(&request, &answer);
}

#[track_caller]
fn check(request: &NegotiateRequest, answer: &[u8]) -> NegotiateResponse {
    assert_eq!(answer.len(), 32, "MS-SMBD 2.2.2: the response's length");
    assert_eq!(answer[6..8], [0, 0], "MS-SMBD 2.2.2: Reserved");
    let response = NegotiateResponse::decode(answer).expect("it is long enough");
    let versions = (
        response.min_version,
        response.max_version,
        response.negotiated_version,
    );
    assert_eq!(response.status, 0, "{response:?}");
    assert_eq!(versions, (0x0100, 0x0100, 0x0100));
    assert!(response.credits_requested > 0, "{response:?}");
    assert!(
        response.credits_granted > 0 && response.credits_granted <= request.credits_requested,
        "granted what was not asked for: {response:?}"
    );
    assert!(
        response.max_receive_size >= 128
            && response.max_receive_size <= request.preferred_send_size.max(128),
        "{response:?}"
    );
    assert!(
        response.preferred_send_size <= request.max_receive_size,
        "{response:?}"
    );
    assert!(response.max_fragmented_size >= 131_072, "{response:?}");
    assert!(response.max_read_write_size > 0, "{response:?}");
    response
}

#[track_caller]
fn exchange<E: Endpoint>(scene: &Scene<E>, request: &[u8]) -> Vec<u8> {
    let mut endpoint = scene.endpoint();
    endpoint.send(request).expect("send the request");
    let answer = endpoint.receive(PROMPTLY).expect("an answer");
    let _ = endpoint.disconnect();
    answer
}

#[track_caller]
fn preferred_send_size<E: Endpoint>(scene: &Scene<E>, preferred: u32, expected: u32) {
    let request = NegotiateRequest {
        preferred_send_size: preferred,
        ..BASIC
    };
    let response = check(&request, &exchange(scene, &request.encode()));
    assert_eq!(response.max_receive_size, expected, "MaxReceiveSize");
}

#[track_caller]
fn versions<E: Endpoint>(scene: &Scene<E>, min_version: u16, max_version: u16) {
    accepted(
        scene,
        NegotiateRequest {
            min_version,
            max_version,
            ..BASIC
        },
    );
}

/// Answered, with nothing but the versions and the status, and then ended.
#[track_caller]
fn not_supported<E: Endpoint>(scene: &Scene<E>, min_version: u16, max_version: u16) {
    let request = NegotiateRequest {
        min_version,
        max_version,
        ..BASIC
    };
    let mut endpoint = scene.endpoint();
    endpoint.send(&request.encode()).expect("send the request");
    let answer = endpoint.receive(PROMPTLY).expect("an answer");
    let mut expected = [0; 32];
    expected[..4].copy_from_slice(&[0, 1, 0, 1]);
    expected[12..16].copy_from_slice(&STATUS_NOT_SUPPORTED.to_le_bytes());
    assert_eq!(answer, expected, "the refusal");
    expect_end(&mut endpoint, PROMPTLY);
}

/// Ended without an answer.
#[track_caller]
fn dropped<E: Endpoint>(scene: &Scene<E>, request: &[u8]) {
    let mut endpoint = scene.endpoint();
    endpoint.send(request).expect("send the request");
    expect_end(&mut endpoint, PROMPTLY);
}

#[track_caller]
fn expect_end<E: Endpoint>(endpoint: &mut E, patience: Duration) {
    match endpoint.receive(patience) {
        Err(ClientError::Closed) => {}
        other => panic!("not ended but {other:?}"),
    }
}

fn redundancy<E: Endpoint>(scene: &Scene<E>) {
    for length in [21, 512] {
        let mut request = BASIC.encode().to_vec();
        request.resize(length, 0x5a);
        check(&BASIC, &exchange(scene, &request));
    }
}

fn disconnect_after_negotiate<E: Endpoint>(scene: &Scene<E>) {
    for _ in 0..3 {
        accepted(scene, BASIC);
    }
    scene.is_alive().expect("the next client");
}

fn timer<E: Endpoint>(scene: &Scene<E>) {
    let mut endpoint = scene.endpoint();
    let silence = endpoint.receive(NEGOTIATION_TIMER - Duration::from_secs(1));
    assert!(
        matches!(silence, Err(ClientError::Silence(_))),
        "{silence:?}"
    );
    endpoint.send(&BASIC.encode()).expect("send the request");
    check(&BASIC, &endpoint.receive(PROMPTLY).expect("an answer"));
}

fn timeout<E: Endpoint>(scene: &Scene<E>) {
    let started = Instant::now();
    let mut endpoint = scene.endpoint();
    expect_end(&mut endpoint, NEGOTIATION_TIMER + PATIENCE);
    let waited = started.elapsed();
    assert!(
        waited > NEGOTIATION_TIMER - Duration::from_millis(200),
        "ended after {waited:?} already"
    );
}
