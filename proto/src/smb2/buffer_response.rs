//! The response body that QUERY_INFO (MS-SMB2 2.2.38), QUERY_DIRECTORY (2.2.34) and
//! CHANGE_NOTIFY (2.2.36) share: one output buffer and nothing else.

use zerocopy::little_endian::{U16, U32};

use super::body::{after_fixed, append_buffer, fixed_part};
use crate::wire::{WireError, length_u32};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferResponse<'a> {
    pub output: &'a [u8],
}

wire_structs! {
    struct ResponseWire {
        structure_size: U16,
        output_buffer_offset: U16,
        output_buffer_length: U32,
    }
}

impl<'a> BufferResponse<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 9)?;
        Ok(Self {
            output: buffers.slice(
                wire.output_buffer_offset,
                wire.output_buffer_length,
                "OutputBuffer",
            )?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 9.into(),
            output_buffer_offset: if self.output.is_empty() {
                0.into()
            } else {
                after_fixed::<ResponseWire>().into()
            },
            output_buffer_length: length_u32(self.output.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.output);
    }
}
