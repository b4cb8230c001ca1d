//! Relay records, both ways: a child is no more trusted by smbdirectd than a client.

use proto::relay::{
    CloseReason, MessageSequence, OperationId, Outline, Records, RegionRange, ToChild, ToGateway,
    Word,
};

pub fn run(data: &[u8]) {
    // A datagram holds at least a byte a record, so this ends.
    let to_gateway = Records::<ToGateway<'_>>::new(data).count();
    let to_child = Records::<ToChild<'_>>::new(data).count();
    assert!(to_gateway <= data.len() && to_child <= data.len());
    let mut again = Vec::new();
    let mut count = 0;
    for record in Records::<ToGateway<'_>>::new(data).map_while(Result::ok) {
        if let ToGateway::Expect { outline } = &record {
            // Any message: what it may be is the client's to choose.
            let _ = outline.payload_of(data);
        }
        record.encode(&mut again);
        count += 1;
    }
    let read = Records::<ToGateway<'_>>::new(&again);
    assert_eq!(read.map_while(Result::ok).count(), count);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut release = Vec::new();
    ToGateway::Release {
        through: MessageSequence(7),
    }
    .encode(&mut release);
    let mut close = release.clone();
    ToGateway::Close {
        reason: CloseReason::ServerClosed,
    }
    .encode(&mut close);
    let mut lend = Vec::new();
    let word = Word {
        at: 12,
        mask: 0xFFFF,
        value: 9,
    };
    ToGateway::Expect {
        outline: Outline {
            words: vec![word; 3],
            length_at: 100,
            descriptors_at: 112,
            descriptors: 1,
        },
    }
    .encode(&mut lend);
    ToGateway::Lend {
        operation: OperationId(1),
        target: RegionRange {
            offset: 1 << 27,
            length: 65_536,
        },
    }
    .encode(&mut lend);
    ToGateway::Recall.encode(&mut lend);
    vec![release, close, lend]
}
