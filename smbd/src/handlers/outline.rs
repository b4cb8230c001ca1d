//! What WRITEs look like whose payload may be fetched before they are judged: like one that was
//! accepted, in the same session and tree connect, alone in its message and unencrypted, its payload
//! moved bare by RDMA. Whether a payload must be protected is the session's and the tree connect's to
//! say, and neither changes its mind; so none that must be is ever fetched on the strength of this.

use proto::relay::{Outline, Word, word_at};
use proto::smb2::Header;

/// In the SMB2 header (MS-SMB2 2.2.1.2) and the WRITE request behind it (2.2.21): where such requests
/// are alike, and in which bits.
const ALIKE: [(u16, u32); 12] = [
    (0, u32::MAX),  // ProtocolId
    (4, 0xFFFF),    // StructureSize
    (12, 0xFFFF),   // Command
    (16, 0x7),      // Flags: SERVER_TO_REDIR, ASYNC_COMMAND, RELATED_OPERATIONS
    (20, u32::MAX), // NextCommand
    (36, u32::MAX), // TreeId
    (40, u32::MAX), // SessionId
    (44, u32::MAX),
    (64, 0xFFFF),    // StructureSize
    (68, u32::MAX),  // Length, of data in the message
    (96, u32::MAX),  // Channel
    (104, u32::MAX), // WriteChannelInfoOffset, WriteChannelInfoLength
];
const REMAINING_BYTES: u16 = 100;
const CHANNEL_INFO: u16 = 104;
const DESCRIPTOR: u32 = 16;

/// Of an accepted WRITE with so many descriptors; `None` if it is not alone in its message.
pub(super) fn of_write(request: &[u8], header: &Header) -> Option<Outline> {
    if header.next_command != 0 || header.is_related() {
        return None;
    }
    let info = word_at(request, CHANNEL_INFO)?;
    let words = ALIKE.iter().map(|&(at, mask)| {
        let value = word_at(request, at)? & mask;
        Some(Word { at, mask, value })
    });
    Some(Outline {
        words: words.collect::<Option<_>>()?,
        length_at: REMAINING_BYTES,
        descriptors_at: (info & 0xFFFF) as u16,
        descriptors: u16::try_from((info >> 16) / DESCRIPTOR).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proto::smb2::write::{WriteFlags, WriteRequest};
    use proto::smb2::{
        Addressing, BufferDescriptorV1, Channel, Command, FileId, MessageId, SessionId, TreeId,
    };

    use super::*;

    fn header(message: u64) -> Header {
        Header {
            session_id: SessionId(0x1122_3344_5566_7788),
            addressing: Addressing::Sync(TreeId(5)),
            ..Header::request(Command::Write, MessageId(message))
        }
    }

    fn write(header: &Header, channel: Channel, length: u32, pieces: u32) -> Vec<u8> {
        let mut info = Vec::new();
        for piece in 0..pieces {
            BufferDescriptorV1 {
                offset: u64::from(piece) * 4096,
                token: 9,
                length: 4096,
            }
            .encode(&mut info);
        }
        let mut message = Vec::new();
        header.encode(&mut message);
        WriteRequest {
            offset: 8192,
            file_id: FileId::default(),
            channel: channel.into(),
            remaining_bytes: length,
            flags: WriteFlags::empty(),
            channel_info: &info,
            data: &[],
        }
        .encode(&mut message);
        message
    }

    fn outline() -> Outline {
        let header = header(1);
        let accepted = write(&header, Channel::RdmaV1Invalidate, 4096, 1);
        of_write(&accepted, &header).unwrap()
    }

    #[test]
    fn the_next_write_of_the_same_session_and_tree_is_alike() {
        let other = write(&header(2), Channel::RdmaV1Invalidate, 512, 1);
        let (length, descriptors) = outline().payload_of(&other).unwrap();
        assert_eq!((length, descriptors.len()), (512, 1));
        assert_eq!(descriptors[0].token.get(), 9);
    }

    #[test]
    fn nothing_is_alike_that_might_have_to_be_protected_or_is_another_request() {
        let expected = outline();
        let unlike = |what: &str, message: &[u8]| {
            assert_eq!(expected.payload_of(message), None, "{what}");
        };
        let bare = Channel::RdmaV1Invalidate;
        let of = |change: &dyn Fn(&mut Header)| {
            let mut header = header(2);
            change(&mut header);
            write(&header, bare, 4096, 1)
        };
        unlike("another session", &of(&|header| header.session_id.0 ^= 1));
        unlike(
            "a session alike in half",
            &of(&|header| header.session_id.0 ^= 1 << 40),
        );
        unlike(
            "another tree connect",
            &of(&|header| {
                header.addressing = Addressing::Sync(TreeId(4));
            }),
        );
        unlike("a compound", &of(&|header| header.next_command = 128));
        unlike("another command", &of(&|header| header.command_code = 8));
        unlike(
            "another channel",
            &write(&header(2), Channel::RdmaV1, 4096, 1),
        );
        unlike(
            "a transform",
            &write(&header(2), Channel::RdmaTransform, 4096, 1),
        );
        unlike("more descriptors", &write(&header(2), bare, 4096, 2));
        unlike("more than they hold", &write(&header(2), bare, 4097, 1));
        let mut encrypted = of(&|_| {});
        encrypted[0] = 0xFD;
        unlike("an encrypted message", &encrypted);
    }

    #[test]
    fn of_a_compound_nothing_is_to_be_expected() {
        let mut header = header(1);
        header.next_command = 128;
        let message = write(&header, Channel::RdmaV1, 4096, 1);
        assert_eq!(of_write(&message, &header), None);
    }
}
