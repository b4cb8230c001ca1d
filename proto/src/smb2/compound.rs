//! Chains of SMB2 messages (MS-SMB2 3.2.4.1.4, 3.3.4.1.3, 3.3.5.2.7): walking one that arrived and
//! building one to send. Each element's bytes start at its own header, padding included, which
//! is also what is signed. What "related" means for ids is dispatch's.

use super::body::HEADER_SIZE;
use super::header::Header;
use crate::wire::{WireError, length_u32};

/// Every element but the last is padded to this (MS-SMB2 3.2.4.1.4).
const ALIGNMENT: usize = 8;
const NEXT_COMMAND_OFFSET: usize = 20;

/// One message of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    pub header: Header,
    /// From the first byte of the header to the next element, or to the end of the chain.
    pub bytes: &'a [u8],
    /// Where the element starts in the chain.
    pub offset: usize,
    pub is_last: bool,
}

/// Iterates over the elements of a chain; ends behind the last one or the first malformed one.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    offset: usize,
    done: bool,
}

impl<'a> Elements<'a> {
    pub const fn new(chain: &'a [u8]) -> Self {
        Self {
            rest: chain,
            offset: 0,
            done: false,
        }
    }

    fn read(&mut self) -> Result<Element<'a>, WireError> {
        let header = Header::decode(self.rest)
            .map_err(|error| WireError::new(error.field, self.offset + error.offset))?;
        let next = header.next_command as usize;
        let offset = self.offset;
        let (bytes, rest) = match next {
            0 => (self.rest, &[][..]),
            _ if next < HEADER_SIZE || !next.is_multiple_of(ALIGNMENT) => {
                return Err(self.next_command_error());
            }
            _ => self
                .rest
                .split_at_checked(next)
                .filter(|(_, rest)| rest.len() >= HEADER_SIZE)
                .ok_or(self.next_command_error())?,
        };
        self.rest = rest;
        self.offset += bytes.len();
        self.done = next == 0;
        Ok(Element {
            header,
            bytes,
            offset,
            is_last: self.done,
        })
    }

    const fn next_command_error(&self) -> WireError {
        WireError::new("NextCommand", self.offset + NEXT_COMMAND_OFFSET)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let element = self.read();
        self.done |= element.is_err();
        Some(element)
    }
}

/// Builds a chain in a caller's buffer: padding and NextCommand are filled when the next element
/// begins, so the last one stays unpadded with NextCommand 0.
#[derive(Debug)]
pub struct ChainWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    previous: Option<usize>,
}

impl<'a> ChainWriter<'a> {
    /// Continues behind what `out` already holds, such as a transport header.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            previous: None,
        }
    }

    /// Appends one element; `body` appends what follows the header. `header.next_command` is
    /// ignored.
    pub fn element(&mut self, header: &Header, body: impl FnOnce(&mut Vec<u8>)) {
        if let Some(previous) = self.previous {
            let padded = (self.out.len() - self.start).next_multiple_of(ALIGNMENT);
            self.out.resize(self.start + padded, 0);
            let next_command = length_u32(self.out.len() - previous);
            let field = previous + NEXT_COMMAND_OFFSET;
            self.out[field..field + 4].copy_from_slice(&next_command.to_le_bytes());
        }
        self.previous = Some(self.out.len());
        Header {
            next_command: 0,
            ..*header
        }
        .encode(self.out);
        body(self.out);
    }

    /// Bytes the chain has so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.previous.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smb2::header::Command;
    use crate::smb2::ids::MessageId;

    fn header(id: u64) -> Header {
        Header::request(Command::Echo, MessageId(id))
    }

    fn chain_of_three() -> Vec<u8> {
        let mut out = vec![0xEE];
        let mut writer = ChainWriter::new(&mut out);
        for id in 0..3 {
            writer.element(&header(id), |body| body.extend([4, 0, 0, 0]));
        }
        assert_eq!(writer.len(), 72 + 72 + 68);
        out.remove(0);
        out
    }

    #[test]
    fn a_written_chain_is_padded_linked_and_walked_back() {
        let chain = chain_of_three();
        assert_eq!(chain[20..24], [72, 0, 0, 0]);
        assert_eq!(chain[72 + 72 + 20..72 + 72 + 24], [0; 4]);
        let elements: Vec<_> = Elements::new(&chain).map(Result::unwrap).collect();
        let shape: Vec<_> = elements
            .iter()
            .map(|one| {
                (
                    one.header.message_id.0,
                    one.offset,
                    one.bytes.len(),
                    one.is_last,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [(0, 0, 72, false), (1, 72, 72, false), (2, 144, 68, true)]
        );
    }

    #[test]
    fn a_bad_next_command_ends_the_chain_with_its_offset() {
        for next in [1_u32, 8, 63, 68, 73, 208, 0x7FFF_FFF8, u32::MAX] {
            let mut chain = chain_of_three();
            chain[92..96].copy_from_slice(&next.to_le_bytes());
            let results: Vec<_> = Elements::new(&chain).collect();
            assert_eq!(results.len(), 2, "next {next}");
            assert!(results[0].is_ok());
            assert_eq!(
                results[1].as_ref().unwrap_err(),
                &WireError::new("NextCommand", 92)
            );
        }
    }

    #[test]
    fn a_chain_cut_anywhere_is_an_error_or_an_element_less() {
        let chain = chain_of_three();
        for length in 0..chain.len() {
            let results: Vec<_> = Elements::new(&chain[..length]).collect();
            let whole = results.iter().flatten().map(|one| one.bytes.len()).sum();
            // Cutting the last element's body leaves a header with less body; all else is named.
            assert_eq!(
                results.iter().all(Result::is_ok),
                length >= 144 + HEADER_SIZE,
                "length {length}"
            );
            assert!(length >= whole);
        }
    }
}
