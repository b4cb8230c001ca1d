//! What every message body shares: StructureSize, a fixed part, and buffers that are named by
//! offset and length from the start of the SMB2 header. Only the command files call it.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::wire::{Reader, WireError, range};

/// Length of the SMB2 header; every offset in a message counts from its first byte.
pub const HEADER_SIZE: usize = 64;

/// Declares the fixed part of a message as it lies on the wire.
macro_rules! wire_structs {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident { $($fvis:vis $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(
            Debug,
            Clone,
            Copy,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::Immutable,
            zerocopy::KnownLayout,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        $vis struct $name { $($fvis $field: $type,)* }
    )*};
}

/// Declares an enumeration with its wire values; an unknown value is handed back as the error.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $repr:ident {
        $($(#[$vmeta:meta])* $variant:ident = $value:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($repr)]
        $vis enum $name { $($(#[$vmeta])* $variant = $value,)* }

        impl TryFrom<$repr> for $name {
            type Error = $repr;
            fn try_from(value: $repr) -> Result<Self, $repr> {
                match value {
                    $($value => Ok(Self::$variant),)*
                    other => Err(other),
                }
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> $repr {
                value as $repr
            }
        }
    };
}

/// Checks StructureSize and borrows the fixed part. `T` starts with the StructureSize field; what
/// follows it in the element is reached through the returned [`Buffers`].
pub(crate) fn fixed_part<T>(
    element: &[u8],
    structure_size: u16,
) -> Result<(&T, Buffers<'_>), WireError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let mut reader = Reader::starting_at(element, HEADER_SIZE, "Header")?;
    if reader.clone().u16("StructureSize")? != structure_size {
        return Err(reader.error("StructureSize"));
    }
    let fixed = reader.fixed::<T>("FixedPart")?;
    let floor = reader.offset();
    Ok((fixed, Buffers { element, floor }))
}

/// The part of an element behind its fixed part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers<'a> {
    element: &'a [u8],
    floor: usize,
}

impl<'a> Buffers<'a> {
    /// The bytes an offset and length pair names; they may not reach into header or fixed part.
    pub fn slice(
        &self,
        offset: impl Into<u64>,
        length: impl Into<u64>,
        field: &'static str,
    ) -> Result<&'a [u8], WireError> {
        let (offset, length) = (offset.into(), length.into());
        if length != 0 && offset < self.floor as u64 {
            return Err(WireError::new(field, offset as usize));
        }
        range(self.element, offset, length, field)
    }

    /// A cursor behind the fixed part, for arrays that follow it without an offset.
    pub fn reader(&self) -> Reader<'a> {
        // The floor lies inside the element: the fixed part was read up to it.
        Reader::starting_at(self.element, self.floor, "Buffer").unwrap_or(Reader::new(&[]))
    }
}

/// Where a buffer starts that directly follows the fixed part `T`, counted from the header.
pub(crate) const fn after_fixed<T>() -> u16 {
    (HEADER_SIZE + size_of::<T>()) as u16
}

/// Appends a buffer behind a fixed part whose odd StructureSize counts one byte of it: an empty
/// one is sent as one zero byte, which some servers insist on.
pub(crate) fn append_buffer(out: &mut Vec<u8>, buffer: &[u8]) {
    if buffer.is_empty() {
        out.push(0);
    } else {
        out.extend_from_slice(buffer);
    }
}

/// Declares a message whose body is nothing but a StructureSize of 4 and two reserved bytes.
macro_rules! empty_messages {
    ($($(#[$meta:meta])* pub struct $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl $name {
            pub fn decode(element: &[u8]) -> Result<Self, $crate::wire::WireError> {
                $crate::smb2::body::fixed_part::<[u8; 4]>(element, 4)?;
                Ok(Self)
            }

            pub fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&[4, 0, 0, 0]);
            }
        }
    )*};
}
