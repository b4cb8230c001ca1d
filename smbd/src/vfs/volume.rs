//! The file system a share lies on, as FileFsInformation classes show it (MS-FSCC 2.5).
//! Blocks in statvfs; as the user.

use std::os::fd::AsFd;

use proto::smb2::info::FsInfoClass;
use proto::smb2::info::file_system::{
    FsAttributeInfo, FsAttributes, FsControlInfo, FsDeviceInfo, FsFullSizeInfo, FsObjectIdInfo,
    FsSectorSizeInfo, FsSizeInfo, FsVolumeInfo,
};
use proto::smb2::{Guid, NtStatus, utf16};
use rustix::fs::{StatVfs, StatVfsMountFlags, fstatvfs};

use super::errno::status_of;
use super::file::File;
use super::metadata::Metadata;

const SECTOR: u64 = 512;

/// The encoded information of one class, of the file system `file` lies on.
pub fn query(file: &File, class: FsInfoClass, read_only: bool) -> Result<Vec<u8>, NtStatus> {
    let volume = fstatvfs(file.as_fd()).map_err(status_of)?;
    let unit = Unit::of(&volume);
    let mut out = Vec::new();
    match class {
        FsInfoClass::Volume => {
            let root = Metadata::of(file.share().root())?;
            FsVolumeInfo {
                creation_time: root.creation_time,
                serial_number: serial_number(volume.f_fsid),
                supports_objects: false,
                label: &utf16::encode(file.share().name()),
            }
            .encode(&mut out);
        }
        FsInfoClass::Size => FsSizeInfo {
            total_allocation_units: volume.f_blocks,
            available_allocation_units: volume.f_bavail,
            sectors_per_allocation_unit: unit.sectors,
            bytes_per_sector: unit.sector,
        }
        .encode(&mut out),
        FsInfoClass::FullSize => FsFullSizeInfo {
            total_allocation_units: volume.f_blocks,
            caller_available_allocation_units: volume.f_bavail,
            actual_available_allocation_units: volume.f_bfree,
            sectors_per_allocation_unit: unit.sectors,
            bytes_per_sector: unit.sector,
        }
        .encode(&mut out),
        FsInfoClass::Device => FsDeviceInfo {
            device_type: FsDeviceInfo::DEVICE_DISK,
            characteristics: FsDeviceInfo::CHARACTERISTIC_IS_MOUNTED
                | if is_read_only(&volume, read_only) {
                    FsDeviceInfo::CHARACTERISTIC_READ_ONLY
                } else {
                    0
                },
        }
        .encode(&mut out),
        FsInfoClass::Attribute => {
            let mut attributes = FsAttributes::CASE_SENSITIVE_SEARCH
                | FsAttributes::CASE_PRESERVED_NAMES
                | FsAttributes::UNICODE_ON_DISK
                | FsAttributes::PERSISTENT_ACLS
                | FsAttributes::SUPPORTS_HARD_LINKS;
            attributes.set(
                FsAttributes::READ_ONLY_VOLUME,
                is_read_only(&volume, read_only),
            );
            FsAttributeInfo {
                attributes,
                maximum_component_name_length: 255,
                // Clients choose by this name what they expect of a server; none knows another.
                file_system_name: &utf16::encode("NTFS"),
            }
            .encode(&mut out);
        }
        FsInfoClass::Control => FsControlInfo {
            default_quota_threshold: u64::MAX,
            default_quota_limit: u64::MAX,
            ..FsControlInfo::default()
        }
        .encode(&mut out),
        FsInfoClass::ObjectId => {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&volume.f_fsid.to_le_bytes());
            FsObjectIdInfo {
                object_id: Guid(id),
            }
            .encode(&mut out);
        }
        FsInfoClass::SectorSize => {
            let bytes = unit.sectors.saturating_mul(unit.sector);
            FsSectorSizeInfo {
                logical_bytes_per_sector: unit.sector,
                physical_bytes_per_sector_for_atomicity: bytes,
                physical_bytes_per_sector_for_performance: bytes,
                effective_physical_bytes_per_sector_for_atomicity: bytes,
                flags: FsSectorSizeInfo::FLAG_ALIGNED_DEVICE
                    | FsSectorSizeInfo::FLAG_PARTITION_ALIGNED_ON_DEVICE,
                byte_offset_for_sector_alignment: 0,
                byte_offset_for_partition_alignment: 0,
            }
            .encode(&mut out);
        }
        FsInfoClass::Label
        | FsInfoClass::DriverPath
        | FsInfoClass::VolumeFlags
        | FsInfoClass::Posix => return Err(NtStatus::INVALID_INFO_CLASS),
    }
    Ok(out)
}

/// What f_blocks counts, as sectors.
struct Unit {
    sectors: u32,
    sector: u32,
}

impl Unit {
    fn of(volume: &StatVfs) -> Unit {
        let block = volume.f_frsize.clamp(1, 1 << 30);
        let sector = if block.is_multiple_of(SECTOR) {
            SECTOR
        } else {
            block
        };
        Unit {
            sectors: (block / sector) as u32,
            sector: sector as u32,
        }
    }
}

fn is_read_only(volume: &StatVfs, share: bool) -> bool {
    share || volume.f_flag.contains(StatVfsMountFlags::RDONLY)
}

fn serial_number(id: u64) -> u32 {
    (id ^ (id >> 32)) as u32
}
