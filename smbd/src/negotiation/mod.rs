//! What NEGOTIATE settles (MS-SMB2 3.3.5.3, 3.3.5.4): dialect, capabilities, sizes, algorithms.
//!
//! Pure: from a request, the configuration and what is known of the connection to an [`Agreement`]
//! or the status of a refusal. The handler calls it, asks the broker and sends the answer; nothing
//! here knows a socket, a session or the time.

mod contexts;
#[cfg(test)]
mod tests;

use proto::smb2::multi_protocol::MultiProtocolNegotiate;
use proto::smb2::negotiate::{Capabilities, NegotiateRequest, SecurityMode};
use proto::smb2::{Dialect, Guid, NtStatus};

use crate::channel::{ChannelLimits, Transport};
use crate::compression::Compression;
use crate::config::{Config, Global, ServerEncryption, ServerSigning};
use crate::security::encryption::Cipher;
use crate::security::payload::RdmaTransforms;
use crate::security::signing::SigningAlgorithm;

pub use contexts::{Contexts, SALT_LENGTH};

/// Best first.
const DIALECTS: [Dialect; 5] = [
    Dialect::Smb311,
    Dialect::Smb302,
    Dialect::Smb300,
    Dialect::Smb210,
    Dialect::Smb202,
];
/// What a reply has beside the payload it was sized for: header, fixed part, padding, signature.
const REPLY_OVERHEAD: u32 = 512;
/// A request of 2.0.2 has one credit, and a credit covers this much (MS-SMB2 3.1.5.2).
const SINGLE_CREDIT_SIZE: u32 = 65_536;

/// What an answer depends on beside the request.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    pub config: &'a Config,
    /// What carries the connection.
    pub transport: Transport,
    /// How much it carries in a message.
    pub limits: ChannelLimits,
}

/// What NEGOTIATE settled.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// Connection.Dialect.
    pub dialect: Dialect,
    /// Connection.ClientGuid.
    pub client_guid: Guid,
    /// Connection.ClientCapabilities.
    pub client_capabilities: Capabilities,
    /// Connection.ClientSecurityMode.
    pub client_security_mode: SecurityMode,
    /// Connection.ClientDialects, in the client's order.
    pub client_dialects: Vec<u16>,
    /// Connection.ServerCapabilities.
    pub capabilities: Capabilities,
    /// Connection.ServerSecurityMode.
    pub security_mode: SecurityMode,
    /// Connection.SigningAlgorithmId.
    pub signing: SigningAlgorithm,
    /// Connection.CipherId.
    pub cipher: Option<Cipher>,
    /// Connection.CompressionIds, if there are any.
    pub compression: Option<Compression>,
    /// Connection.RDMATransformIds.
    pub rdma_transforms: RdmaTransforms,
    /// Connection.MaxTransactSize.
    pub max_transact: u32,
    /// Connection.MaxReadSize.
    pub max_read: u32,
    /// Connection.MaxWriteSize.
    pub max_write: u32,
}

/// What was settled, and what the answer says of it beyond its fixed part.
#[derive(Debug, Clone)]
pub struct Agreement {
    pub negotiated: Negotiated,
    pub contexts: Contexts,
}

/// What an SMB1 NEGOTIATE leads to (MS-SMB2 3.3.5.3).
#[derive(Debug, Clone)]
pub enum MultiProtocolAnswer {
    /// 0x02FF: an SMB2 NEGOTIATE is to follow, and settles everything (3.3.5.3.1).
    GoOn(Negotiated),
    /// 2.0.2, settled with this answer (3.3.5.3.2).
    Settled(Negotiated),
}

/// Answers an SMB2 NEGOTIATE.
pub fn agree(request: &NegotiateRequest<'_>, policy: &Policy<'_>) -> Result<Agreement, NtStatus> {
    let global = &policy.config.global;
    if request.dialects().len() == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let dialect = DIALECTS
        .into_iter()
        .find(|dialect| policy.speaks(*dialect) && request.offers(*dialect))
        .ok_or(NtStatus::NOT_SUPPORTED)?;
    let contexts = match dialect {
        Dialect::Smb311 => Contexts::choose(request, policy)?,
        _ => Contexts::default(),
    };
    let mode = request.security_mode;
    let mut negotiated = policy.plain(dialect, contexts.rdma_transforms(), mode);
    negotiated.client_guid = request.client_guid;
    negotiated.client_capabilities = request.capabilities;
    negotiated.client_dialects = request.dialects().collect();
    negotiated.capabilities = capabilities(dialect, request.capabilities, global);
    negotiated.signing = match dialect {
        Dialect::Smb311 => contexts.signing.unwrap_or(SigningAlgorithm::AesCmac),
        Dialect::Smb300 | Dialect::Smb302 => SigningAlgorithm::AesCmac,
        _ => SigningAlgorithm::HmacSha256,
    };
    negotiated.cipher = match contexts.cipher {
        Some(chosen) => chosen,
        // 3.0 and 3.0.2 know one cipher, and settle on it by a capability.
        None => negotiated
            .capabilities
            .contains(Capabilities::ENCRYPTION)
            .then_some(Cipher::Aes128Ccm),
    };
    negotiated.compression = contexts.compression.clone().flatten();
    Ok(Agreement {
        negotiated,
        contexts,
    })
}

/// Answers an SMB1 NEGOTIATE; `None` where it offers nothing that is spoken here: the connection
/// ends without an answer (MS-SMB2 3.3.5.3.2).
pub fn multi_protocol(
    offered: MultiProtocolNegotiate,
    policy: &Policy<'_>,
) -> Option<MultiProtocolAnswer> {
    let speaks_later = DIALECTS
        .into_iter()
        .any(|dialect| dialect != Dialect::Smb202 && policy.speaks(dialect));
    if offered.offers_wildcard && speaks_later {
        return Some(MultiProtocolAnswer::GoOn(policy.unasked(Dialect::Wildcard)));
    }
    (offered.offers_202 && policy.speaks(Dialect::Smb202)).then(|| {
        let mut negotiated = policy.unasked(Dialect::Smb202);
        negotiated.client_dialects = vec![Dialect::Smb202.into()];
        MultiProtocolAnswer::Settled(negotiated)
    })
}

impl Negotiated {
    /// Connection.SupportsNotifications (MS-SMB2 3.3.5.4).
    pub fn supports_notifications(&self) -> bool {
        self.capabilities.contains(Capabilities::NOTIFICATIONS)
    }
}

impl Policy<'_> {
    /// Whether a dialect is allowed by the configuration, and on the transport: SMB Direct carries
    /// 3.0, 3.0.2 and 3.1.1 (MS-SMB2 2.1).
    fn speaks(&self, dialect: Dialect) -> bool {
        let global = &self.config.global;
        let oldest = u16::from(global.server_min_protocol.dialect());
        let newest = u16::from(global.server_max_protocol.dialect());
        (oldest..=newest).contains(&u16::from(dialect))
            && (self.transport == Transport::Tcp || dialect.is_smb3())
    }

    /// A dialect that an SMB1 NEGOTIATE leads to, which says nothing else.
    fn unasked(&self, dialect: Dialect) -> Negotiated {
        self.plain(dialect, RdmaTransforms::default(), SecurityMode::empty())
    }

    /// A dialect, and what sizes follow from it, the transforms and the client's SecurityMode.
    fn plain(
        &self,
        dialect: Dialect,
        rdma_transforms: RdmaTransforms,
        client_security_mode: SecurityMode,
    ) -> Negotiated {
        let sizes = Sizes::of(dialect, self, rdma_transforms, client_security_mode);
        Negotiated {
            dialect,
            client_guid: Default::default(),
            client_capabilities: Capabilities::empty(),
            client_security_mode,
            client_dialects: Vec::new(),
            capabilities: Capabilities::empty(),
            security_mode: security_mode(&self.config.global),
            signing: SigningAlgorithm::HmacSha256,
            cipher: None,
            compression: None,
            rdma_transforms,
            max_transact: sizes.transact,
            max_read: sizes.read,
            max_write: sizes.write,
        }
    }
}

fn capabilities(dialect: Dialect, client: Capabilities, global: &Global) -> Capabilities {
    if dialect == Dialect::Smb202 {
        // All a server of 2.0.2 can say is DFS (MS-SMB2 2.2.4).
        return Capabilities::empty();
    }
    let mut capabilities = Capabilities::LARGE_MTU;
    if dialect.is_smb3()
        && global.server_multi_channel_support
        && client.contains(Capabilities::MULTI_CHANNEL)
    {
        capabilities |= Capabilities::MULTI_CHANNEL;
    }
    if dialect == Dialect::Smb311 {
        capabilities |= client & Capabilities::NOTIFICATIONS;
    }
    // 3.1.1 settles it by a negotiate context instead (MS-SMB2 3.3.5.4).
    if matches!(dialect, Dialect::Smb300 | Dialect::Smb302)
        && global.server_smb_encrypt != ServerEncryption::Off
        && client.contains(Capabilities::ENCRYPTION)
    {
        capabilities |= Capabilities::ENCRYPTION;
    }
    capabilities
}

/// SMB2 can always be signed; whether it must be is the configuration's.
fn security_mode(global: &Global) -> SecurityMode {
    match global.server_signing {
        ServerSigning::Mandatory => SecurityMode::SIGNING_ENABLED | SecurityMode::SIGNING_REQUIRED,
        ServerSigning::Auto | ServerSigning::Disabled => SecurityMode::SIGNING_ENABLED,
    }
}

/// READ and WRITE over TCP: a payload is copied, opened and written while it is in a processor's
/// own cache, which eight megabytes are not. Clients send several at a time.
const MAX_TCP_PAYLOAD: u32 = 1 << 20;

/// The largest payloads of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    transact: u32,
    read: u32,
    write: u32,
}

impl Sizes {
    /// Over RDMA whatever travels inside a message must fit one of the client's, or of ours. READ
    /// and WRITE are not clamped to that while their payload goes by RDMA, since clients take the
    /// size of their RDMA transfers from these fields; where every session is signed or encrypted, and
    /// no RDMA transform does that for a payload, it does not. A client that requires signing is told so
    /// for what it writes.
    fn of(
        dialect: Dialect,
        policy: &Policy<'_>,
        transforms: RdmaTransforms,
        client: SecurityMode,
    ) -> Sizes {
        let global = &policy.config.global;
        let largest = match dialect {
            Dialect::Smb202 => SINGLE_CREDIT_SIZE,
            _ => u32::MAX,
        };
        let sizes = Sizes {
            transact: global.smb2_max_trans.min(largest),
            read: global.smb2_max_read.min(largest),
            write: global.smb2_max_write.min(largest),
        };
        if policy.transport == Transport::Tcp {
            return Sizes {
                read: sizes.read.min(MAX_TCP_PAYLOAD),
                write: sizes.write.min(MAX_TCP_PAYLOAD),
                ..sizes
            };
        }
        let limits = policy.limits;
        let send = limits.max_send.saturating_sub(REPLY_OVERHEAD);
        let receive = limits.max_receive.saturating_sub(REPLY_OVERHEAD);
        let must_be_inline = if global.server_smb_encrypt == ServerEncryption::Required {
            !transforms.encryption
        } else {
            global.server_signing == ServerSigning::Mandatory && !transforms.signing
        };
        // What it may receive is the client's own affair, and more than this end can send as yet.
        let writes_inline = client.contains(SecurityMode::SIGNING_REQUIRED) && !transforms.signing;
        let bare = policy.config.rdma.allow_unprotected_payload;
        let (read, write) = match (must_be_inline && !bare, writes_inline && !bare) {
            (true, _) => (send, receive),
            (false, true) => (limits.max_rdma, receive),
            (false, false) => (limits.max_rdma, limits.max_rdma),
        };
        Sizes {
            transact: sizes.transact.min(send).min(receive),
            read: sizes.read.min(read),
            write: sizes.write.min(write),
        }
    }
}
