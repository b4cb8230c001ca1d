//! Compression of messages (MS-SMB2 3.1.4.4, 3.1.5.3, 3.3.5.2.1.2): LZ4 and Pattern_V1, unchained and
//! chained.
//!
//! Pure. Dispatch undoes it before anything else looks at a message, and behind decryption; it does
//! it to a reply behind signing and before encryption. Sizes come from a client, so every one is
//! bounded before memory is taken for it. LZNT1, LZ77 and LZ77+Huffman are not spoken: no library
//! for them is kept well enough to be given a client's bytes.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use proto::smb2::compression::{ChainedPayload, CompressedMessage, Unchained, encode_chain};
use proto::smb2::negotiate_context::compression::{LZ4, PATTERN_V1};
use proto::wire::WireError;

/// Data shorter than this is not worth the work; it is Windows' bound too.
const SHORTEST: usize = 4096;
/// A run of one byte at an end of the data that is worth a payload of its own.
const SHORTEST_RUN: usize = 64;
/// Payloads in a chain: a sender has use for a handful.
const MAX_PAYLOADS: usize = 256;
/// What a message may have beside its largest payload (MS-SMB2 3.3.5.2.1.2): 256 and the header.
const OVERHEAD: usize = 256 + CompressedMessage::HEADER_SIZE;

/// Connection.CompressionIds and Connection.SupportsChainedCompression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// In the client's order; never empty.
    ids: Vec<u16>,
    chained: bool,
}

/// Why a compressed message ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressionError {
    #[error("{0} (MS-SMB2 2.2.42)")]
    Malformed(#[from] WireError),
    #[error("compressed by algorithm {0:#x}, which was not negotiated (MS-SMB2 3.3.5.2.1.2)")]
    NotNegotiated(u16),
    #[error("a chain, which was not negotiated (MS-SMB2 3.3.5.2.1.2)")]
    ChainNotNegotiated,
    #[error("{size} bytes when decompressed, allowed are {limit} (MS-SMB2 3.3.5.2.1.2)")]
    TooLong { size: u64, limit: usize },
    #[error("a chain of more than {MAX_PAYLOADS} payloads")]
    TooManyPayloads,
    #[error("compressed data that is damaged or of another size than it says (MS-SMB2 3.1.5.3)")]
    Damaged,
}

impl Compression {
    /// What a client's list leads to; `None` without an algorithm in common (MS-SMB2 3.3.5.4).
    /// Pattern_V1 only exists in chains.
    pub fn choose(offered: impl Iterator<Item = u16>, chained: bool) -> Option<Compression> {
        let mut ids: Vec<u16> = Vec::new();
        for id in offered {
            let known = id == LZ4 || (chained && id == PATTERN_V1);
            if known && !ids.contains(&id) {
                ids.push(id);
            }
        }
        (!ids.is_empty()).then_some(Compression { ids, chained })
    }

    pub fn ids(&self) -> &[u16] {
        &self.ids
    }

    pub fn is_chained(&self) -> bool {
        self.chained
    }

    /// Undoes it, into `out`. `largest` is the largest payload a message of the client may have.
    pub fn decompress(
        &self,
        message: &[u8],
        largest: usize,
        mut out: Vec<u8>,
    ) -> Result<Vec<u8>, DecompressionError> {
        let limit = largest.saturating_add(OVERHEAD);
        out.clear();
        match CompressedMessage::decode(message)? {
            CompressedMessage::Unchained(unchained) => {
                self.allow(unchained.algorithm)?;
                check_size(unchained.original_size.into(), limit)?;
                // What stands before the compressed part is a message's beginning.
                let whole = unchained.leading.len() as u64 + u64::from(unchained.original_size);
                check_size(whole, limit)?;
                out.extend_from_slice(unchained.leading);
                decompress_lz4(unchained.compressed, unchained.original_size, &mut out)?;
            }
            CompressedMessage::Chained { .. } if !self.chained => {
                return Err(DecompressionError::ChainNotNegotiated);
            }
            CompressedMessage::Chained {
                original_size,
                payloads,
            } => {
                check_size(original_size.into(), limit)?;
                let original_size = original_size as usize;
                for (index, payload) in payloads.enumerate() {
                    if index == MAX_PAYLOADS {
                        return Err(DecompressionError::TooManyPayloads);
                    }
                    let left = original_size - out.len();
                    self.append(payload?, left, &mut out)?;
                }
                if out.len() != original_size {
                    return Err(DecompressionError::Damaged);
                }
            }
        }
        Ok(out)
    }

    /// Appends one payload of a chain, at most `left` bytes.
    fn append(
        &self,
        payload: ChainedPayload<'_>,
        left: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecompressionError> {
        match payload {
            ChainedPayload::Plain(bytes) => {
                check_size(bytes.len() as u64, left)?;
                out.extend_from_slice(bytes);
            }
            ChainedPayload::Pattern { byte, repetitions } => {
                self.allow(PATTERN_V1)?;
                check_size(repetitions.into(), left)?;
                out.resize(out.len() + repetitions as usize, byte);
            }
            ChainedPayload::Compressed {
                algorithm,
                original_size,
                data,
            } => {
                self.allow(algorithm)?;
                check_size(original_size.into(), left)?;
                decompress_lz4(data, original_size, out)?;
            }
        }
        Ok(())
    }

    fn allow(&self, algorithm: u16) -> Result<(), DecompressionError> {
        match self.ids.contains(&algorithm) {
            true => Ok(()),
            false => Err(DecompressionError::NotNegotiated(algorithm)),
        }
    }

    /// Compresses `data`, the end of a message that begins with `leading`, into a whole message
    /// behind what `out` has. `None` if that is not shorter: the message is sent as it is.
    pub fn compress(&self, leading: &[u8], data: &[u8], mut out: Vec<u8>) -> Option<Vec<u8>> {
        if data.len() < SHORTEST {
            return None;
        }
        let start = out.len();
        let whole = leading.len() + data.len();
        if self.chained {
            let (front, middle, back) = match self.ids.contains(&PATTERN_V1) {
                true => split_runs(data),
                false => (0, data, 0),
            };
            let mut payloads = vec![ChainedPayload::Plain(leading)];
            payloads.extend(run(data.first(), front));
            let packed = self.pack(middle);
            if !middle.is_empty() {
                payloads.push(match &packed {
                    Some(packed) => ChainedPayload::Compressed {
                        algorithm: LZ4,
                        original_size: u32::try_from(middle.len()).ok()?,
                        data: packed,
                    },
                    None => ChainedPayload::Plain(middle),
                });
            }
            payloads.extend(run(data.last(), back));
            encode_chain(u32::try_from(whole).ok()?, &payloads, &mut out);
        } else {
            let packed = self.pack(data)?;
            Unchained {
                original_size: u32::try_from(data.len()).ok()?,
                algorithm: LZ4,
                leading,
                compressed: &packed,
            }
            .encode(&mut out);
        }
        (out.len() - start < whole).then_some(out)
    }

    /// LZ4 of `data`, if negotiated and shorter.
    fn pack(&self, data: &[u8]) -> Option<Vec<u8>> {
        if !self.ids.contains(&LZ4) || data.is_empty() {
            return None;
        }
        let mut packed = vec![0; get_maximum_output_size(data.len())];
        let length = compress_into(data, &mut packed).ok()?;
        packed.truncate(length);
        (length < data.len()).then_some(packed)
    }
}

fn check_size(size: u64, limit: usize) -> Result<(), DecompressionError> {
    match size > limit as u64 {
        true => Err(DecompressionError::TooLong { size, limit }),
        false => Ok(()),
    }
}

/// Appends exactly `original_size` bytes; the caller has bounded it.
fn decompress_lz4(
    data: &[u8],
    original_size: u32,
    out: &mut Vec<u8>,
) -> Result<(), DecompressionError> {
    let start = out.len();
    out.resize(start + original_size as usize, 0);
    let space = out.get_mut(start..).unwrap_or_default();
    match decompress_into(data, space) {
        Ok(length) if length == original_size as usize => Ok(()),
        _ => Err(DecompressionError::Damaged),
    }
}

/// The lengths of runs of one byte at both ends that are worth it, and what is between them.
fn split_runs(data: &[u8]) -> (usize, &[u8], usize) {
    let worth = |length: usize| if length < SHORTEST_RUN { 0 } else { length };
    let first = data.first();
    let front = worth(data.iter().take_while(|byte| Some(*byte) == first).count());
    let rest = data.get(front..).unwrap_or_default();
    let last = rest.last();
    let same = rest.iter().rev().take_while(|byte| Some(*byte) == last);
    let back = worth(same.count());
    let middle = rest.get(..rest.len() - back).unwrap_or_default();
    (front, middle, back)
}

fn run<'a>(byte: Option<&u8>, length: usize) -> Option<ChainedPayload<'a>> {
    let repetitions = u32::try_from(length).ok().filter(|length| *length > 0)?;
    Some(ChainedPayload::Pattern {
        byte: *byte?,
        repetitions,
    })
}

#[cfg(test)]
mod tests;
