//! Every message against bytes laid out by hand from MS-SMB2, in both directions and cut off at
//! each length, and every decoder against arbitrary bytes.

use super::{FileId, HEADER_SIZE};

/// Both directions of one message against its golden body. `optional` bytes at the end may be
/// missing (the padding byte of an odd StructureSize); every shorter prefix must be an error.
macro_rules! golden {
    ($type:ident, $value:expr, $body:expr, optional: $optional:literal) => {{
        let (value, body): ($type, Vec<u8>) = ($value, $body);
        let mut encoded = vec![0x5A; 3];
        value.encode(&mut encoded);
        assert_eq!(&encoded[3..], &body[..]);
        let element = $crate::smb2::tests::element(&body);
        assert_eq!($type::decode(&element), Ok(value));
        for length in 0..element.len() - $optional {
            let cut = $type::decode(&element[..length]);
            assert!(cut.is_err(), "length {length} gave {cut:?}");
        }
        let mut wrong_size = element.clone();
        wrong_size[$crate::smb2::HEADER_SIZE] ^= 1;
        assert_eq!(
            $type::decode(&wrong_size),
            Err($crate::wire::WireError::new("StructureSize", $crate::smb2::HEADER_SIZE))
        );
    }};
    ($type:ident, $value:expr, $body:expr) => {
        golden!($type, $value, $body, optional: 0)
    };
}

mod arbitrary;
mod connection;
mod data;
mod open;

const FILE_ID: FileId = FileId {
    persistent: 0x1111_1111_1111_1111,
    volatile: 0x2222_2222_2222_2222,
};

/// Puts a header's worth of bytes before a body: bodies do not look at it.
fn element(body: &[u8]) -> Vec<u8> {
    let mut element = vec![0xAA; HEADER_SIZE];
    element.extend_from_slice(body);
    element
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
