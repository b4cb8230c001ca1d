//! Relay records, both ways: a child is no more trusted by smbdirectd than a client.

use proto::relay::{CloseReason, MessageSequence, Records, ToChild, ToGateway};

pub fn run(data: &[u8]) {
    // A datagram holds at least a byte a record, so this ends.
    let to_gateway = Records::<ToGateway<'_>>::new(data).count();
    let to_child = Records::<ToChild<'_>>::new(data).count();
    assert!(to_gateway <= data.len() && to_child <= data.len());
    let mut again = Vec::new();
    let mut count = 0;
    for record in Records::<ToGateway<'_>>::new(data).map_while(Result::ok) {
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
    vec![release, close]
}
