//! The bounds-checked cursor every decoder reads through, and the error it gives.
//! Little-endian throughout: SMB2, SMB Direct and the project's own records all are.
//! A `Reader` never indexes and never allocates; a `Writer` appends to a caller's buffer.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Malformed input: which field of the message, and where in the decoded bytes it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed {field} at byte {offset}")]
pub struct WireError {
    pub field: &'static str,
    pub offset: usize,
}

impl WireError {
    pub const fn new(field: &'static str, offset: usize) -> Self {
        Self { field, offset }
    }
}

/// A forward cursor over borrowed bytes. Each read names the field for the error it may give.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Starts in the middle of `bytes`; offsets in errors still count from its beginning.
    pub fn starting_at(
        bytes: &'a [u8],
        offset: usize,
        field: &'static str,
    ) -> Result<Self, WireError> {
        if offset > bytes.len() {
            return Err(WireError::new(field, offset));
        }
        Ok(Self { bytes, offset })
    }

    /// Bytes consumed so far.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What has not been read yet.
    pub fn remaining(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.remaining().is_empty()
    }

    pub fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let Some((taken, _)) = self.remaining().split_at_checked(length) else {
            return Err(self.error(field));
        };
        self.offset += length;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let Some((taken, _)) = self.remaining().split_first_chunk::<N>() else {
            return Err(self.error(field));
        };
        self.offset += N;
        Ok(*taken)
    }

    pub fn skip(&mut self, length: usize, field: &'static str) -> Result<(), WireError> {
        self.bytes(length, field).map(|_| ())
    }

    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(u8::from_le_bytes)
    }

    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Borrows a fixed structure in place: no copy, no alignment needed.
    pub fn fixed<T>(&mut self, field: &'static str) -> Result<&'a T, WireError>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        let Ok((value, _)) = T::ref_from_prefix(self.remaining()) else {
            return Err(self.error(field));
        };
        self.offset += size_of::<T>();
        Ok(value)
    }

    /// Fails unless everything was read.
    pub fn finish(self, field: &'static str) -> Result<(), WireError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.error(field))
        }
    }

    /// The error for a field that starts at the cursor.
    pub const fn error(&self, field: &'static str) -> WireError {
        WireError::new(field, self.offset)
    }
}

/// The bytes an offset and length pair names. An empty range is valid wherever it points, since
/// senders leave the offset of an absent buffer undefined.
pub fn range<'a>(
    bytes: &'a [u8],
    offset: u64,
    length: u64,
    field: &'static str,
) -> Result<&'a [u8], WireError> {
    if length == 0 {
        return Ok(&[]);
    }
    let start = usize::try_from(offset).map_err(|_| WireError::new(field, bytes.len()))?;
    let end = offset
        .checked_add(length)
        .and_then(|end| usize::try_from(end).ok())
        .ok_or(WireError::new(field, start))?;
    bytes.get(start..end).ok_or(WireError::new(field, start))
}

/// Appends little-endian fields to a buffer. Offsets count from where the writer was created, so
/// the buffer may already hold something else.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    /// Bytes written through this writer.
    pub fn offset(&self) -> usize {
        self.out.len() - self.start
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn fixed<T: IntoBytes + Immutable>(&mut self, value: &T) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.out.resize(self.out.len() + count, 0);
        self
    }

    /// Pads with zeros to a multiple of `alignment`, counted from the writer's start.
    pub fn align(&mut self, alignment: usize) -> &mut Self {
        let padded = self.offset().next_multiple_of(alignment);
        self.zeros(padded - self.offset())
    }

    /// Overwrites two bytes written earlier through this writer.
    pub fn patch_u16(&mut self, offset: usize, value: u16) {
        self.patch(offset, &value.to_le_bytes());
    }

    /// Overwrites four bytes written earlier through this writer.
    pub fn patch_u32(&mut self, offset: usize, value: u32) {
        self.patch(offset, &value.to_le_bytes());
    }

    fn patch(&mut self, offset: usize, bytes: &[u8]) {
        let start = self.start + offset;
        self.out[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// A length of bytes this side composed, for a 16-bit length field.
///
/// # Panics
/// When it does not fit: callers bound what they send far below, so this is a bug here, not input.
pub fn length_u16(length: usize) -> u16 {
    u16::try_from(length).expect("a composed field outgrew its 16-bit length")
}

/// A length of bytes this side composed, for a 32-bit length field.
///
/// # Panics
/// When it does not fit, as [`length_u16`].
pub fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a composed field outgrew its 32-bit length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_little_endian_fields_in_order() {
        let bytes = [
            0x01, 0x03, 0x02, 7, 6, 5, 4, 0xF, 0xE, 0xD, 0xC, 0xB, 0xA, 9, 8, 0xAA,
        ];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(0x0203));
        assert_eq!(reader.u32("c"), Ok(0x0405_0607));
        assert_eq!(reader.u64("d"), Ok(0x0809_0A0B_0C0D_0E0F));
        assert_eq!(reader.remaining(), [0xAA]);
        assert_eq!(reader.clone().finish("e"), Err(WireError::new("e", 15)));
        assert_eq!(reader.bytes(1, "e"), Ok(&[0xAA][..]));
        assert_eq!(reader.finish("end"), Ok(()));
    }

    #[test]
    fn a_short_read_names_the_field_and_consumes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u8("first"), Ok(1));
        assert_eq!(reader.u32("second"), Err(WireError::new("second", 1)));
        assert_eq!(reader.u16("third"), Ok(0x0302));
        assert_eq!(reader.bytes(usize::MAX, "x"), Err(WireError::new("x", 3)));
    }

    #[test]
    fn a_range_must_lie_inside_and_never_overflows() {
        let bytes = [0, 1, 2, 3];
        assert_eq!(range(&bytes, 1, 3, "f"), Ok(&[1, 2, 3][..]));
        assert_eq!(range(&bytes, 2, 3, "f"), Err(WireError::new("f", 2)));
        assert_eq!(range(&bytes, 99, 0, "f"), Ok(&[][..]));
        assert!(range(&bytes, u64::MAX, 2, "f").is_err());
        assert!(range(&bytes, 1, u64::MAX, "f").is_err());
    }

    #[test]
    fn alignment_and_patches_count_from_the_writers_start() {
        let mut out = vec![0xEE; 3];
        let mut writer = Writer::new(&mut out);
        writer.u8(1).align(4).u16(0).align(8);
        writer.patch_u16(4, 0x1234);
        assert_eq!(writer.offset(), 8);
        assert_eq!(out, [0xEE, 0xEE, 0xEE, 1, 0, 0, 0, 0x34, 0x12, 0, 0]);
    }
}
