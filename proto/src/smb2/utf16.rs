//! UTF-16LE, the only text encoding of SMB2: names, paths and patterns are all made of it.
//! Decoders hand out the raw bytes; a handler turns them into text here, once it wants to.

use crate::wire::WireError;

/// Decodes UTF-16LE. Odd length, an unpaired surrogate or a NUL is an error: no file name,
/// share name or user name may contain them.
pub fn decode(bytes: &[u8], field: &'static str) -> Result<String, WireError> {
    let (units, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(WireError::new(field, bytes.len()));
    }
    let mut text = String::with_capacity(units.len());
    let mut offset = 0;
    for unit in char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))) {
        match unit {
            Ok(character) if character != '\0' => {
                text.push(character);
                offset += 2 * character.len_utf16();
            }
            _ => return Err(WireError::new(field, offset)),
        }
    }
    Ok(text)
}

/// Encodes as UTF-16LE without a terminator.
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * text.len());
    append(text, &mut bytes);
    bytes
}

/// Appends `text` as UTF-16LE without a terminator.
pub fn append(text: &str, out: &mut Vec<u8>) {
    out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
}

/// The length `text` has as UTF-16LE, in bytes.
pub fn encoded_len(text: &str) -> usize {
    text.chars()
        .map(|character| 2 * character.len_utf16())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_both_ways_beyond_the_basic_plane() {
        let text = "dir\\näme 🦀";
        let bytes = encode(text);
        assert_eq!(bytes.len(), encoded_len(text));
        assert_eq!(&bytes[..4], b"d\0i\0");
        assert_eq!(decode(&bytes, "Name").as_deref(), Ok(text));
    }

    #[test]
    fn odd_lengths_lone_surrogates_and_nul_are_refused() {
        assert_eq!(decode(b"a\0b", "N"), Err(WireError::new("N", 3)));
        assert_eq!(decode(b"a\0\0\xD8", "N"), Err(WireError::new("N", 2)));
        assert_eq!(decode(b"a\0\0\0", "N"), Err(WireError::new("N", 2)));
    }
}
