//! Classes about a file system (MS-FSCC 2.5): what a statfs answers.

use bitflags::bitflags;

use crate::smb2::ids::Guid;
use crate::smb2::record::Field;
use crate::smb2::time::FileTime;
use crate::wire::{Reader, WireError, length_u32};

records! {
    /// FileFsSizeInformation (2.5.8).
    pub struct FsSizeInfo {
        total_allocation_units: u64,
        available_allocation_units: u64,
        sectors_per_allocation_unit: u32,
        bytes_per_sector: u32,
    }

    /// FileFsFullSizeInformation (2.5.4).
    pub struct FsFullSizeInfo {
        total_allocation_units: u64,
        caller_available_allocation_units: u64,
        actual_available_allocation_units: u64,
        sectors_per_allocation_unit: u32,
        bytes_per_sector: u32,
    }

    /// FileFsDeviceInformation (2.5.10).
    pub struct FsDeviceInfo {
        device_type: u32,
        characteristics: u32,
    }

    /// FileFsControlInformation (2.5.2).
    pub struct FsControlInfo {
        free_space_start_filtering: u64,
        free_space_threshold: u64,
        free_space_stop_filtering: u64,
        default_quota_threshold: u64,
        default_quota_limit: u64,
        file_system_control_flags: u32 => 4,
    }

    /// FileFsObjectIdInformation (2.5.6).
    pub struct FsObjectIdInfo {
        object_id: Guid => 48,
    }

    /// FileFsSectorSizeInformation (2.5.7).
    pub struct FsSectorSizeInfo {
        logical_bytes_per_sector: u32,
        physical_bytes_per_sector_for_atomicity: u32,
        physical_bytes_per_sector_for_performance: u32,
        effective_physical_bytes_per_sector_for_atomicity: u32,
        flags: u32,
        byte_offset_for_sector_alignment: u32,
        byte_offset_for_partition_alignment: u32,
    }
}

impl FsDeviceInfo {
    pub const DEVICE_DISK: u32 = 0x07;
    pub const DEVICE_NAMED_PIPE: u32 = 0x11;
    pub const CHARACTERISTIC_READ_ONLY: u32 = 0x02;
    pub const CHARACTERISTIC_IS_MOUNTED: u32 = 0x20;
}

impl FsSectorSizeInfo {
    pub const FLAG_ALIGNED_DEVICE: u32 = 0x1;
    pub const FLAG_PARTITION_ALIGNED_ON_DEVICE: u32 = 0x2;
}

bitflags! {
    /// MS-FSCC 2.5.1, FileSystemAttributes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct FsAttributes: u32 {
        const CASE_SENSITIVE_SEARCH = 0x0000_0001;
        const CASE_PRESERVED_NAMES = 0x0000_0002;
        const UNICODE_ON_DISK = 0x0000_0004;
        const PERSISTENT_ACLS = 0x0000_0008;
        const FILE_COMPRESSION = 0x0000_0010;
        const VOLUME_QUOTAS = 0x0000_0020;
        const SUPPORTS_SPARSE_FILES = 0x0000_0040;
        const SUPPORTS_REPARSE_POINTS = 0x0000_0080;
        const SUPPORTS_OBJECT_IDS = 0x0001_0000;
        const SUPPORTS_ENCRYPTION = 0x0002_0000;
        const NAMED_STREAMS = 0x0004_0000;
        const READ_ONLY_VOLUME = 0x0008_0000;
        const SUPPORTS_HARD_LINKS = 0x0040_0000;
        const SUPPORTS_EXTENDED_ATTRIBUTES = 0x0080_0000;
        const SUPPORTS_OPEN_BY_FILE_ID = 0x0100_0000;
        const SUPPORTS_BLOCK_REFCOUNTING = 0x0800_0000;
    }
}

/// FileFsVolumeInformation (2.5.9). The label is UTF-16LE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsVolumeInfo<'a> {
    pub creation_time: FileTime,
    pub serial_number: u32,
    pub supports_objects: bool,
    pub label: &'a [u8],
}

impl<'a> FsVolumeInfo<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let creation_time = FileTime(reader.u64("VolumeCreationTime")?);
        let serial_number = reader.u32("VolumeSerialNumber")?;
        let label_length = reader.u32("VolumeLabelLength")?;
        let supports_objects = bool::read(&mut reader, "SupportsObjects")?;
        reader.skip(1, "Reserved")?;
        Ok(Self {
            creation_time,
            serial_number,
            supports_objects,
            label: reader.bytes(label_length as usize, "VolumeLabel")?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.creation_time.write(out);
        self.serial_number.write(out);
        length_u32(self.label.len()).write(out);
        self.supports_objects.write(out);
        out.push(0);
        out.extend_from_slice(self.label);
    }
}

/// FileFsAttributeInformation (2.5.1). The name is UTF-16LE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsAttributeInfo<'a> {
    pub attributes: FsAttributes,
    pub maximum_component_name_length: u32,
    pub file_system_name: &'a [u8],
}

impl<'a> FsAttributeInfo<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let attributes = FsAttributes::from_bits_retain(reader.u32("FileSystemAttributes")?);
        let maximum_component_name_length = reader.u32("MaximumComponentNameLength")?;
        let name_length = reader.u32("FileSystemNameLength")?;
        Ok(Self {
            attributes,
            maximum_component_name_length,
            file_system_name: reader.bytes(name_length as usize, "FileSystemName")?,
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.attributes.bits().write(out);
        self.maximum_component_name_length.write(out);
        length_u32(self.file_system_name.len()).write(out);
        out.extend_from_slice(self.file_system_name);
    }
}
