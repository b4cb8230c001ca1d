//! Information classes against bytes laid out by hand from MS-FSCC, in both directions.

use super::directory::*;
use super::file::*;
use super::file_system::*;
use super::list::ListWriter;
use crate::smb2::access::{AccessMask, FileAttributes};
use crate::smb2::ids::Guid;
use crate::smb2::time::FileTime;

macro_rules! golden {
    ($type:ident, $value:expr, $bytes:expr) => {{
        let (value, bytes): ($type, Vec<u8>) = ($value, $bytes);
        let mut encoded = Vec::new();
        value.encode(&mut encoded);
        assert_eq!(encoded, bytes);
        assert_eq!($type::decode(&bytes), Ok(value));
        for length in 0..bytes.len() {
            assert!($type::decode(&bytes[..length]).is_err(), "length {length}");
        }
    }};
}

const BASIC: FileBasicInfo = FileBasicInfo {
    creation_time: FileTime(1),
    last_access_time: FileTime(2),
    last_write_time: FileTime(3),
    change_time: FileTime(4),
    file_attributes: FileAttributes::ARCHIVE,
};
#[rustfmt::skip]
const BASIC_BYTES: [u8; 40] = [
    1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
    0x20, 0, 0, 0, 0, 0, 0, 0,
];
const STANDARD: FileStandardInfo = FileStandardInfo {
    allocation_size: 0x1000,
    end_of_file: 5,
    number_of_links: 2,
    delete_pending: false,
    directory: true,
};
const STANDARD_BYTES: [u8; 24] = [
    0, 0x10, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0,
];

#[test]
fn classes_about_a_file() {
    golden!(FileBasicInfo, BASIC, BASIC_BYTES.to_vec());
    golden!(FileStandardInfo, STANDARD, STANDARD_BYTES.to_vec());
    let mut all = BASIC_BYTES.to_vec();
    all.extend(STANDARD_BYTES);
    all.extend([6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0x81, 0, 0x10, 0]);
    all.extend([8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    all.extend(b"\\\0a\0");
    golden!(
        FileAllInfo,
        FileAllInfo {
            fixed: FileAllFixed {
                basic: BASIC,
                standard: STANDARD,
                internal: FileInternalInfo { index_number: 6 },
                ea: FileEaInfo { ea_size: 7 },
                access: FileAccessInfo {
                    access_flags: AccessMask::READ_DATA
                        | AccessMask::READ_ATTRIBUTES
                        | AccessMask::SYNCHRONIZE,
                },
                position: FilePositionInfo {
                    current_byte_offset: 8
                },
                mode: FileModeInfo { mode: 9 },
                alignment: FileAlignmentInfo {
                    alignment_requirement: 3
                },
            },
            name: b"\\\0a\0",
        },
        all
    );
    let mut network_open = BASIC_BYTES[..32].to_vec();
    network_open.extend([0, 0x10, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    network_open.extend([0x20, 0, 0, 0, 0, 0, 0, 0]);
    golden!(
        FileNetworkOpenInfo,
        FileNetworkOpenInfo {
            creation_time: FileTime(1),
            last_access_time: FileTime(2),
            last_write_time: FileTime(3),
            change_time: FileTime(4),
            allocation_size: 0x1000,
            end_of_file: 5,
            file_attributes: FileAttributes::ARCHIVE,
        },
        network_open
    );
    golden!(
        FileAttributeTagInfo,
        FileAttributeTagInfo {
            file_attributes: FileAttributes::REPARSE_POINT,
            reparse_tag: 0xA000_000C,
        },
        vec![0, 4, 0, 0, 0x0C, 0, 0, 0xA0]
    );
    golden!(
        FileCompressionInfo,
        FileCompressionInfo {
            compressed_file_size: 5,
            compression_format: 1,
            compression_unit_shift: 2,
            chunk_shift: 3,
            cluster_shift: 4,
        },
        vec![5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 3, 4, 0, 0, 0]
    );
    let mut id = vec![1, 0, 0, 0, 0, 0, 0, 0];
    id.extend([0x44; 16]);
    golden!(
        FileIdInfo,
        FileIdInfo {
            volume_serial_number: 1,
            file_id: [0x44; 16],
        },
        id
    );
}

#[test]
fn classes_that_change_a_file() {
    golden!(
        FileEndOfFileInfo,
        FileEndOfFileInfo { end_of_file: -2 },
        vec![0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]
    );
    golden!(
        FileAllocationInfo,
        FileAllocationInfo { allocation_size: 1 },
        vec![1, 0, 0, 0, 0, 0, 0, 0]
    );
    golden!(
        FileDispositionInfo,
        FileDispositionInfo {
            delete_pending: true
        },
        vec![1]
    );
    golden!(
        FileDispositionExInfo,
        FileDispositionExInfo {
            flags: DispositionFlags::DELETE | DispositionFlags::POSIX_SEMANTICS,
        },
        vec![3, 0, 0, 0]
    );
    golden!(
        FileRenameInfo,
        FileRenameInfo {
            replace_if_exists: 1,
            root_directory: 0,
            name: b"n\0e\0w\0",
        },
        vec![
            1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, b'n', 0, b'e', 0, b'w', 0
        ]
    );
    let mut short = Vec::new();
    FileRenameInfo {
        replace_if_exists: 0,
        root_directory: 0,
        name: b"n\0",
    }
    .encode(&mut short);
    assert_eq!(short.len(), 24);
    assert_eq!(FileRenameInfo::decode(&short).unwrap().name, b"n\0");
}

#[test]
fn streams_are_listed_at_eight_byte_boundaries() {
    let stream = FileStreamInfo {
        size: 5,
        allocation_size: 8,
        name: b":\0",
    };
    let mut out = Vec::new();
    let mut list = ListWriter::new(&mut out, 8, 200);
    assert!(stream.write(&mut list) && stream.write(&mut list));
    #[rustfmt::skip]
    assert_eq!(out[..34], [
        32, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, b':', 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let decoded: Result<Vec<_>, _> = FileStreamInfo::iter(&out).collect();
    assert_eq!(decoded, Ok(vec![stream, stream]));
}

#[test]
fn classes_about_a_file_system() {
    golden!(
        FsVolumeInfo,
        FsVolumeInfo {
            creation_time: FileTime(1),
            serial_number: 2,
            supports_objects: false,
            label: b"v\0",
        },
        vec![
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, b'v', 0
        ]
    );
    golden!(
        FsAttributeInfo,
        FsAttributeInfo {
            attributes: FsAttributes::CASE_PRESERVED_NAMES | FsAttributes::UNICODE_ON_DISK,
            maximum_component_name_length: 255,
            file_system_name: b"N\0",
        },
        vec![6, 0, 0, 0, 255, 0, 0, 0, 2, 0, 0, 0, b'N', 0]
    );
    golden!(
        FsSizeInfo,
        FsSizeInfo {
            total_allocation_units: 1,
            available_allocation_units: 2,
            sectors_per_allocation_unit: 8,
            bytes_per_sector: 512,
        },
        vec![
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0
        ]
    );
    golden!(
        FsDeviceInfo,
        FsDeviceInfo {
            device_type: FsDeviceInfo::DEVICE_DISK,
            characteristics: FsDeviceInfo::CHARACTERISTIC_IS_MOUNTED,
        },
        vec![7, 0, 0, 0, 0x20, 0, 0, 0]
    );
    let mut object_id = vec![5; 16];
    object_id.extend([0; 48]);
    golden!(
        FsObjectIdInfo,
        FsObjectIdInfo {
            object_id: Guid([5; 16])
        },
        object_id
    );
    for (size, encode) in [
        (
            32,
            (|out| FsFullSizeInfo::default().encode(out)) as fn(&mut Vec<u8>),
        ),
        (48, |out| FsControlInfo::default().encode(out)),
        (28, |out| FsSectorSizeInfo::default().encode(out)),
    ] {
        let mut out = Vec::new();
        encode(&mut out);
        assert_eq!(out, vec![0; size]);
    }
}

const CLASSES: [DirectoryClass; 7] = [
    DirectoryClass::Directory,
    DirectoryClass::FullDirectory,
    DirectoryClass::IdFullDirectory,
    DirectoryClass::BothDirectory,
    DirectoryClass::IdBothDirectory,
    DirectoryClass::Names,
    DirectoryClass::IdExtdDirectory,
];

fn entry(name: &[u8]) -> DirectoryEntry<'_> {
    DirectoryEntry {
        file_index: 0,
        attributes: DirectoryAttributes {
            creation_time: FileTime(1),
            last_access_time: FileTime(2),
            last_write_time: FileTime(3),
            change_time: FileTime(4),
            end_of_file: 5,
            allocation_size: 0x1000,
            file_attributes: FileAttributes::ARCHIVE,
        },
        ea_size: 6,
        reparse_tag: 7,
        file_id: 0x0102_0304_0506_0708,
        name,
    }
}

#[test]
fn an_id_both_directory_entry_has_the_specified_layout() {
    let mut out = Vec::new();
    let mut writer = DirectoryWriter::new(DirectoryClass::IdBothDirectory, &mut out, 1000);
    assert_eq!(writer.push(&entry(b"a\0")), Pushed::Written);
    assert_eq!(writer.push(&entry(b"b\0")), Pushed::Written);
    let mut golden = vec![112, 0, 0, 0, 0, 0, 0, 0];
    golden.extend(&BASIC_BYTES[..32]);
    golden.extend([5, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
    golden.extend([0x20, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0]);
    golden.extend([0; 26]); // ShortNameLength, Reserved1, ShortName
    golden.extend([0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    golden.extend([b'a', 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(out[..112], golden);
    assert_eq!(out[112..116], [0; 4]);
    assert_eq!(out.len(), 112 + 106);
}

#[test]
fn every_class_has_its_fixed_size_and_comes_back() {
    for class in CLASSES {
        let mut out = Vec::new();
        let mut writer = DirectoryWriter::new(class, &mut out, 1000);
        assert_eq!(writer.push(&entry(b"x\0yz")), Pushed::Written);
        assert_eq!(writer.len(), class.fixed_size() + 4, "{class:?}");
        let decoded: Result<Vec<_>, _> = DirectoryEntry::iter(class, &out).collect();
        let decoded = decoded.unwrap();
        assert_eq!(decoded.len(), 1);
        assert_eq!(decoded[0].name, b"x\0yz", "{class:?}");
        if class != DirectoryClass::Names {
            assert_eq!(decoded[0].attributes, entry(b"").attributes, "{class:?}");
        }
        for length in 1..out.len() {
            let cut: Result<Vec<_>, _> = DirectoryEntry::iter(class, &out[..length]).collect();
            assert!(cut.is_err(), "{class:?} length {length}");
        }
    }
}

#[test]
fn a_full_buffer_is_told_from_one_that_is_too_small() {
    let mut out = vec![0xEE; 5];
    let mut writer = DirectoryWriter::new(DirectoryClass::Names, &mut out, 14);
    assert_eq!(writer.push(&entry(b"abcd")), Pushed::NeverFits);
    assert!(writer.is_empty());
    assert_eq!(writer.push(&entry(b"a\0")), Pushed::Written);
    assert_eq!(writer.push(&entry(b"")), Pushed::Full);
    assert_eq!(writer.len(), 14);
    assert_eq!(out[5..9], [0; 4]);
}
