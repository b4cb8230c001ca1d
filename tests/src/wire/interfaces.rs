//! IOCTL (MS-SMB2 2.2.31, 2.2.32) and the list of interfaces it asks for.

use std::net::IpAddr;

use proto::smb2::fsctl::{CtlCode, NetworkInterface};
use proto::smb2::ioctl::{IoctlRequest, IoctlResponse};
use proto::wire::WireError;

use super::flags;
use super::meaning::Meaning;
use super::smb2::Element;

pub fn ioctl(element: &Element<'_>, meaning: &mut Meaning) -> Result<(), WireError> {
    if !element.header.is_response() {
        let request = IoctlRequest::decode(element.bytes)?;
        function(request.ctl_code, meaning);
        meaning.file_id(request.file_id);
        meaning.number("smb2.max_ioctl_in_size", request.max_input_response);
        meaning.number("smb2.max_ioctl_out_size", request.max_output_response);
        meaning.number("smb2.ioctl.flags", request.flags);
        let is_fsctl = request.flags & IoctlRequest::IS_FSCTL;
        meaning.number("smb2.ioctl.is_fsctl", is_fsctl);
        meaning.buffer(element.bytes, request.output);
        meaning.buffer(element.bytes, request.input);
        meaning.bytes("smb2.ioctl.out", request.output);
        meaning.bytes("smb2.ioctl.in", request.input);
        return Ok(());
    }
    let response = IoctlResponse::decode(element.bytes)?;
    function(response.ctl_code, meaning);
    meaning.file_id(response.file_id);
    meaning.number("smb2.flags", response.flags);
    meaning.buffer(element.bytes, response.input);
    meaning.buffer(element.bytes, response.output);
    meaning.bytes("smb2.ioctl.in", response.input);
    meaning.bytes("smb2.ioctl.out", response.output);
    if response.ctl_code == CtlCode::QUERY_NETWORK_INTERFACE_INFO {
        interfaces(response.output, meaning)?;
    }
    Ok(())
}

/// A control code's parts (MS-FSCC 2.3): device, access, function, method.
fn function(code: CtlCode, meaning: &mut Meaning) {
    meaning.number("smb2.ioctl.function", code.0);
    meaning.number("smb2.ioctl.function.device", code.0 >> 16);
    meaning.number("smb2.ioctl.function.access", code.0 >> 14 & 0x3);
    meaning.number("smb2.ioctl.function.function", code.0 >> 2 & 0xfff);
    meaning.number("smb2.ioctl.function.method", code.0 & 0x3);
}

fn interfaces(output: &[u8], meaning: &mut Meaning) -> Result<(), WireError> {
    let interfaces = NetworkInterface::decode_list(output)?;
    for (at, interface) in interfaces.iter().enumerate() {
        let next = match at + 1 == interfaces.len() {
            true => 0,
            false => NetworkInterface::SIZE as u64,
        };
        meaning.number("smb2.ioctl.network_interfaces.next_offset", next);
        meaning.number("smb2.ioctl.network_interfaces.index", interface.if_index);
        let name = "smb2.ioctl.network_interfaces.capabilities";
        meaning.flags(name, interface.capability.bits(), flags::INTERFACE);
        // Reserved today (2.2.32.5).
        meaning.number("smb2.ioctl.network_interfaces.rss_queue_count", 0u8);
        meaning.number(
            "smb2.ioctl.network_interfaces.link_speed",
            interface.link_speed,
        );
        meaning.number("smb2.windows.sockaddr.port", 0u8);
        match interface.address {
            IpAddr::V4(address) => {
                meaning.number("smb2.windows.sockaddr.family", 2u8);
                meaning.text("smb2.windows.sockaddr.in.addr", address.to_string());
            }
            IpAddr::V6(address) => {
                meaning.number("smb2.windows.sockaddr.family", 23u8);
                meaning.text("smb2.windows.sockaddr.in6.addr", address.to_string());
            }
        }
    }
    Ok(())
}
