//! NEGOTIATE with its contexts, SESSION_SETUP, TREE_CONNECT (MS-SMB2 2.2.3 to 2.2.10).

use proto::smb2::negotiate::{NegotiateRequest, NegotiateResponse};
use proto::smb2::negotiate_context::{
    Compression, ContextType, NegotiateContexts, PreauthIntegrity, RawContext, decode_algorithms,
    decode_rdma_transforms,
};
use proto::smb2::session_setup::{SessionSetupRequest, SessionSetupResponse};
use proto::smb2::tree_connect::{TreeConnectRequest, TreeConnectResponse};
use proto::wire::WireError;

use super::flags;
use super::meaning::{Meaning, offset_in};
use super::smb2::Element;

/// A context's type, length and reserved field stand before its data.
const CONTEXT_HEADER: u64 = 8;

pub fn negotiate(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = NegotiateRequest::decode(element.bytes)?;
        meaning.number("smb2.dialect_count", request.dialects().len() as u64);
        let mode = request.security_mode.bits();
        meaning.flags("smb2.sec_mode", mode, flags::SECURITY_MODE);
        let capabilities = request.capabilities.bits();
        meaning.flags("smb2.capabilities", capabilities, flags::CAPABILITIES);
        meaning.guid("smb2.client_guid", request.client_guid);
        for dialect in request.dialects() {
            meaning.number("smb2.dialect", dialect);
        }
        return contexts(element, request.contexts, meaning);
    }
    let response = NegotiateResponse::decode(element.bytes)?;
    let mode = response.security_mode.bits();
    meaning.flags("smb2.sec_mode", mode, flags::SECURITY_MODE);
    meaning.number("smb2.dialect", response.dialect_revision);
    meaning.guid("smb2.server_guid", response.server_guid);
    let capabilities = response.capabilities.bits();
    meaning.flags("smb2.capabilities", capabilities, flags::CAPABILITIES);
    meaning.number("smb2.max_trans_size", response.max_transact_size);
    meaning.number("smb2.max_read_size", response.max_read_size);
    meaning.number("smb2.max_write_size", response.max_write_size);
    meaning.time("smb2.current_time", response.system_time);
    meaning.time("smb2.boot_time", response.server_start_time);
    meaning.buffer(element.bytes, response.security_buffer);
    meaning.bytes("smb2.security_blob", response.security_buffer);
    contexts(element, response.contexts, meaning)
}

fn contexts(
    element: &Element<'_>,
    contexts: NegotiateContexts<'_>,
    meaning: &mut Meaning,
) -> Result<(), WireError> {
    meaning.number("smb2.negotiate_context.count", contexts.count());
    let mut first = None;
    for found in contexts.iter() {
        let found = found?;
        first.get_or_insert(offset_in(element.bytes, found.data) - CONTEXT_HEADER);
        meaning.number("smb2.negotiate_context.type", found.context_type.0);
        let length = found.data.len() as u64;
        meaning.number("smb2.negotiate_context.data_length", length);
        context(found, meaning)?;
    }
    match first {
        Some(offset) => meaning.number("smb2.negotiate_context.offset", offset),
        None => meaning.anything("smb2.negotiate_context.offset"),
    }
    Ok(())
}

fn context(found: RawContext<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    match found.context_type {
        ContextType::PREAUTH_INTEGRITY_CAPABILITIES => {
            let preauth = PreauthIntegrity::decode(found.data)?;
            let algorithms = preauth.hash_algorithms.iter();
            let names = [
                "smb2.negotiate_context.hash_alg_count",
                "smb2.negotiate_context.hash_algorithm",
            ];
            counted(names, algorithms, meaning);
            let length = preauth.salt.len() as u64;
            meaning.number("smb2.negotiate_context.salt_length", length);
            meaning.bytes("smb2.negotiate_context.salt", preauth.salt);
        }
        ContextType::ENCRYPTION_CAPABILITIES => {
            let names = [
                "smb2.negotiate_context.cipher_count",
                "smb2.negotiate_context.cipher_id",
            ];
            counted(names, decode_algorithms(found.data)?.iter(), meaning);
        }
        ContextType::SIGNING_CAPABILITIES => {
            let names = [
                "smb2.negotiate_context.signing_alg_count",
                "smb2.negotiate_context.signing_id",
            ];
            counted(names, decode_algorithms(found.data)?.iter(), meaning);
        }
        ContextType::COMPRESSION_CAPABILITIES => {
            let compression = Compression::decode(found.data)?;
            let names = [
                "smb2.negotiate_context.comp_alg_count",
                "smb2.negotiate_context.comp_alg_id",
            ];
            counted(names, compression.algorithms.iter(), meaning);
            let name = "smb2.negotiate_context.comp_alg_flags";
            meaning.flags(name, compression.flags.bits(), flags::COMPRESSION);
        }
        ContextType::RDMA_TRANSFORM_CAPABILITIES => {
            let names = [
                "smb2.negotiate_context.rdma_transform_count",
                "smb2.negotiate_context.rdma_transform_id",
            ];
            counted(names, decode_rdma_transforms(found.data)?.iter(), meaning);
        }
        // Of other clients, and nothing to this server.
        ContextType::NETNAME_NEGOTIATE_CONTEXT_ID => {
            meaning.utf16("smb2.negotiate_context.netname", found.data);
        }
        ContextType::CONTEXTTYPE_RESERVED => {
            meaning.bytes("smb2.negotiate_context.posix_reserved", found.data);
        }
        _ => {}
    }
    Ok(())
}

fn counted(
    [count, each]: [&'static str; 2],
    ids: impl ExactSizeIterator<Item = u16>,
    meaning: &mut Meaning,
) {
    meaning.number(count, ids.len() as u64);
    for id in ids {
        meaning.number(each, id);
    }
}

pub fn session_setup(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    let buffer = if element.header.is_response() {
        let response = SessionSetupResponse::decode(element.bytes)?;
        let session = response.session_flags.bits();
        meaning.flags("smb2.session_flags", session, flags::SESSION);
        response.security_buffer
    } else {
        let request = SessionSetupRequest::decode(element.bytes)?;
        let setup = request.flags.bits();
        meaning.flags("smb2.ses_req_flags", setup, flags::SESSION_SETUP);
        let mode = request.security_mode.bits();
        meaning.flags("smb2.sec_mode", mode, flags::SECURITY_MODE);
        let capabilities = request.capabilities.bits();
        meaning.flags("smb2.capabilities", capabilities, flags::CAPABILITIES);
        meaning.number("smb2.channel", request.channel);
        meaning.number("smb2.previous_sesid", request.previous_session_id.0);
        request.security_buffer
    };
    meaning.buffer(element.bytes, buffer);
    meaning.bytes("smb2.security_blob", buffer);
    Ok(())
}

pub fn tree_connect(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = TreeConnectRequest::decode(element.bytes)?;
        let connect = request.flags.bits();
        meaning.flags("smb2.tc.flags", connect, flags::TREE_CONNECT);
        meaning.buffer(element.bytes, request.path);
        meaning.utf16("smb2.tree", request.path);
        return Ok(());
    }
    let response = TreeConnectResponse::decode(element.bytes)?;
    meaning.number("smb2.share_type", u8::from(response.share_type));
    let share = response.share_flags.bits();
    meaning.flags("smb2.share_flags", share, flags::SHARE);
    let caching = u64::from(share) & flags::CACHING_POLICY;
    meaning.number("smb2.share.caching", caching);
    let capabilities = response.capabilities.bits();
    meaning.flags("smb2.share_caps", capabilities, flags::SHARE_CAPABILITIES);
    let access = response.maximal_access.bits();
    meaning.flags("smb.access_mask", access, flags::ACCESS);
    Ok(())
}
