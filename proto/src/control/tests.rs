use super::broker::{ClaimId, ToBroker};
use super::child::{FromChild, ToChild};
use super::*;

fn claim() -> ToBroker {
    ToBroker::Claim {
        claim: ClaimId(7),
        client_guid: [0; 16],
        dialect: 0x0311,
        kind: ConnectionKind::Relay,
        preface: vec![0xFE; 300],
    }
}

#[test]
fn messages_of_one_datagram_come_out_in_order() {
    let mut bytes = Vec::new();
    let sent = [
        FromChild::Serving {
            client_guid: [9; 16],
        },
        FromChild::Authenticated,
    ];
    sent.iter().for_each(|message| encode(message, &mut bytes));
    let received: Result<Vec<FromChild>, _> = decode(&bytes, 0).collect();
    assert_eq!(received.unwrap(), sent);
}

#[test]
fn a_message_without_its_descriptor_is_refused() {
    let mut bytes = Vec::new();
    encode(&claim(), &mut bytes);
    assert_eq!(
        decode::<ToBroker>(&bytes, 1).next(),
        Some(Ok(claim())),
        "with its descriptor it is fine"
    );
    let expected = ControlError::Descriptors {
        found: 0,
        expected: 1,
    };
    assert_eq!(decode::<ToBroker>(&bytes, 0).next(), Some(Err(expected)));
}

#[test]
fn a_descriptor_nobody_asked_for_is_refused() {
    let mut bytes = Vec::new();
    encode(&ToChild::Shutdown, &mut bytes);
    assert!(decode::<ToChild>(&bytes, 1).next().unwrap().is_err());
}

#[test]
fn a_message_with_a_descriptor_is_alone_in_its_datagram() {
    let mut bytes = Vec::new();
    encode(&claim(), &mut bytes);
    encode(&ToBroker::ChannelClosed, &mut bytes);
    assert!(decode::<ToBroker>(&bytes, 1).next().unwrap().is_err());
}

#[test]
fn every_cut_of_a_message_is_an_error_and_ends_the_datagram() {
    let mut bytes = Vec::new();
    encode(&claim(), &mut bytes);
    for length in 1..bytes.len() {
        let mut messages = decode::<ToBroker>(&bytes[..length], 1);
        assert_eq!(
            messages.next(),
            Some(Err(ControlError::Malformed { offset: 0 }))
        );
        assert_eq!(messages.next(), None);
    }
}
