//! Every record survives the trip; nothing that is not a record gets through.

use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    Hello {
        peer: "10.9.0.2:50000".parse().unwrap(),
        local: "[fe80::1%3]:445".parse().unwrap(),
        device: "rxe0".into(),
        connection: 7,
        link_speed: 100_000_000_000,
        max_read_write: 8 << 20,
        max_send: 173_910,
        max_receive: 1 << 20,
        max_messages: MAX_MESSAGES,
        max_operations: MAX_OPERATIONS,
        invalidate: true,
    }
}

fn descriptor(seed: u32) -> Descriptor {
    Descriptor {
        offset: (u64::from(seed) << 33).into(),
        token: (seed ^ 0xa5a5).into(),
        length: (seed + 1).into(),
    }
}

fn outline() -> Outline {
    Outline {
        words: vec![
            Word {
                at: 12,
                mask: 0xFFFF,
                value: 9,
            };
            MAX_WORDS
        ],
        length_at: 100,
        descriptors_at: 112,
        descriptors: MAX_DESCRIPTORS as u16,
    }
}

const RANGE: RegionRange = RegionRange {
    offset: 1 << 40,
    length: 1 << 20,
};

fn all_to_child() -> Vec<ToChild<'static>> {
    let operation = OperationId(u64::MAX);
    vec![
        ToChild::Hello(hello()),
        ToChild::Message {
            sequence: MessageSequence(1),
            body: Body::Inline(b"an odd length"),
        },
        ToChild::Message {
            sequence: MessageSequence(2),
            body: Body::InRegion(RANGE),
        },
        ToChild::Ahead {
            operation,
            length: 4096,
        },
        ToChild::Returned { operation },
        ToChild::Attached(Attached {
            region_size: 1 << 31,
            payload_offset: 1 << 27,
            part_size: 8 << 20,
            parts: 1,
            max_parts: 32,
            ring_offset: 4 << 20,
            ring_size: 4 << 20,
        }),
        ToChild::AttachRefused,
        ToChild::Grown { parts: 3 },
        ToChild::PayloadReady {
            operation,
            outcome: Outcome::Done,
        },
        ToChild::Sent {
            operation,
            outcome: Outcome::ConnectionLost,
        },
        ToChild::Closed {
            reason: CloseReason::TimedOut,
        },
        ToChild::Drained,
    ]
}

fn all_to_gateway(descriptors: &[Descriptor]) -> Vec<ToGateway<'_>> {
    let operation = OperationId(5);
    vec![
        ToGateway::Attach,
        ToGateway::Mapped,
        ToGateway::Release {
            through: MessageSequence(9),
        },
        ToGateway::ReadPayload {
            operation,
            target: RANGE,
            descriptors,
        },
        ToGateway::Reply {
            operation,
            invalidate: Some(0),
            writes: vec![
                PayloadWrite {
                    source: RANGE,
                    descriptors,
                };
                MAX_WRITES
            ],
            body: Body::Inline(b"x"),
        },
        ToGateway::Reply {
            operation,
            invalidate: None,
            writes: vec![],
            body: Body::InRegion(RANGE),
        },
        ToGateway::Expect { outline: outline() },
        ToGateway::Lend {
            operation,
            target: RANGE,
        },
        ToGateway::Recall,
        ToGateway::Grow { parts: 2 },
        ToGateway::Close {
            reason: CloseReason::ServerClosed,
        },
    ]
}

#[test]
fn every_record_survives_the_trip_in_one_datagram() {
    let mut bytes = Vec::new();
    for record in all_to_child() {
        record.encode(&mut bytes);
        assert_eq!(bytes.len() % 8, 0);
    }
    let read: Result<Vec<_>, _> = ToChildRecords::new(&bytes).collect();
    assert_eq!(read.unwrap(), all_to_child());

    let descriptors: Vec<Descriptor> = (0..MAX_DESCRIPTORS as u32).map(descriptor).collect();
    let mut bytes = Vec::new();
    for record in all_to_gateway(&descriptors) {
        record.encode(&mut bytes);
    }
    let read: Result<Vec<_>, _> = ToGatewayRecords::new(&bytes).collect();
    assert_eq!(read.unwrap(), all_to_gateway(&descriptors));
}

#[test]
fn a_message_has_these_bytes() {
    let mut bytes = Vec::new();
    ToChild::Message {
        sequence: MessageSequence(0x0102),
        body: Body::Inline(b"abc"),
    }
    .encode(&mut bytes);
    assert_eq!(
        bytes,
        [
            24, 0, 0, 0, 2, 0, 1, 0, // length, kind, inline
            2, 1, 0, 0, 0, 0, 0, 0, // sequence
            3, 0, 0, 0, b'a', b'b', b'c', 0, // length, bytes, padding
        ]
    );
}

#[test]
fn a_record_cut_off_anywhere_is_an_error() {
    let descriptors = [descriptor(1), descriptor(2)];
    for record in all_to_gateway(&descriptors) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for length in 1..bytes.len() {
            let cut: Vec<_> = ToGatewayRecords::new(&bytes[..length]).collect();
            assert!(matches!(cut.last(), Some(Err(_))), "{record:?} at {length}");
        }
    }
}

#[test]
fn a_record_that_claims_less_than_it_holds_is_an_error() {
    let mut bytes = Vec::new();
    ToGateway::ReadPayload {
        operation: OperationId(1),
        target: RANGE,
        descriptors: &[descriptor(1), descriptor(2)],
    }
    .encode(&mut bytes);
    let length = bytes.len() - 16;
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    assert_eq!(
        ToGatewayRecords::new(&bytes).next(),
        Some(Err(RelayError::Truncated))
    );
}

#[test]
fn records_of_the_other_direction_are_refused() {
    let mut bytes = Vec::new();
    ToChild::Drained.encode(&mut bytes);
    assert_eq!(
        ToGatewayRecords::new(&bytes).next(),
        Some(Err(RelayError::UnknownKind(9)))
    );
}

#[test]
fn over_the_limits_is_an_error() {
    let too_many: Vec<Descriptor> = (0..=MAX_DESCRIPTORS as u32).map(descriptor).collect();
    let refused = |record: ToGateway<'_>| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert!(
            matches!(
                ToGatewayRecords::new(&bytes).next(),
                Some(Err(RelayError::Field { .. }))
            ),
            "{record:?}"
        );
    };
    refused(ToGateway::ReadPayload {
        operation: OperationId(1),
        target: RANGE,
        descriptors: &too_many,
    });
    refused(ToGateway::ReadPayload {
        operation: OperationId(1),
        target: RegionRange { length: 0, ..RANGE },
        descriptors: &too_many[..1],
    });
    for (words, descriptors) in [
        (0, 1),
        (MAX_WORDS + 1, 1),
        (1, 0),
        (1, MAX_DESCRIPTORS as u16 + 1),
    ] {
        let outline = Outline {
            words: vec![outline().words[0]; words],
            descriptors,
            ..outline()
        };
        refused(ToGateway::Expect { outline });
    }
    refused(ToGateway::Lend {
        operation: OperationId(1),
        target: RegionRange { length: 0, ..RANGE },
    });
    refused(ToGateway::Reply {
        operation: OperationId(1),
        invalidate: None,
        writes: vec![
            PayloadWrite {
                source: RANGE,
                descriptors: &too_many[..1]
            };
            MAX_WRITES + 1
        ],
        body: Body::Inline(b"x"),
    });
    refused(ToGateway::Reply {
        operation: OperationId(1),
        invalidate: None,
        writes: vec![],
        body: Body::Inline(&vec![0; MAX_INLINE as usize + 1]),
    });
}

#[test]
fn another_version_is_named() {
    let mut bytes = Vec::new();
    ToChild::Hello(hello()).encode(&mut bytes);
    bytes[8] = 9;
    let error = ToChildRecords::new(&bytes).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("version 9"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = ToChildRecords::new(&bytes).count();
        let _ = ToGatewayRecords::new(&bytes).count();
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..400, value in any::<u8>()) {
        let descriptors = [descriptor(3)];
        for record in all_to_gateway(&descriptors) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            let _ = ToGatewayRecords::new(&bytes).count();
        }
    }
}

#[test]
fn an_operation_says_its_message_and_stays_one_of_its_own() {
    let first = OperationId::of(42, 7);
    assert_eq!(first.message(), 42);
    assert_eq!(OperationId::of(0, 7).message(), 0);
    let unfinished =
        (0..u64::from(MAX_OPERATIONS)).map(|count| OperationId::of(42, count + 1_048_000));
    let different: std::collections::HashSet<OperationId> = unfinished.collect();
    assert_eq!(different.len(), MAX_OPERATIONS as usize);
    let name = MessageName {
        connection: 7,
        message: 42,
    };
    assert_eq!(name.to_string(), "7.42");
}
