//! Tests of the connection machine: golden bytes, one side against hand-made messages, two sides
//! over a simulated fabric with virtual time, and random schedules over that fabric.

mod credits;
mod data_transfer;
mod golden;
mod negotiation;
mod pair;
mod parameters;
mod random;
mod timers;

use std::time::Duration;

use super::messages::{DataTransferHeader, NegotiateRequest, RESPONSE_REQUESTED};
use super::{Connection, Outgoing, Parameters, Received, Role};
use crate::time::Timestamp;

const START: Timestamp = Timestamp::ZERO;

fn after(seconds: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(seconds))
}

fn ordinary_request() -> NegotiateRequest {
    NegotiateRequest {
        min_version: 0x0100,
        max_version: 0x0100,
        credits_requested: 255,
        preferred_send_size: 1364,
        max_receive_size: 1364,
        max_fragmented_size: 131_072,
    }
}

/// A passive side whose negotiate buffer is posted and whose connection is established.
fn waiting_server(parameters: Parameters) -> Connection {
    let mut server = Connection::new(Role::Passive, parameters, START);
    server.handle_posted(server.receives_to_post());
    server.handle_established(START);
    server
}

/// A passive side after negotiation with a peer that asks for `credits_requested`. It holds no
/// send credits: those come with the peer's first message.
fn established_server(parameters: Parameters, credits_requested: u16) -> Connection {
    let mut server = waiting_server(parameters);
    let request = NegotiateRequest {
        credits_requested,
        ..ordinary_request()
    };
    assert_eq!(
        server.handle_receive(START, &request.encode()),
        Ok(Received::Negotiated)
    );
    server.handle_posted(server.receives_to_post());
    server
        .poll_send(START)
        .expect("the negotiate response is ready");
    server.handle_send_complete(START, 1);
    server
}

/// A Data Transfer message as a peer may send it.
#[derive(Clone)]
struct Message {
    header: DataTransferHeader,
    payload: Vec<u8>,
}

impl Message {
    fn empty(credits_granted: u16) -> Self {
        Self {
            header: DataTransferHeader {
                credits_requested: 255,
                credits_granted,
                flags: 0,
                remaining_data_length: 0,
                data_offset: 0,
                data_length: 0,
            },
            payload: Vec::new(),
        }
    }

    fn data(payload: &[u8], remaining: u32) -> Self {
        let mut message = Self::empty(0);
        message.header.remaining_data_length = remaining;
        message.header.data_offset = 24;
        message.header.data_length = u32::try_from(payload.len()).unwrap();
        message.payload = payload.to_vec();
        message
    }

    fn granting(mut self, credits: u16) -> Self {
        self.header.credits_granted = credits;
        self
    }

    fn requesting(mut self, credits: u16) -> Self {
        self.header.credits_requested = credits;
        self
    }

    fn asking_for_a_response(mut self) -> Self {
        self.header.flags = RESPONSE_REQUESTED;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.encode().to_vec();
        if !self.payload.is_empty() {
            bytes.extend([0; 4]);
            bytes.extend(&self.payload);
        }
        bytes
    }
}

fn header_of(outgoing: &Outgoing) -> DataTransferHeader {
    DataTransferHeader::decode(outgoing.header.as_bytes()).expect("own messages decode")
}

/// Posts what is asked for.
fn post(connection: &mut Connection) -> u16 {
    let count = connection.receives_to_post();
    connection.handle_posted(count);
    count
}
