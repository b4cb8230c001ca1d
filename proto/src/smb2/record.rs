//! Declares a fixed structure once and gets both directions of it: info classes, context data and
//! the small command bodies use this where speed does not count.

use super::access::{AccessMask, FileAttributes};
use super::ids::{FileId, Guid};
use super::status::NtStatus;
use super::time::FileTime;
use crate::wire::{Reader, WireError};

/// A value with one encoding.
pub(crate) trait Field: Sized {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError>;
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! integer_fields {
    ($($integer:ident)*) => {$(
        impl Field for $integer {
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
                reader.array(field).map($integer::from_le_bytes)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
integer_fields!(u8 u16 u32 u64 i64 u128);

macro_rules! wrapped_fields {
    ($($wrapper:ty: $inner:ty = $from:expr, $into:expr;)*) => {$(
        impl Field for $wrapper {
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
                <$inner>::read(reader, field).map($from)
            }

            fn write(&self, out: &mut Vec<u8>) {
                let into: fn(&Self) -> $inner = $into;
                into(self).write(out);
            }
        }
    )*};
}
wrapped_fields! {
    NtStatus: u32 = NtStatus, |status| status.0;
    FileTime: u64 = FileTime, |time| time.0;
    FileAttributes: u32 = FileAttributes::from_bits_retain, FileAttributes::bits;
    AccessMask: u32 = AccessMask::from_bits_retain, AccessMask::bits;
    Guid: [u8; 16] = Guid, |guid| guid.0;
    // MS-FSCC: any value but zero is true.
    bool: u8 = |byte| byte != 0, |value| u8::from(*value);
}

impl<const N: usize> Field for [u8; N] {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        reader.array(field)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Field for FileId {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        Ok(Self {
            persistent: reader.u64(field)?,
            volatile: reader.u64(field)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.persistent.write(out);
        self.volatile.write(out);
    }
}

/// `field: Type` in wire order; `=> N` after a type stands for N reserved bytes behind the field.
macro_rules! records {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$fmeta:meta])* $field:ident: $type:ty $(=> $reserved:literal)?,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }

        impl $name {
            /// Decodes from the start of `bytes`; what follows is left to the caller.
            pub fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::WireError> {
                <Self as $crate::smb2::record::Field>::read(
                    &mut $crate::wire::Reader::new(bytes),
                    stringify!($name),
                )
            }

            pub fn encode(&self, out: &mut Vec<u8>) {
                <Self as $crate::smb2::record::Field>::write(self, out);
            }
        }

        impl $crate::smb2::record::Field for $name {
            fn read(
                reader: &mut $crate::wire::Reader<'_>,
                _field: &'static str,
            ) -> Result<Self, $crate::wire::WireError> {
                $(
                    let $field = <$type as $crate::smb2::record::Field>::read(
                        reader,
                        concat!(stringify!($name), ".", stringify!($field)),
                    )?;
                    $(reader.skip($reserved, concat!(stringify!($name), ".reserved"))?;)?
                )*
                Ok(Self { $($field,)* })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(
                    <$type as $crate::smb2::record::Field>::write(&self.$field, out);
                    $(out.extend_from_slice(&[0; $reserved]);)?
                )*
            }
        }
    )*};
}
