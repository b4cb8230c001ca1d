//! Directory entries (MS-FSCC 2.4): one description of a file, written in whichever class
//! QUERY_DIRECTORY asked for, and read back by a client.

use super::FileInfoClass;
use super::list::{Entry, EntryList, ListWriter};
use crate::smb2::access::FileAttributes;
use crate::smb2::record::Field;
use crate::smb2::time::FileTime;
use crate::wire::{Reader, WireError, length_u32};

/// The classes QUERY_DIRECTORY can answer in (MS-SMB2 2.2.33).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectoryClass {
    /// FileDirectoryInformation (2.4.10).
    Directory,
    /// FileFullDirectoryInformation (2.4.17).
    FullDirectory,
    /// FileIdFullDirectoryInformation (2.4.22).
    IdFullDirectory,
    /// FileBothDirectoryInformation (2.4.8).
    BothDirectory,
    /// FileIdBothDirectoryInformation (2.4.21).
    IdBothDirectory,
    /// FileNamesInformation (2.4.33).
    Names,
    /// FileIdExtdDirectoryInformation (2.4.23).
    IdExtdDirectory,
}

impl TryFrom<u8> for DirectoryClass {
    type Error = u8;

    fn try_from(class: u8) -> Result<Self, u8> {
        match FileInfoClass::try_from(class)? {
            FileInfoClass::Directory => Ok(Self::Directory),
            FileInfoClass::FullDirectory => Ok(Self::FullDirectory),
            FileInfoClass::IdFullDirectory => Ok(Self::IdFullDirectory),
            FileInfoClass::BothDirectory => Ok(Self::BothDirectory),
            FileInfoClass::IdBothDirectory => Ok(Self::IdBothDirectory),
            FileInfoClass::Names => Ok(Self::Names),
            FileInfoClass::IdExtdDirectory => Ok(Self::IdExtdDirectory),
            _ => Err(class),
        }
    }
}

impl From<DirectoryClass> for FileInfoClass {
    fn from(class: DirectoryClass) -> Self {
        match class {
            DirectoryClass::Directory => Self::Directory,
            DirectoryClass::FullDirectory => Self::FullDirectory,
            DirectoryClass::IdFullDirectory => Self::IdFullDirectory,
            DirectoryClass::BothDirectory => Self::BothDirectory,
            DirectoryClass::IdBothDirectory => Self::IdBothDirectory,
            DirectoryClass::Names => Self::Names,
            DirectoryClass::IdExtdDirectory => Self::IdExtdDirectory,
        }
    }
}

impl DirectoryClass {
    /// Bytes of an entry before its name.
    pub const fn fixed_size(self) -> usize {
        match self {
            Self::Names => 12,
            Self::Directory => 64,
            Self::FullDirectory => 68,
            Self::IdFullDirectory => 80,
            Self::IdExtdDirectory => 88,
            Self::BothDirectory => 94,
            Self::IdBothDirectory => 104,
        }
    }
}

records! {
    /// What every class but Names holds about a file.
    pub struct DirectoryAttributes {
        creation_time: FileTime,
        last_access_time: FileTime,
        last_write_time: FileTime,
        change_time: FileTime,
        end_of_file: u64,
        allocation_size: u64,
        file_attributes: FileAttributes,
    }
}

/// One directory entry; a class leaves out what it has no field for. 8.3 names are never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectoryEntry<'a> {
    pub file_index: u32,
    pub attributes: DirectoryAttributes,
    /// Size of the extended attributes; the reparse tag instead where the file is a reparse point.
    pub ea_size: u32,
    pub reparse_tag: u32,
    /// Unique on its volume; the classes with 64 bits take the low half.
    pub file_id: u128,
    /// UTF-16LE.
    pub name: &'a [u8],
}

impl<'a> DirectoryEntry<'a> {
    fn write(&self, class: DirectoryClass, out: &mut Vec<u8>) {
        let name_length = length_u32(self.name.len());
        self.file_index.write(out);
        if class != DirectoryClass::Names {
            self.attributes.write(out);
        }
        name_length.write(out);
        match class {
            DirectoryClass::Names | DirectoryClass::Directory => {}
            DirectoryClass::FullDirectory => self.ea_size.write(out),
            DirectoryClass::IdFullDirectory => {
                self.ea_size.write(out);
                0_u32.write(out);
                (self.file_id as u64).write(out);
            }
            DirectoryClass::IdExtdDirectory => {
                self.ea_size.write(out);
                self.reparse_tag.write(out);
                self.file_id.write(out);
            }
            DirectoryClass::BothDirectory => {
                self.ea_size.write(out);
                [0; SHORT_NAME_SIZE].write(out);
            }
            DirectoryClass::IdBothDirectory => {
                self.ea_size.write(out);
                [0; SHORT_NAME_SIZE].write(out);
                0_u16.write(out);
                (self.file_id as u64).write(out);
            }
        }
        out.extend_from_slice(self.name);
    }

    fn read(class: DirectoryClass, entry: Entry<'a>) -> Result<Self, WireError> {
        let mut reader = Reader::new(entry.bytes);
        let mut decoded = Self::default();
        reader.skip(4, "NextEntryOffset")?;
        decoded.file_index = reader.u32("FileIndex")?;
        if class != DirectoryClass::Names {
            decoded.attributes = Field::read(&mut reader, "DirectoryAttributes")?;
        }
        let name_length = reader.u32("FileNameLength")?;
        if !matches!(class, DirectoryClass::Names | DirectoryClass::Directory) {
            decoded.ea_size = reader.u32("EaSize")?;
        }
        match class {
            DirectoryClass::Names | DirectoryClass::Directory | DirectoryClass::FullDirectory => {}
            DirectoryClass::IdFullDirectory => {
                reader.skip(4, "Reserved")?;
                decoded.file_id = reader.u64("FileId")?.into();
            }
            DirectoryClass::IdExtdDirectory => {
                decoded.reparse_tag = reader.u32("ReparsePointTag")?;
                decoded.file_id = u128::read(&mut reader, "FileId")?;
            }
            DirectoryClass::BothDirectory => reader.skip(SHORT_NAME_SIZE, "ShortName")?,
            DirectoryClass::IdBothDirectory => {
                reader.skip(SHORT_NAME_SIZE + 2, "ShortName")?;
                decoded.file_id = reader.u64("FileId")?.into();
            }
        }
        decoded.name = reader.bytes(name_length as usize, "FileName")?;
        Ok(decoded)
    }

    /// Walks the output of a response in the class it was asked for.
    pub fn iter(
        class: DirectoryClass,
        output: &'a [u8],
    ) -> impl Iterator<Item = Result<Self, WireError>> {
        EntryList::new(output).map(move |entry| Self::read(class, entry?))
    }
}

/// ShortNameLength, Reserved1 and the 24 bytes of ShortName.
const SHORT_NAME_SIZE: usize = 26;

/// What became of an entry given to a [`DirectoryWriter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    Written,
    /// It belongs at the start of the next response.
    Full,
    /// It does not even fit an empty buffer: INFO_LENGTH_MISMATCH or BUFFER_OVERFLOW.
    NeverFits,
}

/// Fills an output buffer with entries of one class, 8-aligned and linked, up to a limit.
#[derive(Debug)]
pub struct DirectoryWriter<'a> {
    class: DirectoryClass,
    list: ListWriter<'a>,
}

impl<'a> DirectoryWriter<'a> {
    /// `limit` is the client's OutputBufferLength, or less.
    pub fn new(class: DirectoryClass, out: &'a mut Vec<u8>, limit: usize) -> Self {
        Self {
            class,
            list: ListWriter::new(out, 8, limit),
        }
    }

    pub fn push(&mut self, entry: &DirectoryEntry<'_>) -> Pushed {
        let class = self.class;
        if self.list.push(|out| entry.write(class, out)) {
            Pushed::Written
        } else if self.list.is_empty() {
            Pushed::NeverFits
        } else {
            Pushed::Full
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes the buffer has so far.
    pub fn len(&self) -> usize {
        self.list.len()
    }
}
