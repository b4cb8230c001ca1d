//! Buffer descriptors and the requests that carry them.

use proto::smb2::rdma::Descriptors;
use proto::smb2::read::ReadRequest;
use proto::smb2::write::WriteRequest;
use proto::smb2::{BufferDescriptorV1, Channel, Command, FileId, Header, MessageId};

pub fn run(data: &[u8]) {
    if let Ok(descriptors) = Descriptors::new(data) {
        let total = descriptors.total_length();
        let sum: u64 = descriptors.map(|one| u64::from(one.length)).sum();
        assert_eq!(sum, total);
    }
    if let Ok(request) = ReadRequest::decode(data) {
        let _ = request.descriptors().map(|all| all.total_length());
    }
    if let Ok(request) = WriteRequest::decode(data) {
        assert!(request.data.len() <= data.len());
        let _ = request.descriptors().map(|all| all.total_length());
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    for length in [0x1000, u32::MAX] {
        BufferDescriptorV1 {
            offset: 0x7000,
            token: 0xABCD,
            length,
        }
        .encode(&mut list);
    }
    let mut read = Vec::new();
    Header::request(Command::Read, MessageId(3)).encode(&mut read);
    ReadRequest {
        padding: 0,
        flags: Default::default(),
        length: 0x1000,
        offset: 0,
        file_id: FileId::default(),
        minimum_count: 0,
        channel: Channel::RdmaV1.into(),
        remaining_bytes: 0,
        channel_info: &list,
    }
    .encode(&mut read);
    let mut write = Vec::new();
    Header::request(Command::Write, MessageId(3)).encode(&mut write);
    WriteRequest {
        offset: 0,
        file_id: FileId::default(),
        channel: Channel::RdmaV1.into(),
        remaining_bytes: 0x1000,
        flags: Default::default(),
        channel_info: &list,
        data: &[],
    }
    .encode(&mut write);
    vec![list, read, write]
}
