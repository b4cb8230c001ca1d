//! Copies between files of the server at a client's word (MS-SMB2 3.3.5.15.5, 3.3.5.15.6):
//! FSCTL_SRV_REQUEST_RESUME_KEY names a source, FSCTL_SRV_COPYCHUNK copies parts of it.
//!
//! `ioctl` calls it. The copying runs on the pool as the user who opened the target; the source's
//! open has proven that its user may read it.

use std::sync::Arc;

use proto::smb2::fsctl::{CopyChunk, CopyChunkRequest, CopyChunkResponse, ResumeKeyResponse};
use proto::smb2::ioctl::IoctlRequest;
use proto::smb2::{AccessMask, FileId, NtStatus};

use super::{Context, malformed};
use crate::vfs::File;

/// ServerSideCopyMaxNumberofChunks, ServerSideCopyMaxChunkSize and ServerSideCopyMaxDataSize: as
/// Windows has them (MS-SMB2 3.3.3).
const MAX_CHUNKS: u32 = 256;
const MAX_CHUNK_SIZE: u32 = 1 << 20;
const MAX_DATA_SIZE: u32 = 16 << 20;

/// The key of an open: its identifier, which says nothing to anybody but its session.
pub fn resume_key(request: &IoctlRequest<'_>, cx: &Context) -> Result<Vec<u8>, NtStatus> {
    let open = cx.open(request.file_id)?;
    open.disk()?;
    if (request.max_output_response as usize) < RESUME_KEY_SIZE {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut resume_key = [0; 24];
    let (persistent, rest) = resume_key.split_at_mut(8);
    persistent.copy_from_slice(&open.id.persistent.to_le_bytes());
    rest[..8].copy_from_slice(&open.id.volatile.to_le_bytes());
    let mut output = Vec::new();
    ResumeKeyResponse {
        resume_key,
        context_length: 0,
    }
    .encode(&mut output);
    // Context, which is not used.
    output.resize(RESUME_KEY_SIZE, 0);
    Ok(output)
}

/// Copies, and says how much. Asked for more than is allowed at once, it says how much that is.
/// `reads_target` for FSCTL_SRV_COPYCHUNK, which asks for more rights than the _WRITE of it.
pub async fn copy(
    request: &IoctlRequest<'_>,
    reads_target: bool,
    cx: &Context,
) -> Result<(NtStatus, Vec<u8>), NtStatus> {
    let target = cx.open(request.file_id)?;
    if (request.max_output_response as usize) < COPY_RESPONSE_SIZE {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let wanted = CopyChunkRequest::decode(request.input).map_err(malformed)?;
    let id = wanted
        .source_key
        .first_chunk()
        .zip(wanted.source_key.get(8..16));
    let source = id
        .and_then(|(persistent, volatile)| {
            Some(FileId {
                persistent: u64::from_le_bytes(*persistent),
                volatile: u64::from_le_bytes(volatile.try_into().ok()?),
            })
        })
        .and_then(|id| cx.session().ok()?.opens.find(id).ok())
        .ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
    let (from, to) = (source.disk()?, target.disk()?);
    if from.file.is_directory() || to.file.is_directory() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    from.require_any(AccessMask::READ_DATA | AccessMask::EXECUTE)?;
    to.require_any(AccessMask::WRITE_DATA | AccessMask::APPEND_DATA)?;
    if reads_target {
        to.require_any(AccessMask::READ_DATA)?;
    }
    let mut output = Vec::new();
    if exceeds(&wanted.chunks) {
        CopyChunkResponse {
            chunks_written: MAX_CHUNKS,
            chunk_bytes_written: MAX_CHUNK_SIZE,
            total_bytes_written: MAX_DATA_SIZE,
        }
        .encode(&mut output);
        return Ok((NtStatus::INVALID_PARAMETER, output));
    }
    let (from, to) = (Arc::clone(&from.file), Arc::clone(&to.file));
    let chunks = wanted.chunks;
    let copy = move || Ok(copy_chunks(&from, &to, &chunks));
    let (response, outcome) = cx.as_user(copy).await?;
    response.encode(&mut output);
    Ok((outcome.err().unwrap_or(NtStatus::SUCCESS), output))
}

const RESUME_KEY_SIZE: usize = 32;
const COPY_RESPONSE_SIZE: usize = 12;

fn exceeds(chunks: &[CopyChunk]) -> bool {
    let total: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    chunks.len() > MAX_CHUNKS as usize
        || total > MAX_DATA_SIZE.into()
        || chunks
            .iter()
            .any(|chunk| chunk.length == 0 || chunk.length > MAX_CHUNK_SIZE)
}

/// On a pool thread. The first chunk that can't be copied ends it; those before it stay copied, and
/// the response counts them.
fn copy_chunks(
    from: &File,
    to: &File,
    chunks: &[CopyChunk],
) -> (CopyChunkResponse, Result<(), NtStatus>) {
    let mut response = CopyChunkResponse {
        chunks_written: 0,
        chunk_bytes_written: 0,
        total_bytes_written: 0,
    };
    for chunk in chunks {
        match copy_chunk(from, to, chunk) {
            Ok(count) => {
                response.chunks_written += 1;
                response.total_bytes_written += count;
            }
            Err(status) => return (response, Err(status)),
        }
    }
    (response, Ok(()))
}

fn copy_chunk(from: &File, to: &File, chunk: &CopyChunk) -> Result<u32, NtStatus> {
    let length = u64::from(chunk.length);
    let end = |offset: u64| {
        offset
            .checked_add(length)
            .filter(|end| *end <= i64::MAX as u64)
            .ok_or(NtStatus::INVALID_PARAMETER)
    };
    end(chunk.target_offset)?;
    if end(chunk.source_offset)? > from.end_of_file()? {
        return Err(NtStatus::INVALID_VIEW_SIZE);
    }
    from.check_locks(false, chunk.source_offset, length)?;
    to.check_locks(true, chunk.target_offset, length)?;
    from.copy_to(to, chunk.source_offset, chunk.target_offset, chunk.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(length: u32) -> CopyChunk {
        CopyChunk {
            source_offset: 0,
            target_offset: 0,
            length,
        }
    }

    #[test]
    fn chunks_are_bounded_in_number_size_and_sum() {
        assert!(!exceeds(&[chunk(MAX_CHUNK_SIZE); 16]));
        assert!(!exceeds(&[chunk(1); 256]));
        for beyond in [
            vec![chunk(MAX_CHUNK_SIZE); 17],
            vec![chunk(1); 257],
            vec![chunk(MAX_CHUNK_SIZE + 1)],
            vec![chunk(0)],
        ] {
            assert!(exceeds(&beyond));
        }
    }
}
