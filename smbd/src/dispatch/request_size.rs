//! What a request says about sizes and RDMA, read before its handler runs: the payload its credits
//! must cover, and the token it wants invalidated. Pure; called once per element.

use proto::relay::Descriptor;
use proto::smb2::rdma_transform::ChannelInformation;
use proto::smb2::read::ReadRequest;
use proto::smb2::write::WriteRequest;
use proto::smb2::{Channel, Command, Dialect, HEADER_SIZE, NtStatus};
use proto::wire::Reader;

/// Bytes one credit covers (MS-SMB2 3.1.5.2).
const CREDIT_UNIT: u64 = 65_536;

/// The larger of what a request carries and what it asks for, in bytes (MS-SMB2 3.3.5.2.5); 0 for
/// commands without payload, and where the request is too short to say.
pub fn payload_size(command: Command, element: &[u8]) -> u64 {
    let field = |offset: usize| -> u64 {
        Reader::starting_at(element, HEADER_SIZE + offset, "Body")
            .and_then(|mut reader| reader.u32("Length"))
            .map_or(0, u64::from)
    };
    match command {
        Command::Read | Command::Write | Command::SetInfo | Command::ChangeNotify => field(4),
        Command::QueryInfo => field(4).max(field(12)),
        Command::QueryDirectory => field(28),
        Command::Ioctl => {
            let sent = field(28) + field(40);
            sent.max(field(32) + field(44))
        }
        _ => 0,
    }
}

/// Checks that the CreditCharge covers the payload (MS-SMB2 3.3.5.2.5).
pub fn check_charge(charge: u16, payload: u64) -> Result<(), NtStatus> {
    let needed = payload.saturating_sub(1) / CREDIT_UNIT + 1;
    if u64::from(charge.max(1)) < needed {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

/// How READ and WRITE say their payload travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RdmaUse {
    /// By RDMA, whatever protects it.
    pub by_rdma: bool,
    /// The token of the first descriptor, with SMB2_CHANNEL_RDMA_V1_INVALIDATE
    /// (MS-SMB2 3.3.5.12, 3.3.5.13): invalidated with the final response, errors included.
    pub invalidate: Option<u32>,
}

/// Reads it; nothing for other commands and for requests their handlers will refuse. Dialect 3.0 has
/// no invalidating channel (MS-SMB2 2.2.19, 2.2.21): its clients keep their tokens when such a request is
/// refused.
pub fn rdma_use(command: Command, element: &[u8], dialect: Option<Dialect>) -> RdmaUse {
    let (channel, info) = match command {
        Command::Read => match ReadRequest::decode(element) {
            Ok(request) => (request.channel(), request.channel_info),
            Err(_) => return RdmaUse::default(),
        },
        Command::Write => match WriteRequest::decode(element) {
            Ok(request) => (request.channel(), request.channel_info),
            Err(_) => return RdmaUse::default(),
        },
        _ => return RdmaUse::default(),
    };
    let Ok(channel) = channel else {
        return RdmaUse::default();
    };
    let info = ChannelInformation::decode(channel, info).ok().flatten();
    let first = info
        .filter(|info| info.invalidate && dialect != Some(Dialect::Smb300))
        .and_then(|mut info| info.descriptors.next());
    RdmaUse {
        by_rdma: channel != Channel::None,
        invalidate: first.map(|descriptor| descriptor.token),
    }
}

/// The relay's form of a request's descriptors.
pub fn relay_descriptors(
    descriptors: proto::smb2::rdma::Descriptors<'_>,
) -> Result<Vec<Descriptor>, NtStatus> {
    if descriptors.len() == 0 || descriptors.len() > proto::relay::MAX_DESCRIPTORS {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(descriptors
        .map(|one| Descriptor {
            offset: one.offset.into(),
            token: one.token.into(),
            length: one.length.into(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smb2::read::ReadFlags;
    use proto::smb2::{BufferDescriptorV1, FileId, Header, MessageId};

    fn read(channel: Channel, length: u32) -> Vec<u8> {
        let mut info = Vec::new();
        BufferDescriptorV1 {
            offset: 0x1000,
            token: 0xABCD,
            length,
        }
        .encode(&mut info);
        let mut element = Vec::new();
        Header::request(Command::Read, MessageId(3)).encode(&mut element);
        ReadRequest {
            padding: 0,
            flags: ReadFlags::empty(),
            length,
            offset: 0,
            file_id: FileId::default(),
            minimum_count: 0,
            channel: channel.into(),
            remaining_bytes: 0,
            channel_info: &info,
        }
        .encode(&mut element);
        element
    }

    #[test]
    fn a_credit_covers_64_kib_and_no_charge_counts_as_one() {
        for (charge, payload, enough) in [
            (0, 65_536, true),
            (1, 65_536, true),
            (1, 65_537, false),
            (16, 1 << 20, true),
            (16, (1 << 20) + 1, false),
            (1, u64::MAX, false),
        ] {
            assert_eq!(check_charge(charge, payload).is_ok(), enough, "{payload}");
        }
    }

    #[test]
    fn the_length_of_a_read_is_its_payload_and_a_cut_one_has_none() {
        let element = read(Channel::RdmaV1, 0x12345);
        assert_eq!(payload_size(Command::Read, &element), 0x12345);
        assert_eq!(payload_size(Command::Read, &element[..70]), 0);
        assert_eq!(payload_size(Command::Echo, &element), 0);
    }

    #[test]
    fn only_the_invalidating_channel_gives_a_token() {
        let of = |channel, dialect| rdma_use(Command::Read, &read(channel, 4096), Some(dialect));
        let plain = of(Channel::RdmaV1, Dialect::Smb302);
        assert_eq!((plain.by_rdma, plain.invalidate), (true, None));
        for dialect in [Dialect::Smb302, Dialect::Smb311] {
            let invalidating = of(Channel::RdmaV1Invalidate, dialect);
            assert_eq!(invalidating.invalidate, Some(0xABCD));
        }
        let inline = of(Channel::None, Dialect::Smb302);
        assert_eq!(inline, RdmaUse::default());
    }

    #[test]
    fn dialect_3_0_has_no_invalidating_channel() {
        let element = read(Channel::RdmaV1Invalidate, 4096);
        let refused = rdma_use(Command::Read, &element, Some(Dialect::Smb300));
        assert_eq!(refused.invalidate, None);
    }
}
