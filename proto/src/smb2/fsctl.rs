//! Control codes of IOCTL (MS-SMB2 2.2.31, MS-FSCC 2.3) and the payloads a server reads or
//! writes itself: negotiate validation, network interfaces, resume keys and pipe waits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};

use super::ids::Guid;
use super::negotiate::{Capabilities, SecurityMode};
use crate::wire::{Reader, WireError, length_u16, length_u32};

/// CtlCode. Any 32 bits may arrive; unknown ones are answered, not refused while decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CtlCode(pub u32);

impl CtlCode {
    pub const DFS_GET_REFERRALS: Self = Self(0x0006_0194);
    pub const DFS_GET_REFERRALS_EX: Self = Self(0x0006_01B0);
    pub const SET_REPARSE_POINT: Self = Self(0x0009_00A4);
    pub const GET_REPARSE_POINT: Self = Self(0x0009_00A8);
    pub const DELETE_REPARSE_POINT: Self = Self(0x0009_00AC);
    pub const CREATE_OR_GET_OBJECT_ID: Self = Self(0x0009_00C0);
    pub const SET_SPARSE: Self = Self(0x0009_00C4);
    pub const FILE_LEVEL_TRIM: Self = Self(0x0009_8208);
    pub const SET_ZERO_DATA: Self = Self(0x0009_80C8);
    pub const QUERY_ALLOCATED_RANGES: Self = Self(0x0009_40CF);
    pub const DUPLICATE_EXTENTS_TO_FILE: Self = Self(0x0009_8344);
    pub const GET_COMPRESSION: Self = Self(0x0009_003C);
    pub const SET_COMPRESSION: Self = Self(0x0009_C040);
    pub const GET_INTEGRITY_INFORMATION: Self = Self(0x0009_027C);
    pub const SET_INTEGRITY_INFORMATION: Self = Self(0x0009_C280);
    pub const GET_NTFS_VOLUME_DATA: Self = Self(0x0009_0064);
    pub const QUERY_FILE_REGIONS: Self = Self(0x0009_0284);
    pub const PIPE_PEEK: Self = Self(0x0011_400C);
    pub const PIPE_WAIT: Self = Self(0x0011_0018);
    pub const PIPE_TRANSCEIVE: Self = Self(0x0011_C017);
    pub const SRV_ENUMERATE_SNAPSHOTS: Self = Self(0x0014_4064);
    pub const SRV_REQUEST_RESUME_KEY: Self = Self(0x0014_0078);
    pub const SRV_READ_HASH: Self = Self(0x0014_41BB);
    pub const SRV_COPYCHUNK: Self = Self(0x0014_40F2);
    pub const SRV_COPYCHUNK_WRITE: Self = Self(0x0014_80F2);
    pub const LMR_REQUEST_RESILIENCY: Self = Self(0x0014_01D4);
    pub const QUERY_NETWORK_INTERFACE_INFO: Self = Self(0x0014_01FC);
    pub const VALIDATE_NEGOTIATE_INFO: Self = Self(0x0014_0204);
    /// smbtorture's own, not Microsoft's: from now on the connection's READ responses have eight
    /// bytes before their data. Tests that a client heeds DataOffset.
    pub const SMBTORTURE_GLOBAL_READ_RESPONSE_BODY_PADDING8: Self = Self(0x8384_8023);
}

/// VALIDATE_NEGOTIATE_INFO request (MS-SMB2 2.2.31.4).
#[derive(Debug, Clone, Copy)]
pub struct ValidateNegotiateRequest<'a> {
    pub capabilities: Capabilities,
    pub client_guid: Guid,
    pub security_mode: SecurityMode,
    dialects: &'a [U16],
}

wire_structs! {
    struct ValidateWire {
        capabilities: U32,
        guid: [u8; 16],
        security_mode: U16,
        // DialectCount in the request, Dialect in the response.
        dialect: U16,
    }

    struct InterfaceWire {
        next: U32,
        if_index: U32,
        capability: U32,
        reserved: U32,
        link_speed: U64,
        family: U16,
        // Port, then the address; the rest of SockAddr_Storage is reserved.
        address: [u8; 126],
    }
}

impl<'a> ValidateNegotiateRequest<'a> {
    pub fn decode(input: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(input);
        let wire = reader.fixed::<ValidateWire>("VALIDATE_NEGOTIATE_INFO")?;
        let dialects = reader.bytes(usize::from(wire.dialect.get()) * 2, "Dialects")?;
        Ok(Self {
            capabilities: Capabilities::from_bits_retain(wire.capabilities.get()),
            client_guid: Guid(wire.guid),
            security_mode: SecurityMode::from_bits_retain(wire.security_mode.get()),
            dialects: zerocopy::FromBytes::ref_from_bytes(dialects)
                .map_err(|_| reader.error("Dialects"))?,
        })
    }

    pub fn dialects(&self) -> impl ExactSizeIterator<Item = u16> + Clone + 'a {
        self.dialects.iter().map(|dialect| dialect.get())
    }

    /// Appends the payload a client sends.
    pub fn encode(
        capabilities: Capabilities,
        client_guid: Guid,
        security_mode: SecurityMode,
        dialects: &[u16],
        out: &mut Vec<u8>,
    ) {
        let wire = ValidateWire {
            capabilities: capabilities.bits().into(),
            guid: client_guid.0,
            security_mode: security_mode.bits().into(),
            dialect: length_u16(dialects.len()).into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
        out.extend(dialects.iter().flat_map(|dialect| dialect.to_le_bytes()));
    }
}

/// VALIDATE_NEGOTIATE_INFO response (MS-SMB2 2.2.32.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidateNegotiateResponse {
    pub capabilities: Capabilities,
    pub server_guid: Guid,
    pub security_mode: SecurityMode,
    pub dialect: u16,
}

impl ValidateNegotiateResponse {
    /// What MaxOutputResponse must allow at least (MS-SMB2 3.3.5.15.12).
    pub const SIZE: usize = size_of::<ValidateWire>();

    pub fn decode(output: &[u8]) -> Result<Self, WireError> {
        let wire = Reader::new(output).fixed::<ValidateWire>("VALIDATE_NEGOTIATE_INFO")?;
        Ok(Self {
            capabilities: Capabilities::from_bits_retain(wire.capabilities.get()),
            server_guid: Guid(wire.guid),
            security_mode: SecurityMode::from_bits_retain(wire.security_mode.get()),
            dialect: wire.dialect.get(),
        })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = ValidateWire {
            capabilities: self.capabilities.bits().into(),
            guid: self.server_guid.0,
            security_mode: self.security_mode.bits().into(),
            dialect: self.dialect.into(),
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }
}

bitflags! {
    /// MS-SMB2 2.2.32.5, Capability.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct InterfaceCapability: u32 {
        const RSS_CAPABLE = 0x1;
        const RDMA_CAPABLE = 0x2;
    }
}

/// NETWORK_INTERFACE_INFO (MS-SMB2 2.2.32.5): one address of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkInterface {
    pub if_index: u32,
    pub capability: InterfaceCapability,
    /// Bits per second.
    pub link_speed: u64,
    pub address: IpAddr,
}

const FAMILY_IPV4: u16 = 0x0002;
const FAMILY_IPV6: u16 = 0x0017;

impl NetworkInterface {
    pub const SIZE: usize = size_of::<InterfaceWire>();

    /// Appends a list; Next links the entries and is 0 in the last.
    pub fn encode_list(interfaces: &[Self], out: &mut Vec<u8>) {
        for (index, interface) in interfaces.iter().enumerate() {
            let is_last = index + 1 == interfaces.len();
            interface.encode(if is_last { 0 } else { length_u32(Self::SIZE) }, out);
        }
    }

    fn encode(&self, next: u32, out: &mut Vec<u8>) {
        // 2.2.32.5.1: Port is zero; IPv6 has FlowInfo before and ScopeId behind the address.
        let mut address = [0; 126];
        let family = match self.address {
            IpAddr::V4(v4) => {
                address[2..6].copy_from_slice(&v4.octets());
                FAMILY_IPV4
            }
            IpAddr::V6(v6) => {
                address[6..22].copy_from_slice(&v6.octets());
                FAMILY_IPV6
            }
        };
        let wire = InterfaceWire {
            next: next.into(),
            if_index: self.if_index.into(),
            capability: self.capability.bits().into(),
            reserved: 0.into(),
            link_speed: self.link_speed.into(),
            family: family.into(),
            address,
        };
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&wire));
    }

    /// Decodes a list; entries of an unknown address family are left out.
    pub fn decode_list(output: &[u8]) -> Result<Vec<Self>, WireError> {
        let mut interfaces = Vec::new();
        let mut offset = 0;
        loop {
            let mut reader = Reader::starting_at(output, offset, "Next")?;
            let wire = reader.fixed::<InterfaceWire>("NETWORK_INTERFACE_INFO")?;
            let mut sockaddr = Reader::new(&wire.address);
            sockaddr.skip(2, "Port")?;
            let address = match wire.family.get() {
                FAMILY_IPV4 => Some(IpAddr::V4(Ipv4Addr::from(
                    sockaddr.array::<4>("IPv4Address")?,
                ))),
                FAMILY_IPV6 => {
                    sockaddr.skip(4, "FlowInfo")?;
                    Some(IpAddr::V6(Ipv6Addr::from(
                        sockaddr.array::<16>("IPv6Address")?,
                    )))
                }
                _ => None,
            };
            interfaces.extend(address.map(|address| Self {
                if_index: wire.if_index.get(),
                capability: InterfaceCapability::from_bits_retain(wire.capability.get()),
                link_speed: wire.link_speed.get(),
                address,
            }));
            match wire.next.get() as usize {
                0 => return Ok(interfaces),
                next if next < Self::SIZE => return Err(WireError::new("Next", offset)),
                next => offset = offset.saturating_add(next),
            }
        }
    }
}

/// FSCTL_PIPE_WAIT request (MS-FSCC 2.3.49).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeWaitRequest<'a> {
    /// In 100 ns steps; `None` leaves it to the pipe.
    pub timeout: Option<u64>,
    /// UTF-16LE, without the leading `\pipe\`.
    pub name: &'a [u8],
}

impl<'a> PipeWaitRequest<'a> {
    pub fn decode(input: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(input);
        let timeout = reader.u64("Timeout")?;
        let length = reader.u32("NameLength")? as usize;
        let specified = reader.u8("TimeoutSpecified")? != 0;
        reader.skip(1, "Padding")?;
        Ok(Self {
            timeout: specified.then_some(timeout),
            name: reader.bytes(length, "Name")?,
        })
    }
}

/// SRV_COPYCHUNK_COPY (MS-SMB2 2.2.31.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyChunkRequest {
    pub source_key: [u8; 24],
    pub chunks: Vec<CopyChunk>,
}

/// SRV_COPYCHUNK (MS-SMB2 2.2.31.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyChunk {
    pub source_offset: u64,
    pub target_offset: u64,
    pub length: u32,
}

impl CopyChunkRequest {
    /// ChunkCount is at most what the input has room for.
    pub fn decode(input: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(input);
        let source_key = reader.fixed::<[u8; 24]>("SourceKey")?;
        let count = reader.u32("ChunkCount")?;
        reader.skip(4, "Reserved")?;
        let mut chunks = Vec::new();
        for _ in 0..count {
            let source_offset = reader.u64("SourceOffset")?;
            let target_offset = reader.u64("TargetOffset")?;
            let length = reader.u32("Length")?;
            reader.skip(4, "Reserved")?;
            chunks.push(CopyChunk {
                source_offset,
                target_offset,
                length,
            });
        }
        Ok(Self {
            source_key: *source_key,
            chunks,
        })
    }
}

records! {
    /// SRV_REQUEST_RESUME_KEY response (MS-SMB2 2.2.32.3).
    pub struct ResumeKeyResponse {
        resume_key: [u8; 24],
        context_length: u32,
    }

    /// SRV_COPYCHUNK_RESPONSE (MS-SMB2 2.2.32.1).
    pub struct CopyChunkResponse {
        chunks_written: u32,
        chunk_bytes_written: u32,
        total_bytes_written: u32,
    }

    /// FSCTL_SET_ZERO_DATA request (MS-FSCC 2.3.71).
    pub struct ZeroDataRequest {
        file_offset: u64,
        beyond_final_zero: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_entry_has_152_bytes_and_links_to_the_next() {
        let interfaces = [
            NetworkInterface {
                if_index: 3,
                capability: InterfaceCapability::RDMA_CAPABLE,
                link_speed: 10_000_000_000,
                address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            },
            NetworkInterface {
                if_index: 4,
                capability: InterfaceCapability::RSS_CAPABLE,
                link_speed: 1,
                address: IpAddr::V6(Ipv6Addr::LOCALHOST),
            },
        ];
        let mut out = Vec::new();
        NetworkInterface::encode_list(&interfaces, &mut out);
        assert_eq!(out.len(), 2 * 152);
        #[rustfmt::skip]
        assert_eq!(out[..32], [
            152, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // Next, IfIndex, Capability
            0x00, 0xE4, 0x0B, 0x54, 2, 0, 0, 0, // LinkSpeed
            2, 0, 0, 0, 192, 0, 2, 7, // Family, Port, IPv4Address
        ]);
        assert_eq!(out[152..156], [0; 4]);
        // Family, Port, FlowInfo, IPv6Address, ScopeId.
        assert_eq!(out[152 + 24..152 + 32], [0x17, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[152 + 47], 1);
        assert_eq!(
            NetworkInterface::decode_list(&out).as_deref(),
            Ok(&interfaces[..])
        );
        for length in 0..out.len() {
            assert!(NetworkInterface::decode_list(&out[..length]).is_err());
        }
    }

    #[test]
    fn copy_chunks_are_read_to_the_last_and_no_further() {
        let mut input = vec![7; 24];
        input.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        for number in 1..3u8 {
            input.extend([number, 0, 0, 0, 0, 0, 0, 0, number + 4, 0, 0, 0, 0, 0, 0, 0]);
            input.extend([0, number, 0, 0, 0, 0, 0, 0]);
        }
        let request = CopyChunkRequest::decode(&input).unwrap();
        assert_eq!(request.source_key, [7; 24]);
        let chunk = |number: u64| CopyChunk {
            source_offset: number,
            target_offset: number + 4,
            length: number as u32 * 256,
        };
        assert_eq!(request.chunks, [chunk(1), chunk(2)]);
        for length in 0..input.len() {
            assert!(CopyChunkRequest::decode(&input[..length]).is_err());
        }
    }

    #[test]
    fn a_link_into_its_own_entry_is_refused() {
        let mut out = Vec::new();
        let one = NetworkInterface {
            if_index: 1,
            capability: InterfaceCapability::empty(),
            link_speed: 0,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        NetworkInterface::encode_list(&[one, one], &mut out);
        out[0] = 8;
        assert_eq!(
            NetworkInterface::decode_list(&out),
            Err(WireError::new("Next", 0))
        );
    }

    #[test]
    fn a_wait_for_a_pipe_names_it_and_may_have_a_timeout() {
        let mut golden = vec![5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0];
        golden.extend(b"a\0b\0");
        let wanted = PipeWaitRequest {
            timeout: Some(5),
            name: b"a\0b\0",
        };
        assert_eq!(PipeWaitRequest::decode(&golden), Ok(wanted));
        for length in 0..golden.len() {
            assert!(PipeWaitRequest::decode(&golden[..length]).is_err());
        }
        golden[12] = 0;
        assert_eq!(PipeWaitRequest::decode(&golden).unwrap().timeout, None);
    }

    #[test]
    fn negotiate_validation_has_the_specified_layout() {
        let mut out = Vec::new();
        ValidateNegotiateRequest::encode(
            Capabilities::LARGE_MTU,
            Guid([7; 16]),
            SecurityMode::SIGNING_ENABLED,
            &[0x0300, 0x0302],
            &mut out,
        );
        let mut golden = vec![4, 0, 0, 0];
        golden.extend([7; 16]);
        golden.extend([1, 0, 2, 0, 0x00, 0x03, 0x02, 0x03]);
        assert_eq!(out, golden);
        let decoded = ValidateNegotiateRequest::decode(&golden).unwrap();
        assert!(decoded.dialects().eq([0x0300, 0x0302]));
        for length in 0..golden.len() {
            assert!(ValidateNegotiateRequest::decode(&golden[..length]).is_err());
        }

        let response = ValidateNegotiateResponse {
            capabilities: Capabilities::LARGE_MTU,
            server_guid: Guid([7; 16]),
            security_mode: SecurityMode::SIGNING_ENABLED,
            dialect: 0x0302,
        };
        let mut out = Vec::new();
        response.encode(&mut out);
        assert_eq!(out.len(), ValidateNegotiateResponse::SIZE);
        assert_eq!(out[20..], [1, 0, 0x02, 0x03]);
        assert_eq!(ValidateNegotiateResponse::decode(&out), Ok(response));
    }
}
