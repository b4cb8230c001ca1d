//! QUERY_INFO (MS-SMB2 3.3.5.20): what a file, its file system and its security descriptor are.

use std::sync::Arc;

use proto::smb2::error::{ErrorContext, ErrorResponse};
use proto::smb2::info::file::{
    FileAccessInfo, FileAlignmentInfo, FileAllFixed, FileAllInfo, FileAttributeTagInfo,
    FileBasicInfo, FileCompressionInfo, FileEaInfo, FileIdInfo, FileInternalInfo, FileModeInfo,
    FileNameInfo, FileNetworkOpenInfo, FilePositionInfo, FileStandardInfo, FileStreamInfo,
};
use proto::smb2::info::list::ListWriter;
use proto::smb2::info::{FileInfoClass, FsInfoClass, InfoType};
use proto::smb2::query_info::{QueryInfoRequest, QueryInfoResponse, SecurityInformation};
use proto::smb2::{AccessMask, CreateOptions, Dialect, NtStatus, utf16};

use super::{Context, Response, malformed};
use crate::state::{DiskOpen, Open};
use crate::vfs::{Metadata, name, security_descriptor, volume};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = QueryInfoRequest::decode(request).map_err(malformed)?;
    let limit = request.output_buffer_length as usize;
    if request.output_buffer_length > cx.connection.max_transact() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let kind = InfoType::try_from(request.info_type).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let class = request.file_info_class;
    let parts = SecurityInformation::from_bits_truncate(request.additional_information);
    let open = cx.open(request.file_id)?;
    match kind {
        InfoType::File => {
            let class = FileInfoClass::try_from(class).map_err(|_| NtStatus::INVALID_INFO_CLASS)?;
            let answer = file_information(&open, class, cx).await?;
            answer.within(limit)
        }
        InfoType::FileSystem => {
            let class = FsInfoClass::try_from(class).map_err(|_| NtStatus::INVALID_INFO_CLASS)?;
            file_system_information(&open, class, cx)
                .await?
                .within(limit)
        }
        InfoType::Security => security_information(&open, parts, limit, cx).await,
        // No quotas are kept.
        InfoType::Quota => Err(NtStatus::NOT_SUPPORTED),
    }
}

/// Encoded information and how much of it must fit.
struct Answer {
    bytes: Vec<u8>,
    minimum: usize,
}

impl Answer {
    /// Of a class that is of one size.
    fn fixed(bytes: Vec<u8>) -> Answer {
        Answer {
            minimum: bytes.len(),
            bytes,
        }
    }

    /// MS-SMB2 3.3.5.20.1: too small for the fixed part is an error, too small for what varies
    /// is a warning that comes with what fits.
    fn within(mut self, limit: usize) -> Result<Response, NtStatus> {
        if limit < self.minimum {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let status = if self.bytes.len() > limit {
            self.bytes.truncate(limit);
            NtStatus::BUFFER_OVERFLOW
        } else {
            NtStatus::SUCCESS
        };
        let mut body = Vec::new();
        QueryInfoResponse {
            output: &self.bytes,
        }
        .encode(&mut body);
        Ok(Response {
            status,
            ..Response::of(body)
        })
    }
}

async fn file_information(
    open: &Open,
    class: FileInfoClass,
    cx: &Context,
) -> Result<Answer, NtStatus> {
    if let Some(pipe) = open.pipe() {
        return super::named_pipe::information(pipe, class).map(Answer::fixed);
    }
    let disk = open.disk()?;
    match class {
        FileInfoClass::Basic
        | FileInfoClass::All
        | FileInfoClass::NetworkOpen
        | FileInfoClass::AttributeTag => disk.require_any(AccessMask::READ_ATTRIBUTES)?,
        FileInfoClass::FullEa => {
            disk.require_any(AccessMask::READ_EA)?;
            return Err(NtStatus::NO_EAS_ON_FILE);
        }
        _ => {}
    }
    let metadata = cx.metadata(open).await?;
    let standard = FileStandardInfo {
        allocation_size: metadata.allocation_size,
        end_of_file: metadata.end_of_file,
        number_of_links: metadata.links,
        delete_pending: cx.child.broker.is_delete_pending(disk.grant),
        directory: metadata.is_directory(),
    };
    let normalized_names = cx.connection.dialect() == Some(Dialect::Smb311);
    encode_file_information(disk, class, &metadata, standard, normalized_names)
}

fn encode_file_information(
    disk: &DiskOpen,
    class: FileInfoClass,
    metadata: &Metadata,
    standard: FileStandardInfo,
    normalized_names: bool,
) -> Result<Answer, NtStatus> {
    let basic = FileBasicInfo {
        creation_time: metadata.creation_time,
        last_access_time: metadata.last_access_time,
        last_write_time: metadata.last_write_time,
        change_time: metadata.change_time,
        file_attributes: metadata.attributes,
    };
    let internal = FileInternalInfo {
        index_number: metadata.key.inode,
    };
    let access = FileAccessInfo {
        access_flags: disk.granted,
    };
    let position = FilePositionInfo {
        current_byte_offset: disk.position.get(),
    };
    let mode = FileModeInfo {
        mode: (disk.options & MODE_OPTIONS).bits(),
    };
    let mut out = Vec::new();
    match class {
        FileInfoClass::Basic => basic.encode(&mut out),
        FileInfoClass::Standard => standard.encode(&mut out),
        FileInfoClass::Internal => internal.encode(&mut out),
        FileInfoClass::Ea => FileEaInfo::default().encode(&mut out),
        FileInfoClass::Access => access.encode(&mut out),
        FileInfoClass::Position => position.encode(&mut out),
        FileInfoClass::Mode => mode.encode(&mut out),
        FileInfoClass::Alignment => FileAlignmentInfo::default().encode(&mut out),
        FileInfoClass::NetworkOpen => FileNetworkOpenInfo {
            creation_time: basic.creation_time,
            last_access_time: basic.last_access_time,
            last_write_time: basic.last_write_time,
            change_time: basic.change_time,
            allocation_size: standard.allocation_size,
            end_of_file: standard.end_of_file,
            file_attributes: basic.file_attributes,
        }
        .encode(&mut out),
        FileInfoClass::AttributeTag => FileAttributeTagInfo {
            file_attributes: basic.file_attributes,
            reparse_tag: 0,
        }
        .encode(&mut out),
        FileInfoClass::Compression => FileCompressionInfo {
            compressed_file_size: standard.end_of_file,
            ..FileCompressionInfo::default()
        }
        .encode(&mut out),
        FileInfoClass::Id => {
            let mut file_id = [0; 16];
            file_id[..8].copy_from_slice(&metadata.key.inode.to_le_bytes());
            FileIdInfo {
                volume_serial_number: metadata.key.device,
                file_id,
            }
            .encode(&mut out);
        }
        FileInfoClass::All => {
            let fixed = FileAllFixed {
                basic,
                standard,
                internal,
                ea: FileEaInfo::default(),
                access,
                position,
                mode,
                alignment: FileAlignmentInfo::default(),
            };
            let name = disk.file.path().to_wire();
            FileAllInfo { fixed, name: &name }.encode(&mut out);
            return Ok(Answer {
                bytes: out,
                minimum: 104,
            });
        }
        FileInfoClass::Name => {
            let name = disk.file.path().to_wire();
            FileNameInfo { name: &name }.encode(&mut out);
            return Ok(Answer {
                bytes: out,
                minimum: 8,
            });
        }
        FileInfoClass::NormalizedName if normalized_names => {
            // MS-FSCC 2.4.36: from the share's directory, without a separator in front.
            let name = utf16::encode(&disk.file.path().as_str().replace('/', "\\"));
            FileNameInfo { name: &name }.encode(&mut out);
            return Ok(Answer {
                bytes: out,
                minimum: 8,
            });
        }
        FileInfoClass::Stream => {
            if !metadata.is_directory() {
                let mut list = ListWriter::new(&mut out, 8, usize::MAX);
                let stream = FileStreamInfo {
                    size: metadata.end_of_file,
                    allocation_size: metadata.allocation_size,
                    name: &utf16::encode("::$DATA"),
                };
                stream.write(&mut list);
            }
            return Ok(Answer {
                bytes: out,
                minimum: 32,
            });
        }
        FileInfoClass::AlternateName => {
            // A name of that form is its own; others have none.
            let path = disk.file.path();
            let name = Some(path.name())
                .filter(|name| name::is_short(name))
                .ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            FileNameInfo {
                name: &utf16::encode(name),
            }
            .encode(&mut out);
            return Ok(Answer {
                bytes: out,
                minimum: 8,
            });
        }
        FileInfoClass::NormalizedName => return Err(NtStatus::NOT_SUPPORTED),
        _ => return Err(NtStatus::INVALID_INFO_CLASS),
    }
    Ok(Answer::fixed(out))
}

/// What FileModeInformation shows of CreateOptions (MS-FSCC 2.4.31).
const MODE_OPTIONS: CreateOptions = CreateOptions::WRITE_THROUGH
    .union(CreateOptions::SEQUENTIAL_ONLY)
    .union(CreateOptions::NO_INTERMEDIATE_BUFFERING)
    .union(CreateOptions::SYNCHRONOUS_IO_ALERT)
    .union(CreateOptions::SYNCHRONOUS_IO_NONALERT)
    .union(CreateOptions::DELETE_ON_CLOSE);

async fn file_system_information(
    open: &Open,
    class: FsInfoClass,
    cx: &Context,
) -> Result<Answer, NtStatus> {
    let file = Arc::clone(&open.disk()?.file);
    let read_only = open.tree.read_only;
    let bytes = cx
        .as_user(move || volume::query(&file, class, read_only))
        .await?;
    // The names behind these two may be cut off, but for what pads the fixed part
    // (MS-FSCC 2.5.9, 2.5.1).
    let minimum = match class {
        FsInfoClass::Volume => 24,
        FsInfoClass::Attribute => 16,
        _ => bytes.len(),
    };
    Ok(Answer { bytes, minimum })
}

/// MS-SMB2 3.3.5.20.3: a descriptor is sent whole, or the size it needs.
async fn security_information(
    open: &Open,
    parts: SecurityInformation,
    limit: usize,
    cx: &Context,
) -> Result<Response, NtStatus> {
    let disk = open.disk()?;
    if parts.contains(SecurityInformation::SACL) {
        disk.require_any(AccessMask::ACCESS_SYSTEM_SECURITY)?;
    }
    // Nothing asked for is nothing read (MS-SMB2 3.3.5.20.3).
    if !parts.is_empty() {
        disk.require_any(AccessMask::READ_CONTROL)?;
    }
    let metadata = cx.metadata(open).await?;
    let bytes = security_descriptor::encode(&metadata, parts);
    if bytes.len() <= limit {
        return Answer::fixed(bytes).within(limit);
    }
    let needed = (bytes.len() as u32).to_le_bytes();
    let mut body = Vec::new();
    if cx.connection.dialect() == Some(Dialect::Smb311) {
        let context = ErrorContext {
            error_id: ErrorContext::ID_DEFAULT,
            data: &needed,
        };
        ErrorResponse {
            context_count: 1,
            data: &ErrorResponse::contexts_data(&[context]),
        }
        .encode(&mut body);
    } else {
        ErrorResponse {
            context_count: 0,
            data: &needed,
        }
        .encode(&mut body);
    }
    Ok(Response {
        status: NtStatus::BUFFER_TOO_SMALL,
        ..Response::of(body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_too_small_is_an_error_for_what_is_fixed_and_a_warning_for_what_varies() {
        let answer = || Answer {
            bytes: vec![7; 20],
            minimum: 10,
        };
        assert_eq!(
            answer().within(9).err(),
            Some(NtStatus::INFO_LENGTH_MISMATCH)
        );
        let cut = answer().within(10).unwrap();
        assert_eq!(cut.status, NtStatus::BUFFER_OVERFLOW);
        assert_eq!(cut.body.len(), 8 + 10);
        assert_eq!(
            answer().within(20).map(|whole| whole.status),
            Ok(NtStatus::SUCCESS)
        );
    }
}
