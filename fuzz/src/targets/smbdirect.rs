//! SMB Direct: the negotiate messages both ends take, and sequences of data transfers.

use proto::smb2::HEADER_SIZE;
use proto::smbdirect::messages::{DataTransferHeader, NegotiateRequest, NegotiateResponse};
use proto::smbdirect::{Connection, Parameters, Received, Role};
use proto::time::Timestamp;

use crate::{joined, pieces};

const START: Timestamp = Timestamp::ZERO;

fn request() -> NegotiateRequest {
    NegotiateRequest {
        min_version: 0x0100,
        max_version: 0x0100,
        credits_requested: 255,
        preferred_send_size: 1364,
        max_receive_size: 1364,
        max_fragmented_size: 131_072,
    }
}

fn waiting_server() -> Connection {
    let mut server = Connection::new(Role::Passive, Parameters::server(), START);
    server.handle_posted(server.receives_to_post());
    server.handle_established(START);
    server
}

pub fn negotiate(data: &[u8]) {
    let _ = NegotiateRequest::decode(data);
    let _ = NegotiateResponse::decode(data);
    let mut server = waiting_server();
    if server.handle_receive(START, data) == Ok(Received::Negotiated) {
        assert!(server.receive_buffer_size() >= 128 && server.max_send_payload() > 0);
        assert!(server.peer_max_fragmented_size() >= 131_072);
    }
    let mut client = Connection::new(Role::Active, Parameters::client(), START);
    client.handle_established(START);
    client.handle_posted(client.receives_to_post());
    client.poll_send(START);
    let _ = client.handle_receive(START, data);
}

pub fn negotiate_seeds() -> Vec<Vec<u8>> {
    let mut server = waiting_server();
    let _ = server.handle_receive(START, &request().encode());
    let response = NegotiateResponse {
        min_version: 0x0100,
        max_version: 0x0100,
        negotiated_version: 0x0100,
        credits_requested: 255,
        credits_granted: 10,
        status: 0,
        max_read_write_size: 8 << 20,
        preferred_send_size: 1364,
        max_receive_size: 1364,
        max_fragmented_size: 1 << 20,
    };
    vec![request().encode().to_vec(), response.encode().to_vec()]
}

/// Messages one after the other to a server that has negotiated: fragments lie inside them, follow
/// each other without a gap, and no credit is granted without a buffer.
pub fn data(input: &[u8]) {
    let mut server = waiting_server();
    let _ = server.handle_receive(START, &request().encode());
    server.handle_posted(server.receives_to_post());
    server.poll_send(START);
    server.handle_send_complete(START, 1);
    let mut place = 0;
    for message in pieces(input).take(64) {
        match server.handle_receive(START, message) {
            Ok(Received::Fragment {
                data,
                message_length,
                offset_in_message,
                last,
            }) => {
                assert!(data.start <= data.end && data.end <= message.len());
                assert_eq!(offset_in_message, place);
                place += (data.end - data.start) as u32;
                assert!(place <= message_length);
                assert!(message_length <= server.max_fragmented_receive_size());
                assert_eq!(last, place == message_length);
                if last {
                    place = 0;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
        server.handle_posted(server.receives_to_post());
        while server.poll_send(START).is_some() {
            server.handle_send_complete(START, 1);
        }
        let credits = server.credits();
        assert!(credits.granted <= credits.posted);
    }
}

pub fn data_seeds() -> Vec<Vec<u8>> {
    let message = |remaining, length: usize| {
        let header = DataTransferHeader {
            credits_requested: 10,
            credits_granted: 5,
            flags: 0,
            remaining_data_length: remaining,
            data_offset: if length == 0 { 0 } else { 24 },
            data_length: length as u32,
        };
        let mut bytes = header.encode().to_vec();
        if length > 0 {
            bytes.resize(24, 0);
            bytes.resize(24 + length, 7);
        }
        bytes
    };
    let messages = [
        message(0, 0),
        message(0, HEADER_SIZE),
        message(80, 40),
        message(40, 40),
        message(0, 40),
    ];
    let all: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    vec![joined(&all), joined(&all[..1]), joined(&all[2..])]
}
