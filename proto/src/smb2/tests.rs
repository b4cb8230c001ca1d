//! Every message against bytes laid out by hand, and every decoder against arbitrary bytes.

mod arbitrary;
mod golden;

/// Puts a header's worth of bytes before a body: bodies do not look at it.
fn element(body: &[u8]) -> Vec<u8> {
    let mut element = vec![0xAA; super::HEADER_SIZE];
    element.extend_from_slice(body);
    element
}
