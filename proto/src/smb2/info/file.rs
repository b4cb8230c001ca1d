//! Classes about one file (MS-FSCC 2.4): what a stat answers and what a SET_INFO changes.

use bitflags::bitflags;

use super::list::{EntryList, ListWriter};
use crate::smb2::access::{AccessMask, FileAttributes};
use crate::smb2::record::Field;
use crate::smb2::time::FileTime;
use crate::wire::{Reader, WireError, length_u32};

records! {
    /// FileBasicInformation (2.4.7).
    pub struct FileBasicInfo {
        creation_time: FileTime,
        last_access_time: FileTime,
        last_write_time: FileTime,
        change_time: FileTime,
        file_attributes: FileAttributes => 4,
    }

    /// FileStandardInformation (2.4.47).
    pub struct FileStandardInfo {
        allocation_size: u64,
        end_of_file: u64,
        number_of_links: u32,
        delete_pending: bool,
        directory: bool => 2,
    }

    /// FileInternalInformation (2.4.26).
    pub struct FileInternalInfo {
        index_number: u64,
    }

    /// FileEaInformation (2.4.13).
    pub struct FileEaInfo {
        ea_size: u32,
    }

    /// FileAccessInformation (2.4.1).
    pub struct FileAccessInfo {
        access_flags: AccessMask,
    }

    /// FilePositionInformation (2.4.40).
    pub struct FilePositionInfo {
        current_byte_offset: u64,
    }

    /// FileModeInformation (2.4.31).
    pub struct FileModeInfo {
        mode: u32,
    }

    /// FileAlignmentInformation (2.4.3).
    pub struct FileAlignmentInfo {
        alignment_requirement: u32,
    }

    /// FileAllInformation (2.4.2) up to its name.
    pub struct FileAllFixed {
        basic: FileBasicInfo,
        standard: FileStandardInfo,
        internal: FileInternalInfo,
        ea: FileEaInfo,
        access: FileAccessInfo,
        position: FilePositionInfo,
        mode: FileModeInfo,
        alignment: FileAlignmentInfo,
    }

    /// FileNetworkOpenInformation (2.4.34).
    pub struct FileNetworkOpenInfo {
        creation_time: FileTime,
        last_access_time: FileTime,
        last_write_time: FileTime,
        change_time: FileTime,
        allocation_size: u64,
        end_of_file: u64,
        file_attributes: FileAttributes => 4,
    }

    /// FileAttributeTagInformation (2.4.6).
    pub struct FileAttributeTagInfo {
        file_attributes: FileAttributes,
        reparse_tag: u32,
    }

    /// FileCompressionInformation (2.4.9).
    pub struct FileCompressionInfo {
        compressed_file_size: u64,
        compression_format: u16,
        compression_unit_shift: u8,
        chunk_shift: u8,
        cluster_shift: u8 => 3,
    }

    /// FileIdInformation (2.4.25).
    pub struct FileIdInfo {
        volume_serial_number: u64,
        file_id: [u8; 16],
    }

    /// FileAllocationInformation (2.4.4).
    pub struct FileAllocationInfo {
        allocation_size: i64,
    }

    /// FileEndOfFileInformation (2.4.14).
    pub struct FileEndOfFileInfo {
        end_of_file: i64,
    }

    /// FileValidDataLengthInformation (2.4.50).
    pub struct FileValidDataLengthInfo {
        valid_data_length: i64,
    }

    /// FileDispositionInformation (2.4.11).
    pub struct FileDispositionInfo {
        delete_pending: bool,
    }

    /// FileDispositionInformationEx (2.4.12).
    pub struct FileDispositionExInfo {
        flags: DispositionFlags,
    }

    /// FilePipeInformation (2.4.37).
    pub struct FilePipeInfo {
        read_mode: u32,
        completion_mode: u32,
    }

    /// FilePipeLocalInformation (2.4.38).
    pub struct FilePipeLocalInfo {
        named_pipe_type: u32,
        named_pipe_configuration: u32,
        maximum_instances: u32,
        current_instances: u32,
        inbound_quota: u32,
        read_data_available: u32,
        outbound_quota: u32,
        write_quota_available: u32,
        named_pipe_state: u32,
        named_pipe_end: u32,
    }
}

bitflags! {
    /// MS-FSCC 2.4.12, Flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct DispositionFlags: u32 {
        const DELETE = 0x01;
        const POSIX_SEMANTICS = 0x02;
        const FORCE_IMAGE_SECTION_CHECK = 0x04;
        const ON_CLOSE = 0x08;
        const IGNORE_READONLY_ATTRIBUTE = 0x10;
    }
}

impl Field for DispositionFlags {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        reader.u32(field).map(Self::from_bits_retain)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.bits().write(out);
    }
}

/// FileAllInformation (2.4.2). `name` is UTF-16LE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAllInfo<'a> {
    pub fixed: FileAllFixed,
    pub name: &'a [u8],
}

impl<'a> FileAllInfo<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let fixed = Field::read(&mut reader, "FileAllInformation")?;
        let name = read_name(&mut reader)?;
        Ok(Self { fixed, name })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.fixed.encode(out);
        FileNameInfo { name: self.name }.encode(out);
    }
}

/// A length and a UTF-16LE name: FileNameInformation (2.1.7, 2.4.32), FileNormalizedNameInformation
/// (2.4.36) and FileAlternateNameInformation (2.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNameInfo<'a> {
    pub name: &'a [u8],
}

impl<'a> FileNameInfo<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let name = read_name(&mut Reader::new(bytes))?;
        Ok(Self { name })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(length_u32(self.name.len()).to_le_bytes());
        out.extend_from_slice(self.name);
    }
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let length = reader.u32("FileNameLength")?;
    reader.bytes(length as usize, "FileName")
}

/// FileRenameInformation for SMB2 (2.4.42.2), FileRenameInformationEx (2.4.43) and
/// FileLinkInformation for SMB2 (2.4.27.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRenameInfo<'a> {
    /// ReplaceIfExists (0 or 1), or the low byte of Flags of the Ex form.
    pub replace_if_exists: u8,
    /// Always zero over the network.
    pub root_directory: u64,
    /// UTF-16LE, relative to the share's root.
    pub name: &'a [u8],
}

impl<'a> FileRenameInfo<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let replace_if_exists = reader.u8("ReplaceIfExists")?;
        reader.skip(7, "Reserved")?;
        let root_directory = reader.u64("RootDirectory")?;
        let name = read_name(&mut reader)?;
        Ok(Self {
            replace_if_exists,
            root_directory,
            name,
        })
    }

    /// Padded to the 24 bytes that servers of the Windows family ask for at least.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(self.replace_if_exists);
        out.extend([0; 7]);
        out.extend(self.root_directory.to_le_bytes());
        FileNameInfo { name: self.name }.encode(out);
        out.resize(out.len().max(start + 24), 0);
    }
}

/// One entry of FileStreamInformation (2.4.49).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStreamInfo<'a> {
    pub size: u64,
    pub allocation_size: u64,
    /// UTF-16LE, such as `::$DATA`.
    pub name: &'a [u8],
}

impl<'a> FileStreamInfo<'a> {
    /// The list is 8-aligned for this class.
    pub fn write(&self, list: &mut ListWriter<'_>) -> bool {
        list.push(|out| {
            out.extend(length_u32(self.name.len()).to_le_bytes());
            out.extend(self.size.to_le_bytes());
            out.extend(self.allocation_size.to_le_bytes());
            out.extend_from_slice(self.name);
        })
    }

    pub fn iter(list: &'a [u8]) -> impl Iterator<Item = Result<Self, WireError>> {
        EntryList::new(list).map(|entry| {
            let mut reader = Reader::new(entry?.bytes);
            reader.skip(4, "NextEntryOffset")?;
            let length = reader.u32("StreamNameLength")?;
            Ok(Self {
                size: reader.u64("StreamSize")?,
                allocation_size: reader.u64("StreamAllocationSize")?,
                name: reader.bytes(length as usize, "StreamName")?,
            })
        })
    }
}
