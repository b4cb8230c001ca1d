//! QUERY_INFO, SET_INFO, QUERY_DIRECTORY and the information classes in them (MS-FSCC 2.4, 2.5). A response's class
//! stands in its request.

use proto::smb2::info::directory::{DirectoryClass, DirectoryEntry};
use proto::smb2::info::file::{
    FileAllInfo, FileBasicInfo, FileDispositionInfo, FileEndOfFileInfo, FileNetworkOpenInfo,
};
use proto::smb2::info::file_system::{
    FsAttributeInfo, FsDeviceInfo, FsFullSizeInfo, FsSectorSizeInfo, FsSizeInfo, FsVolumeInfo,
};
use proto::smb2::info::{FileInfoClass, InfoType};
use proto::smb2::query_directory::{QueryDirectoryRequest, QueryDirectoryResponse};
use proto::smb2::query_info::{QueryInfoRequest, QueryInfoResponse};
use proto::smb2::set_info::SetInfoRequest;
use proto::smb2::{Command, Header};
use proto::wire::WireError;

use super::files::times;
use super::flags;
use super::meaning::{Meaning, offset_in};
use super::smb2::Element;

/// File system classes by number (MS-FSCC 2.5).
const VOLUME: u8 = 1;
const SIZE: u8 = 3;
const DEVICE: u8 = 4;
const ATTRIBUTE: u8 = 5;
const FULL_SIZE: u8 = 7;
const SECTOR_SIZE: u8 = 11;

fn class(info_type: u8, class: u8, meaning: &mut Meaning) {
    meaning.number("smb2.class", info_type);
    match InfoType::try_from(info_type) {
        Ok(InfoType::File) => meaning.number("smb2.file_info.infolevel", class),
        Ok(InfoType::FileSystem) => meaning.number("smb2.fs_info.infolevel", class),
        Ok(InfoType::Security) => meaning.number("smb2.sec_info.infolevel", class),
        _ => {}
    }
}

/// InfoType and class that a QUERY_INFO or SET_INFO asked for.
fn asked(element: &Element<'_>) -> Result<(u8, u8), WireError> {
    let request = element.answered()?;
    match Header::decode(request)?.command()? {
        Command::SetInfo => {
            let request = SetInfoRequest::decode(request)?;
            Ok((request.info_type, request.file_info_class))
        }
        _ => {
            let request = QueryInfoRequest::decode(request)?;
            Ok((request.info_type, request.file_info_class))
        }
    }
}

/// What is shown of the request with its response.
pub fn class_of_request(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    let (info_type, number) = asked(element)?;
    class(info_type, number, meaning);
    Ok(())
}

/// Likewise of QUERY_DIRECTORY.
pub fn level_of_request(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    let request = QueryDirectoryRequest::decode(element.answered()?)?;
    meaning.number("smb2.find.infolevel", request.file_information_class);
    Ok(())
}

pub fn query_info(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = QueryInfoRequest::decode(element.bytes)?;
        class(request.info_type, request.file_info_class, meaning);
        meaning.number("smb2.max_response_size", request.output_buffer_length);
        meaning.offset("smb2.getinfo_input_offset", element.bytes, request.input);
        meaning.number("smb2.getinfo_input_size", request.input.len() as u64);
        let additional = request.additional_information;
        meaning.number("smb2.getsetinfo_additional", additional);
        meaning.number("smb2.getinfo_flags", request.flags.bits());
        meaning.file_id(request.file_id);
        return Ok(());
    }
    class_of_request(element, meaning)?;
    let response = QueryInfoResponse::decode(element.bytes)?;
    meaning.buffer(element.bytes, response.output);
    let (info_type, number) = asked(element)?;
    match InfoType::try_from(info_type) {
        Ok(InfoType::File) => file(number, response.output, meaning),
        Ok(InfoType::FileSystem) => file_system(number, response.output, meaning),
        _ => Ok(()),
    }
}

pub fn set_info(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if element.header.is_response() {
        return class_of_request(element, meaning);
    }
    let request = SetInfoRequest::decode(element.bytes)?;
    class(request.info_type, request.file_info_class, meaning);
    meaning.number("smb2.setinfo_size", request.buffer.len() as u64);
    meaning.offset("smb2.setinfo_offset", element.bytes, request.buffer);
    let additional = request.additional_information;
    meaning.number("smb2.getsetinfo_additional", additional);
    meaning.file_id(request.file_id);
    file(request.file_info_class, request.buffer, meaning)
}

fn file(class: u8, buffer: &[u8], meaning: &mut Meaning) -> Result<(), WireError> {
    match FileInfoClass::try_from(class) {
        Ok(FileInfoClass::All) => {
            meaning.bytes("smb2.file_all_info", buffer);
            all(&FileAllInfo::decode(buffer)?, meaning);
        }
        Ok(FileInfoClass::Basic) => {
            meaning.bytes("smb2.file_basic_info", buffer);
            basic(&FileBasicInfo::decode(buffer)?, meaning);
        }
        Ok(FileInfoClass::NetworkOpen) => {
            meaning.bytes("smb2.file_network_open_info", buffer);
            let open = FileNetworkOpenInfo::decode(buffer)?;
            // Under the names that SMB1 has for the same.
            meaning.time("smb.create.time", open.creation_time);
            meaning.time("smb.access.time", open.last_access_time);
            meaning.time("smb.last_write.time", open.last_write_time);
            meaning.time("smb.change.time", open.change_time);
            meaning.number("smb.alloc_size64", open.allocation_size);
            meaning.number("smb.end_of_file", open.end_of_file);
            let attributes = open.file_attributes.bits();
            let name = "smb.file_attribute";
            meaning.flags(name, attributes, flags::OLD_ATTRIBUTES);
        }
        Ok(FileInfoClass::EndOfFile) => {
            meaning.bytes("smb2.file_endoffile_info", buffer);
            let end = FileEndOfFileInfo::decode(buffer)?.end_of_file;
            meaning.number("smb.end_of_file", end.cast_unsigned());
        }
        Ok(FileInfoClass::Disposition) => {
            meaning.bytes("smb2.file_disposition_info", buffer);
            let disposition = FileDispositionInfo::decode(buffer)?;
            meaning.number(
                "smb2.disposition.delete_on_close",
                disposition.delete_pending,
            );
        }
        _ => {}
    }
    Ok(())
}

fn basic(basic: &FileBasicInfo, meaning: &mut Meaning) {
    times(
        [
            basic.creation_time,
            basic.last_access_time,
            basic.last_write_time,
            basic.change_time,
        ],
        meaning,
    );
    let attributes = basic.file_attributes.bits();
    meaning.flags("smb2.file_attribute", attributes, flags::ATTRIBUTES);
}

fn all(info: &FileAllInfo<'_>, meaning: &mut Meaning) {
    let fixed = &info.fixed;
    basic(&fixed.basic, meaning);
    meaning.number("smb2.allocation_size", fixed.standard.allocation_size);
    meaning.number("smb2.eof", fixed.standard.end_of_file);
    meaning.number("smb2.nlinks", fixed.standard.number_of_links);
    meaning.number("smb2.delete_pending", fixed.standard.delete_pending);
    meaning.number("smb2.is_directory", fixed.standard.directory);
    meaning.number("smb2.file_id", fixed.internal.index_number);
    meaning.number("smb2.ea_size", fixed.ea.ea_size);
    let access = fixed.access.access_flags.bits();
    meaning.flags("smb.access_mask", access, flags::ACCESS);
    meaning.number("smb2.position_info", fixed.position.current_byte_offset);
    meaning.flags("smb2.mode_info", fixed.mode.mode, flags::MODE);
    meaning.number("smb2.alignment_info", fixed.alignment.alignment_requirement);
    meaning.number("smb2.filename.len", info.name.len() as u64);
    meaning.utf16("smb2.filename", info.name);
}

fn file_system(class: u8, buffer: &[u8], meaning: &mut Meaning) -> Result<(), WireError> {
    match class {
        VOLUME => {
            meaning.bytes("smb2.fs_volume_info", buffer);
            let volume = FsVolumeInfo::decode(buffer)?;
            meaning.time("smb.create.time", volume.creation_time);
            meaning.number("smb.volume.serial", volume.serial_number);
            meaning.number("smb.volume.label.len", volume.label.len() as u64);
            meaning.utf16("smb.volume.label", volume.label);
        }
        SIZE => {
            meaning.bytes("smb2.fs_size_info", buffer);
            let size = FsSizeInfo::decode(buffer)?;
            meaning.number("smb.alloc_size64", size.total_allocation_units);
            meaning.number("smb.free_alloc_units", size.available_allocation_units);
            meaning.number("smb.fs_sector_per_unit", size.sectors_per_allocation_unit);
            meaning.number("smb.fs_bytes_per_sector", size.bytes_per_sector);
        }
        DEVICE => {
            meaning.bytes("smb2.fs_device_info", buffer);
            let device = FsDeviceInfo::decode(buffer)?;
            meaning.number("smb.device.type", device.device_type);
            meaning.flags("smb.device", device.characteristics, flags::DEVICE);
        }
        ATTRIBUTE => {
            meaning.bytes("smb2.fs_attribute_info", buffer);
            let info = FsAttributeInfo::decode(buffer)?;
            meaning.flags("smb.fs_attr", info.attributes.bits(), flags::FS_ATTRIBUTES);
            let longest = info.maximum_component_name_length;
            meaning.number("smb.fs_max_name_len", longest);
            meaning.number("smb.fs_name.len", info.file_system_name.len() as u64);
            meaning.utf16("smb.fs_name", info.file_system_name);
        }
        FULL_SIZE => {
            meaning.bytes("smb2.fs_full_size_info", buffer);
            let size = FsFullSizeInfo::decode(buffer)?;
            meaning.number("smb.alloc_size64", size.total_allocation_units);
            let ours = size.caller_available_allocation_units;
            meaning.number("smb.caller_free_alloc_units", ours);
            let actual = size.actual_available_allocation_units;
            meaning.number("smb.actual_free_alloc_units", actual);
            meaning.number("smb.fs_sector_per_unit", size.sectors_per_allocation_unit);
            meaning.number("smb.fs_bytes_per_sector", size.bytes_per_sector);
        }
        // Which tshark shows whole, as unknown.
        SECTOR_SIZE => {
            let mut bytes = Vec::new();
            FsSectorSizeInfo::decode(buffer)?.encode(&mut bytes);
            meaning.bytes("smb2.unknown", &bytes);
        }
        _ => {}
    }
    Ok(())
}

pub fn query_directory(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = QueryDirectoryRequest::decode(element.bytes)?;
        meaning.number("smb2.find.infolevel", request.file_information_class);
        meaning.flags("smb2.find.flags", request.flags.bits(), flags::FIND);
        meaning.number("smb2.file_index", request.file_index);
        meaning.file_id(request.file_id);
        meaning.number("smb2.output_buffer_len", request.output_buffer_length);
        meaning.utf16("smb2.find.pattern", request.pattern);
        meaning.buffer(element.bytes, request.pattern);
        return Ok(());
    }
    level_of_request(element, meaning)?;
    let response = QueryDirectoryResponse::decode(element.bytes)?;
    meaning.buffer(element.bytes, response.output);
    meaning.bytes("smb2.find.info_blob", response.output);
    let request = QueryDirectoryRequest::decode(element.answered()?)?;
    let class = DirectoryClass::try_from(request.file_information_class);
    if let Ok(class @ DirectoryClass::IdBothDirectory) = class {
        let entries = DirectoryEntry::iter(class, response.output);
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        for (at, entry) in entries.iter().enumerate() {
            let next = entries.get(at + 1);
            let next = next.map_or(0, |next| offset_in(entry.name, next.name));
            directory_entry(response.output, entry, next, meaning);
        }
    }
    Ok(())
}

/// FileIdBothDirectoryInformation (MS-FSCC 2.4.21), the one Windows asks for.
fn directory_entry(output: &[u8], entry: &DirectoryEntry<'_>, next: u64, meaning: &mut Meaning) {
    // Names stand behind a fixed part of this size.
    let fixed = DirectoryClass::IdBothDirectory.fixed_size();
    let name = offset_in(output, entry.name) as usize;
    let whole = name
        .checked_sub(fixed)
        .map(|start| start..name + entry.name.len());
    let bytes = whole.and_then(|whole| output.get(whole));
    meaning.bytes(
        "smb2.find.id_both_directory_info",
        bytes.unwrap_or_default(),
    );
    meaning.number("smb2.next_offset", next);
    meaning.number("smb2.file_index", entry.file_index);
    let attributes = &entry.attributes;
    times(
        [
            attributes.creation_time,
            attributes.last_access_time,
            attributes.last_write_time,
            attributes.change_time,
        ],
        meaning,
    );
    meaning.number("smb2.eof", attributes.end_of_file);
    meaning.number("smb2.allocation_size", attributes.allocation_size);
    let bits = attributes.file_attributes.bits();
    meaning.flags("smb2.file_attribute", bits, flags::ATTRIBUTES);
    meaning.number("smb2.filename.len", entry.name.len() as u64);
    meaning.number("smb2.ea_size", entry.ea_size);
    meaning.number("smb2.short_name_len", 0u8);
    meaning.number("smb2.file_id", entry.file_id as u64);
    meaning.utf16("smb2.filename", entry.name);
}
