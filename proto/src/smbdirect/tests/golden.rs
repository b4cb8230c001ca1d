//! The bytes of each message of [MS-SMBD] 2.2, and where decoding stops.

use super::super::messages::{
    BufferDescriptorV1, DataTransferHeader, NegotiateRequest, NegotiateResponse, TooShort,
};

#[rustfmt::skip]
const REQUEST: [u8; 20] = [
    0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0xff, 0x00,
    0x54, 0x05, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00,
];

#[rustfmt::skip]
const RESPONSE: [u8; 32] = [
    0x00, 0x01, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0xff, 0x00, 0x0a, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00,
    0x54, 0x05, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00,
];

#[rustfmt::skip]
const DATA: [u8; 20] = [
    0xff, 0x00, 0x02, 0x01, 0x01, 0x00, 0x00, 0x00,
    0x04, 0x03, 0x02, 0x01, 0x18, 0x00, 0x00, 0x00, 0x3c, 0x05, 0x00, 0x00,
];

const REQUEST_FIELDS: NegotiateRequest = NegotiateRequest {
    min_version: 0x0100,
    max_version: 0x0100,
    credits_requested: 255,
    preferred_send_size: 1364,
    max_receive_size: 8192,
    max_fragmented_size: 131_072,
};

const RESPONSE_FIELDS: NegotiateResponse = NegotiateResponse {
    min_version: 0x0100,
    max_version: 0x0100,
    negotiated_version: 0x0100,
    credits_requested: 255,
    credits_granted: 10,
    status: 0,
    max_read_write_size: 8 << 20,
    preferred_send_size: 1364,
    max_receive_size: 8192,
    max_fragmented_size: 1 << 20,
};

const DATA_FIELDS: DataTransferHeader = DataTransferHeader {
    credits_requested: 255,
    credits_granted: 0x0102,
    flags: 1,
    remaining_data_length: 0x0102_0304,
    data_offset: 24,
    data_length: 1340,
};

#[test]
fn negotiate_request_has_its_twenty_bytes() {
    assert_eq!(REQUEST_FIELDS.encode(), REQUEST);
    assert_eq!(NegotiateRequest::decode(&REQUEST), Ok(REQUEST_FIELDS));
}

#[test]
fn negotiate_response_has_its_thirty_two_bytes() {
    assert_eq!(RESPONSE_FIELDS.encode(), RESPONSE);
    assert_eq!(NegotiateResponse::decode(&RESPONSE), Ok(RESPONSE_FIELDS));
}

#[test]
fn a_refusal_carries_versions_and_status_and_zeroes() {
    let mut expected = [0; 32];
    expected[..4].copy_from_slice(&[0, 1, 0, 1]);
    expected[12..16].copy_from_slice(&[0xbb, 0, 0, 0xc0]);
    assert_eq!(NegotiateResponse::refusal(0xC000_00BB).encode(), expected);
}

#[test]
fn data_transfer_has_its_twenty_bytes() {
    assert_eq!(DATA_FIELDS.encode(), DATA);
    assert_eq!(DataTransferHeader::decode(&DATA), Ok(DATA_FIELDS));
}

#[test]
fn buffer_descriptor_has_its_sixteen_bytes() {
    let descriptor = BufferDescriptorV1 {
        offset: 0x0102_0304_0506_0708,
        token: 0x1122_3344,
        length: 0x000f_ffc0,
    };
    let bytes = [
        8, 7, 6, 5, 4, 3, 2, 1, 0x44, 0x33, 0x22, 0x11, 0xc0, 0xff, 0x0f, 0,
    ];
    assert_eq!(descriptor.encode(), bytes);
    assert_eq!(BufferDescriptorV1::decode(&bytes), Ok(descriptor));
}

#[test]
fn every_truncation_is_refused_and_named() {
    for length in 0..20 {
        let error = NegotiateRequest::decode(&REQUEST[..length]).unwrap_err();
        assert_eq!((error.received, error.minimum), (length, 20));
        let error = DataTransferHeader::decode(&DATA[..length]).unwrap_err();
        assert_eq!((error.received, error.minimum), (length, 20));
    }
    for length in 0..32 {
        assert!(NegotiateResponse::decode(&RESPONSE[..length]).is_err());
    }
    assert_eq!(
        TooShort {
            message: "data transfer message",
            received: 19,
            minimum: 20
        }
        .to_string(),
        "a data transfer message of 19 bytes, expected at least 20"
    );
}

#[test]
fn trailing_bytes_and_reserved_fields_are_ignored() {
    let mut long = REQUEST.to_vec();
    long[4] = 0xee;
    long.resize(512, 0xaa);
    assert_eq!(NegotiateRequest::decode(&long), Ok(REQUEST_FIELDS));

    let mut long = RESPONSE.to_vec();
    long[6] = 0xee;
    long.extend([0xaa; 9]);
    assert_eq!(NegotiateResponse::decode(&long), Ok(RESPONSE_FIELDS));
}

#[test]
fn payload_range_is_computed_without_wrapping() {
    let header = DataTransferHeader {
        data_offset: u32::MAX - 7,
        data_length: 16,
        ..DATA_FIELDS
    };
    assert_eq!(header.payload_range(4096), None);
    assert_eq!(DATA_FIELDS.payload_range(1364), Some(24..1364));
    assert_eq!(DATA_FIELDS.payload_range(1363), None);
}
