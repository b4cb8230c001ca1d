//! READ and WRITE, inline and with an RDMA channel.

use super::{FILE_ID, bytes, element};
use crate::smb2::read::{ReadFlags, ReadRequest, ReadResponse, ReadResponseFixed};
use crate::smb2::write::{WriteFlags, WriteRequest, WriteResponse};
use crate::smb2::{BufferDescriptorV1, Channel, HEADER_SIZE};
use crate::wire::WireError;

const DESCRIPTOR: [u8; 16] = [
    0, 0x10, 0, 0, 0, 0x7F, 0, 0, 0x44, 0x33, 0x22, 0x11, 0, 0, 0x10, 0,
];

#[test]
fn read_request_inline_and_by_rdma() {
    let mut request = ReadRequest {
        padding: 0x50,
        flags: ReadFlags::empty(),
        length: 0x10_0000,
        offset: 0x2_0000,
        file_id: FILE_ID,
        minimum_count: 1,
        channel: Channel::None.into(),
        remaining_bytes: 0,
        channel_info: b"",
    };
    let mut golden = bytes(&[
        &[49, 0, 0x50, 0, 0, 0, 0x10, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        &[0x11; 8],
        &[0x22; 8],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0],
    ]);
    golden!(ReadRequest, request, golden.clone(), optional: 1);

    request.channel = Channel::RdmaV1Invalidate.into();
    request.channel_info = &DESCRIPTOR;
    golden.pop();
    golden[36] = 2;
    golden[44..48].copy_from_slice(&[112, 0, 16, 0]);
    golden.extend(DESCRIPTOR);
    golden!(ReadRequest, request, golden.clone());
    assert_eq!(request.channel(), Ok(Channel::RdmaV1Invalidate));
    let descriptors: Vec<_> = request.descriptors().unwrap().collect();
    let expected = BufferDescriptorV1 {
        offset: 0x7F00_0000_1000,
        token: 0x1122_3344,
        length: 0x10_0000,
    };
    assert_eq!(descriptors, [expected]);
}

#[test]
fn buffers_may_not_reach_into_the_fixed_part_or_past_the_end() {
    for (offset, length, allowed) in [
        (112_u16, 16_u16, true),
        (112, 17, false),
        (111, 16, false),
        (0, 16, false),
        (113, 16, false),
        (0xFFFF, 0xFFFF, false),
        (0xFFFF, 0, true),
    ] {
        let mut bytes = vec![0; 112 + 16];
        bytes[64] = 49;
        bytes[108..110].copy_from_slice(&offset.to_le_bytes());
        bytes[110..112].copy_from_slice(&length.to_le_bytes());
        let decoded = ReadRequest::decode(&bytes);
        assert_eq!(decoded.is_ok(), allowed, "{offset} {length}");
        if let Err(error) = decoded {
            assert_eq!(error, WireError::new("ReadChannelInfo", offset.into()));
        }
    }
}

#[test]
fn read_response_inline_and_by_rdma() {
    golden!(
        ReadResponse,
        ReadResponse {
            data_remaining: 0,
            flags: 0,
            data: b"data",
        },
        bytes(&[&[17, 0, 80, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"data"])
    );
    let mut fixed = Vec::new();
    ReadResponseFixed::rdma(0x1234).encode(&mut fixed);
    assert_eq!(
        fixed,
        [17, 0, 80, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]
    );
    let element = element(&fixed);
    let decoded = ReadResponse::decode(&element).unwrap();
    assert_eq!((decoded.data_remaining, decoded.data), (0x1234, &b""[..]));
    fixed.clear();
    ReadResponseFixed::inline(9).encode(&mut fixed);
    assert_eq!(fixed[2..8], [80, 0, 9, 0, 0, 0]);
}

#[test]
fn write_inline_and_by_rdma() {
    let mut request = WriteRequest {
        offset: 0x2_0000,
        file_id: FILE_ID,
        channel: 0,
        remaining_bytes: 0,
        flags: WriteFlags::WRITE_THROUGH,
        channel_info: b"",
        data: b"data",
    };
    let mut golden = bytes(&[
        &[49, 0, 112, 0, 4, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        &[0x11; 8],
        &[0x22; 8],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        b"data",
    ]);
    golden!(WriteRequest, request, golden.clone());

    request.channel = Channel::RdmaV1.into();
    request.channel_info = &DESCRIPTOR;
    request.data = b"";
    request.remaining_bytes = 0x10_0000;
    golden.truncate(48);
    golden[2..8].copy_from_slice(&[0; 6]);
    golden[32..44].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0x10, 0, 112, 0, 16, 0]);
    golden.extend(DESCRIPTOR);
    golden!(WriteRequest, request, golden.clone());
    assert_eq!(request.descriptors().unwrap().total_length(), 0x10_0000);
    golden!(
        WriteResponse,
        WriteResponse { count: 7 },
        vec![17, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn inline_write_data_may_start_at_most_0x100_bytes_into_the_message() {
    let mut body = vec![0; 0x101 + 4 - HEADER_SIZE];
    body[0] = 49;
    body[4] = 4;
    for (data_offset, expected) in [
        (0x100_u16, Ok(4)),
        (0x101, Err(WireError::new("DataOffset", HEADER_SIZE + 2))),
    ] {
        body[2..4].copy_from_slice(&data_offset.to_le_bytes());
        let element = element(&body);
        let decoded = WriteRequest::decode(&element);
        assert_eq!(decoded.map(|request| request.data.len()), expected);
    }
}
