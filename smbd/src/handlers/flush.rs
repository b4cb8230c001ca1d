//! FLUSH (MS-SMB2 3.3.5.11): what was written is on disk when it is answered.

use std::sync::Arc;

use proto::smb2::flush::{FlushRequest, FlushResponse};
use proto::smb2::{AccessMask, NtStatus};

use super::{Context, Response, malformed};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = FlushRequest::decode(request).map_err(malformed)?;
    let open = cx.open(request.file_id)?;
    let disk = open.disk()?;
    disk.require_any(AccessMask::WRITE_DATA | AccessMask::APPEND_DATA)?;
    let file = Arc::clone(&disk.file);
    cx.as_user(move || file.flush()).await?;
    let mut body = Vec::new();
    FlushResponse.encode(&mut body);
    Ok(Response::of(body))
}
