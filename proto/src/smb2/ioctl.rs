//! IOCTL (MS-SMB2 2.2.31, 2.2.32). What the buffers hold is in `fsctl`.

use zerocopy::little_endian::{U16, U32};

use super::body::{after_fixed, append_buffer, fixed_part};
use super::fsctl::CtlCode;
use super::ids::{FileId, FileIdWire};
use crate::wire::{WireError, length_u32};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoctlRequest<'a> {
    pub ctl_code: CtlCode,
    pub file_id: FileId,
    pub input: &'a [u8],
    pub max_input_response: u32,
    pub output: &'a [u8],
    pub max_output_response: u32,
    /// [`IoctlRequest::IS_FSCTL`], or 0 for a device control no server here knows.
    pub flags: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoctlResponse<'a> {
    pub ctl_code: CtlCode,
    pub file_id: FileId,
    pub input: &'a [u8],
    pub output: &'a [u8],
    pub flags: u32,
}

wire_structs! {
    struct RequestWire {
        structure_size: U16,
        reserved: U16,
        ctl_code: U32,
        file_id: FileIdWire,
        input_offset: U32,
        input_count: U32,
        max_input_response: U32,
        output_offset: U32,
        output_count: U32,
        max_output_response: U32,
        flags: U32,
        reserved2: U32,
    }

    struct ResponseWire {
        structure_size: U16,
        reserved: U16,
        ctl_code: U32,
        file_id: FileIdWire,
        input_offset: U32,
        input_count: U32,
        output_offset: U32,
        output_count: U32,
        flags: U32,
        reserved2: U32,
    }
}

impl<'a> IoctlRequest<'a> {
    pub const IS_FSCTL: u32 = 1;

    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<RequestWire>(element, 57)?;
        Ok(Self {
            ctl_code: CtlCode(wire.ctl_code.get()),
            file_id: wire.file_id.into(),
            input: buffers.slice(wire.input_offset, wire.input_count, "Input")?,
            max_input_response: wire.max_input_response.get(),
            output: buffers.slice(wire.output_offset, wire.output_count, "Output")?,
            max_output_response: wire.max_output_response.get(),
            flags: wire.flags.get(),
        })
    }

    /// `output` is never sent: no request of the specification has any.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RequestWire {
            structure_size: 57.into(),
            reserved: 0.into(),
            ctl_code: self.ctl_code.0.into(),
            file_id: self.file_id.into(),
            input_offset: u32::from(after_fixed::<RequestWire>()).into(),
            input_count: length_u32(self.input.len()).into(),
            max_input_response: self.max_input_response.into(),
            output_offset: 0.into(),
            output_count: 0.into(),
            max_output_response: self.max_output_response.into(),
            flags: self.flags.into(),
            reserved2: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        append_buffer(out, self.input);
    }
}

impl<'a> IoctlResponse<'a> {
    pub fn decode(element: &'a [u8]) -> Result<Self, WireError> {
        let (wire, buffers) = fixed_part::<ResponseWire>(element, 49)?;
        Ok(Self {
            ctl_code: CtlCode(wire.ctl_code.get()),
            file_id: wire.file_id.into(),
            input: buffers.slice(wire.input_offset, wire.input_count, "Input")?,
            output: buffers.slice(wire.output_offset, wire.output_count, "Output")?,
            flags: wire.flags.get(),
        })
    }

    /// The output starts 8-aligned behind the input (MS-SMB2 2.2.32); without any input both
    /// offsets name the place behind the fixed part (3.3.5.15).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let input_offset = usize::from(after_fixed::<ResponseWire>());
        let output_offset = (input_offset + self.input.len()).next_multiple_of(8);
        let wire = ResponseWire {
            structure_size: 49.into(),
            reserved: 0.into(),
            ctl_code: self.ctl_code.0.into(),
            file_id: self.file_id.into(),
            input_offset: length_u32(input_offset).into(),
            input_count: length_u32(self.input.len()).into(),
            output_offset: length_u32(output_offset).into(),
            output_count: length_u32(self.output.len()).into(),
            flags: self.flags.into(),
            reserved2: 0.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend_from_slice(self.input);
        if !self.output.is_empty() {
            out.resize(start + output_offset - super::HEADER_SIZE, 0);
            out.extend_from_slice(self.output);
        }
    }
}
