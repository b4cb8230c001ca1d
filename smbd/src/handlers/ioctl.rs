//! IOCTL (MS-SMB2 3.3.5.15): control codes of the connection, of pipes and of files.

use proto::smb2::fsctl::{
    CtlCode, InterfaceCapability, NetworkInterface, ValidateNegotiateRequest,
    ValidateNegotiateResponse,
};
use proto::smb2::ioctl::{IoctlRequest, IoctlResponse};
use proto::smb2::negotiate::Capabilities;
use proto::smb2::{Dialect, FileId, NtStatus};

use super::{Context, Response, malformed, server_copy};

pub async fn handle(element: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = IoctlRequest::decode(element).map_err(malformed)?;
    // MS-SMB2 3.3.5.15: whatever is no FSCTL is not supported.
    if request.flags != IoctlRequest::IS_FSCTL {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let largest = request
        .max_input_response
        .max(request.max_output_response)
        .max(u32::try_from(request.input.len()).unwrap_or(u32::MAX));
    if largest > cx.connection.max_transact() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut status = NtStatus::SUCCESS;
    let output = match request.ctl_code {
        CtlCode::VALIDATE_NEGOTIATE_INFO => validate_negotiate(&request, cx)?,
        CtlCode::QUERY_NETWORK_INTERFACE_INFO => network_interfaces(&request, cx)?,
        // What a stand-alone Samba answers: there is no DFS here.
        CtlCode::DFS_GET_REFERRALS | CtlCode::DFS_GET_REFERRALS_EX => {
            return Err(NtStatus::NOT_FOUND);
        }
        CtlCode::CREATE_OR_GET_OBJECT_ID => object_id(&request, cx)?,
        CtlCode::SRV_REQUEST_RESUME_KEY => server_copy::resume_key(&request, cx)?,
        CtlCode::SRV_COPYCHUNK | CtlCode::SRV_COPYCHUNK_WRITE => {
            let reads_target = request.ctl_code == CtlCode::SRV_COPYCHUNK;
            let (outcome, output) = server_copy::copy(&request, reads_target, cx).await?;
            status = outcome;
            output
        }
        CtlCode::GET_COMPRESSION => {
            cx.open(request.file_id)?.disk()?;
            // COMPRESSION_FORMAT_NONE (MS-FSCC 2.3.17).
            vec![0; 2]
        }
        CtlCode::SET_COMPRESSION => {
            cx.open(request.file_id)?.disk()?;
            if request.input != [0; 2] {
                return Err(NtStatus::NOT_SUPPORTED);
            }
            Vec::new()
        }
        CtlCode::PIPE_TRANSCEIVE => {
            let open = cx.open(request.file_id)?;
            let answer = super::named_pipe::transceive(&open, &request, cx).await?;
            status = answer.status();
            answer.data
        }
        CtlCode::SMBTORTURE_GLOBAL_READ_RESPONSE_BODY_PADDING8
            if cx.child.config.global.smbtorture =>
        {
            if request.file_id != FileId::RELATED || !request.input.is_empty() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            cx.connection.read_padding.set(8);
            Vec::new()
        }
        CtlCode::PIPE_WAIT => {
            super::named_pipe::wait(&request, cx)?;
            Vec::new()
        }
        _ => {
            // A file that is not open goes before a code that is not known.
            cx.open(request.file_id)?;
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
    };
    let mut body = Vec::new();
    IoctlResponse {
        ctl_code: request.ctl_code,
        file_id: request.file_id,
        input: &[],
        output: &output,
        flags: 0,
    }
    .encode(&mut body);
    Ok(Response {
        status,
        ..Response::of(body)
    })
}

/// FSCTL_CREATE_OR_GET_OBJECT_ID (MS-FSCC 2.3.1, 2.1.3): an identifier made of what the file is, the
/// same for as long as it exists, and of this server. Nothing is stored.
fn object_id(request: &IoctlRequest<'_>, cx: &Context) -> Result<Vec<u8>, NtStatus> {
    const SIZE: usize = 64;
    let open = cx.open(request.file_id)?;
    let key = open.disk()?.file.key();
    let object = [key.inode.to_le_bytes(), key.device.to_le_bytes()].concat();
    // ObjectId, BirthVolumeId, BirthObjectId, DomainId (always zero).
    let mut output = object.clone();
    output.extend_from_slice(&cx.child.identity.guid.0);
    output.extend_from_slice(&object);
    // A client that has no room for all of it gets what fits.
    output.resize(SIZE.min(request.max_output_response as usize), 0);
    Ok(output)
}

/// MS-SMB2 3.3.5.15.12: a client checks, signed, what was negotiated in the clear. Whatever differs
/// was changed on the way, and the connection ends.
fn validate_negotiate(request: &IoctlRequest<'_>, cx: &Context) -> Result<Vec<u8>, NtStatus> {
    let negotiated = cx
        .connection
        .negotiated
        .get()
        .ok_or(NtStatus::INVALID_PARAMETER)?;
    let differs = |what: &str| {
        cx.connection.end(format!(
            "FSCTL_VALIDATE_NEGOTIATE_INFO: {what} (MS-SMB2 3.3.5.15.12)"
        ));
        NtStatus::ACCESS_DENIED
    };
    if negotiated.dialect == Dialect::Smb311 {
        return Err(differs(
            "sent on dialect 3.1.1, which protects its negotiation itself",
        ));
    }
    let client = ValidateNegotiateRequest::decode(request.input).map_err(malformed)?;
    if (request.max_output_response as usize) < ValidateNegotiateResponse::SIZE {
        return Err(differs("no room for the answer"));
    }
    if !client
        .dialects()
        .eq(negotiated.client_dialects.iter().copied())
    {
        return Err(differs("other dialects than those negotiated"));
    }
    if client.client_guid != negotiated.client_guid {
        return Err(differs("another ClientGuid than the one negotiated"));
    }
    if client.security_mode != negotiated.client_security_mode {
        return Err(differs("another SecurityMode than the one negotiated"));
    }
    if client.capabilities != negotiated.client_capabilities {
        return Err(differs("other Capabilities than those negotiated"));
    }
    let mut output = Vec::new();
    ValidateNegotiateResponse {
        capabilities: negotiated.capabilities,
        server_guid: cx.child.identity.guid,
        security_mode: negotiated.security_mode,
        dialect: negotiated.dialect.into(),
    }
    .encode(&mut output);
    Ok(output)
}

/// MS-SMB2 3.3.5.15.11: where else this server can be reached.
fn network_interfaces(request: &IoctlRequest<'_>, cx: &Context) -> Result<Vec<u8>, NtStatus> {
    let offered = cx.connection.negotiated.get().is_some_and(|negotiated| {
        negotiated
            .capabilities
            .contains(Capabilities::MULTI_CHANNEL)
    });
    if !offered {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    if request.file_id != FileId::RELATED {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let interfaces: Vec<NetworkInterface> = cx
        .child
        .interfaces
        .borrow()
        .iter()
        .map(|interface| {
            let mut capability = InterfaceCapability::empty();
            capability.set(InterfaceCapability::RSS_CAPABLE, interface.rss);
            capability.set(InterfaceCapability::RDMA_CAPABLE, interface.rdma);
            NetworkInterface {
                if_index: interface.if_index,
                capability,
                link_speed: interface.speed,
                address: interface.address,
            }
        })
        .collect();
    let mut output = Vec::new();
    NetworkInterface::encode_list(&interfaces, &mut output);
    if output.len() > request.max_output_response as usize {
        return Err(NtStatus::BUFFER_TOO_SMALL);
    }
    Ok(output)
}
