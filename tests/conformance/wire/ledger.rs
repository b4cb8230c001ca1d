//! What is asked of every message the server sends, whatever a case is about: its fields, the
//! order of fragments, and that each was paid for with a credit.

use std::ops::Range;

use proto::smbdirect::messages::{DataTransferHeader, NegotiateRequest, RESPONSE_REQUESTED};

/// The accounts of one connection, kept from what was seen on it alone.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Credits the server holds: granted by us and not yet spent.
    pub granted: u32,
    /// Credits we hold.
    pub held: u32,
    /// Bytes of the message under way that are still to come.
    pub remaining: u32,
    /// Fixed parts of all messages heard.
    pub heard: Vec<DataTransferHeader>,
    /// The most credits we asked for lately: the server may not have heard of less yet.
    asked: u32,
    largest_receive: u32,
    largest_message: u32,
}

impl Ledger {
    /// For a connection that was negotiated so.
    pub fn new(request: &NegotiateRequest, granted_by_response: u16) -> Ledger {
        Ledger {
            held: granted_by_response.into(),
            asked: request.credits_requested.into(),
            largest_receive: request.max_receive_size,
            largest_message: request.max_fragmented_size,
            ..Ledger::default()
        }
    }

    /// The next message asks for so many credits. Less counts once none of the old is held.
    pub fn ask(&mut self, credits: u16) {
        self.asked = self.held.max(credits.into());
    }

    /// Takes a message of the server's; answers where its payload is.
    ///
    /// # Panics
    /// When the message breaks a rule.
    pub fn hear(&mut self, bytes: &[u8]) -> (DataTransferHeader, Range<usize>) {
        let header = DataTransferHeader::decode(bytes).expect("MS-SMBD 2.2.3: the fixed part");
        assert!(
            self.granted > 0,
            "MS-SMBD 3.1.5.1: sent without a credit: {header:?}"
        );
        self.granted -= 1;
        // The last credit is spent on a message that grants one, or both sides may wait for ever.
        assert!(
            self.granted > 0 || header.credits_granted > 0,
            "MS-SMBD 3.1.5.1: the last credit spent on a message that grants none: {header:?}"
        );
        self.held += u32::from(header.credits_granted);
        // One more is what the server's last credit may have to bring.
        assert!(
            self.held <= self.asked + 1,
            "MS-SMBD 3.1.5.9: {} credits, and {} were asked for",
            self.held,
            self.asked
        );
        assert!(
            header.credits_requested > 0,
            "MS-SMBD 2.2.3: CreditsRequested is zero"
        );
        assert_eq!(
            header.flags & !RESPONSE_REQUESTED,
            0,
            "MS-SMBD 2.2.3: Flags {:#x}",
            header.flags
        );
        assert_eq!(bytes[6..8], [0, 0], "MS-SMBD 2.2.3: Reserved");
        assert!(
            bytes.len() <= self.largest_receive as usize,
            "MS-SMBD 3.1.5.7: {} bytes, more than our MaxReceiveSize",
            bytes.len()
        );
        let data = self.payload(bytes, &header);
        self.heard.push(header);
        (header, data)
    }

    fn payload(&mut self, bytes: &[u8], header: &DataTransferHeader) -> Range<usize> {
        let (length, remaining) = (header.data_length, header.remaining_data_length);
        if length == 0 {
            assert_eq!(
                (header.data_offset, remaining, bytes.len()),
                (0, 0, DataTransferHeader::SIZE),
                "MS-SMBD 2.2.3: an empty message"
            );
            assert_eq!(
                self.remaining, 0,
                "MS-SMBD 3.1.5.1: an empty message between the fragments of another"
            );
            return 0..0;
        }
        assert_eq!(header.data_offset % 8, 0, "MS-SMBD 2.2.3: DataOffset");
        let start = header.data_offset as usize;
        let end = start + length as usize;
        assert!(
            start >= DataTransferHeader::SIZE && end <= bytes.len(),
            "MS-SMBD 2.2.3: payload at {start}..{end} of {} bytes",
            bytes.len()
        );
        let whole = u64::from(length) + u64::from(remaining);
        assert!(
            whole <= self.largest_message.into(),
            "MS-SMBD 3.1.4.2: a message of {whole} bytes, more than our MaxFragmentedSize"
        );
        if self.remaining != 0 {
            assert_eq!(
                whole,
                u64::from(self.remaining),
                "MS-SMBD 3.1.5.1: a fragment that does not continue its message"
            );
        }
        self.remaining = remaining;
        start..end
    }
}
