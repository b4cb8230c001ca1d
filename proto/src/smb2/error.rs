//! ERROR response (MS-SMB2 2.2.2): the body of a response whose status is an error. 3.1.1 wraps
//! error data into contexts; before it, the data lies bare.

use zerocopy::little_endian::{U16, U32};

use super::body::{append_buffer, fixed_part};
use crate::wire::{Reader, WireError, length_u32};

/// One SMB2 ERROR Context (MS-SMB2 2.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorContext<'a> {
    pub error_id: u32,
    pub data: &'a [u8],
}

impl ErrorContext<'_> {
    pub const ID_DEFAULT: u32 = 0;
    pub const ID_SHARE_REDIRECT: u32 = 0x7264_5253;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorResponse<'a> {
    /// Zero before 3.1.1 and where `data` is empty.
    pub context_count: u8,
    /// Bare error data, or contexts.
    pub data: &'a [u8],
}

wire_structs! {
    struct ResponseWire {
        structure_size: U16,
        error_context_count: u8,
        reserved: u8,
        byte_count: U32,
    }
}

impl<'a> ErrorResponse<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 9)?;
        let data = buffers
            .reader()
            .bytes(wire.byte_count.get() as usize, "ErrorData")?;
        Ok(Self {
            context_count: wire.error_context_count,
            data,
        })
    }

    /// Without error data one zero byte follows (MS-SMB2 2.2.2).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ResponseWire {
            structure_size: 9.into(),
            error_context_count: self.context_count,
            reserved: 0,
            byte_count: length_u32(self.data.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.data);
    }

    /// The contexts of a 3.1.1 response; ends behind the first malformed one.
    pub fn contexts(&self) -> impl Iterator<Item = Result<ErrorContext<'a>, WireError>> {
        let mut reader = Reader::new(self.data);
        let mut left = self.context_count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let context = read_context(&mut reader, left == 0);
            if context.is_err() {
                left = 0;
            }
            Some(context)
        })
    }

    /// Builds the data of a 3.1.1 response: contexts padded to 8.
    pub fn contexts_data(contexts: &[ErrorContext<'_>]) -> Vec<u8> {
        let mut data = Vec::new();
        for context in contexts {
            data.resize(data.len().next_multiple_of(8), 0);
            data.extend(length_u32(context.data.len()).to_le_bytes());
            data.extend(context.error_id.to_le_bytes());
            data.extend_from_slice(context.data);
        }
        data
    }
}

fn read_context<'a>(reader: &mut Reader<'a>, is_last: bool) -> Result<ErrorContext<'a>, WireError> {
    let length = reader.u32("ErrorDataLength")?;
    let error_id = reader.u32("ErrorId")?;
    let data = reader.bytes(length as usize, "ErrorContextData")?;
    if !is_last {
        let padding = reader.offset().next_multiple_of(8) - reader.offset();
        reader.skip(padding, "Padding")?;
    }
    Ok(ErrorContext { error_id, data })
}
