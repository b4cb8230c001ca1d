//! ECHO (MS-SMB2 3.3.5.17): the server is there.

use proto::smb2::NtStatus;
use proto::smb2::echo::{EchoRequest, EchoResponse};

use super::{Response, malformed};

pub fn handle(request: &[u8]) -> Result<Response, NtStatus> {
    EchoRequest::decode(request).map_err(malformed)?;
    let mut body = Vec::new();
    EchoResponse.encode(&mut body);
    Ok(Response::of(body))
}
