//! NEGOTIATE (MS-SMB2 3.3.5.3, 3.3.5.4): dialect, capabilities, sizes, and who serves the client.
//!
//! The answer is chosen by pure functions below. Before it is sent the broker is asked whether
//! another process serves this client already; if so, that one answers.

use std::rc::Rc;

use proto::smb2::negotiate::{Capabilities, NegotiateAnswer, NegotiateRequest, SecurityMode};
use proto::smb2::negotiate_context::{
    ContextType, PreauthIntegrity, RawContext, SHA_512, algorithms_data, decode_algorithms,
};
use proto::smb2::{Command, Dialect, FileTime, Header, MessageId, NtStatus};

use super::{Context, PreauthTarget, Response, malformed};
use crate::channel::{ChannelLimits, Outgoing, Reading, Transport};
use crate::child::{self, Child};
use crate::config::{Config, Global, ServerEncryption, ServerSigning};
use crate::security::encryption::Cipher;
use crate::security::keys::PreauthHash;
use crate::security::signing::SigningAlgorithm;
use crate::security::spnego::negotiate_hint;
use crate::state::{Connection, Negotiated};
use crate::sys::random;

/// Signing algorithms, best first: GMAC is ten times as fast as CMAC.
const SIGNING_PREFERENCE: [SigningAlgorithm; 3] = [
    SigningAlgorithm::AesGmac,
    SigningAlgorithm::AesCmac,
    SigningAlgorithm::HmacSha256,
];
const DIALECTS: [Dialect; 4] = [
    Dialect::Smb311,
    Dialect::Smb302,
    Dialect::Smb300,
    Dialect::Smb210,
];
/// What a reply has beside the payload it was sized for: header, fixed part, padding, signature.
const REPLY_OVERHEAD: u32 = 512;
const SALT_LENGTH: usize = 32;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    if cx.connection.negotiating.replace(true) {
        cx.connection.end("a second NEGOTIATE (MS-SMB2 3.3.5.4)");
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let answer = answer(request, cx).await;
    if let Err(status) = &answer
        && cx.connection.ended().is_none()
    {
        // A client that was refused may try once more.
        tracing::info!(peer = %cx.connection.channel.peer(), %status, "NEGOTIATE is refused");
        cx.connection.negotiating.set(false);
        cx.connection.channel.read_on(Reading::OneMessage);
    }
    answer
}

async fn answer(element: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = NegotiateRequest::decode(element).map_err(malformed)?;
    let global = &cx.child.config.global;
    let dialect = choose_dialect(&request, global)?;
    let contexts = match dialect {
        Dialect::Smb311 => Contexts::choose(&request, global)?,
        _ => Contexts::default(),
    };
    cx.child
        .claim(&cx.connection, request.client_guid, dialect)
        .await?;
    let signing = match dialect {
        Dialect::Smb311 => contexts.signing.unwrap_or(SigningAlgorithm::AesCmac),
        Dialect::Smb300 | Dialect::Smb302 => SigningAlgorithm::AesCmac,
        _ => SigningAlgorithm::HmacSha256,
    };
    let capabilities = capabilities(dialect, request.capabilities, global);
    let cipher = match contexts.cipher {
        Some(chosen) => chosen,
        // 3.0 and 3.0.2 know one cipher, and settle on it by a capability.
        None => capabilities
            .contains(Capabilities::ENCRYPTION)
            .then_some(Cipher::Aes128Ccm),
    };
    let channel = &cx.connection.channel;
    let sizes = Sizes::of(channel.transport(), channel.limits(), &cx.child.config);
    let negotiated = Negotiated {
        dialect,
        client_guid: request.client_guid,
        client_capabilities: request.capabilities,
        client_security_mode: request.security_mode,
        client_dialects: request.dialects().collect(),
        capabilities,
        security_mode: security_mode(global),
        signing,
        cipher,
        max_transact: sizes.transact,
        max_read: sizes.read,
        max_write: sizes.write,
    };
    let mut response = Response::default();
    contexts.with_raw(|raw| encode(&cx.child, &negotiated, raw, &mut response.body))?;
    if dialect == Dialect::Smb311 {
        // MS-SMB2 3.3.5.4: the hash takes request and response in.
        let mut hash = PreauthHash::default();
        hash.update(&[element]);
        cx.connection.preauth.replace(hash);
        response.header.preauth = Some(PreauthTarget::Connection(Rc::clone(&cx.connection)));
    }
    if cx.connection.negotiated.set(negotiated).is_err() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(response)
}

/// An SMB1 NEGOTIATE that offers SMB2 (MS-SMB2 3.3.5.3): answered with "go on in SMB2".
pub fn multi_protocol(child: &Rc<Child>, connection: &Rc<Connection>, message: Vec<u8>) {
    const COMMAND_NEGOTIATE: u8 = 0x72;
    let offers = |dialect: &[u8]| message.windows(dialect.len()).any(|part| part == dialect);
    if connection.negotiated.get().is_some()
        || connection.negotiating.get()
        || message.get(4) != Some(&COMMAND_NEGOTIATE)
        || connection
            .window
            .borrow_mut()
            .take(MessageId(0), 1)
            .is_err()
    {
        return connection.end("an SMB1 message after the first one (MS-SMB2 3.3.5.2)");
    }
    if !offers(b"\x02SMB 2.???\0") {
        return connection.end("SMB1 only; this server speaks SMB 2.1 and later");
    }
    let global = &child.config.global;
    let channel = &connection.channel;
    let sizes = Sizes::of(channel.transport(), channel.limits(), &child.config);
    let negotiated = Negotiated {
        dialect: Dialect::Wildcard,
        client_guid: Default::default(),
        client_capabilities: Capabilities::empty(),
        client_security_mode: SecurityMode::empty(),
        client_dialects: Vec::new(),
        capabilities: Capabilities::empty(),
        security_mode: security_mode(global),
        signing: SigningAlgorithm::HmacSha256,
        cipher: None,
        max_transact: sizes.transact,
        max_read: sizes.read,
        max_write: sizes.write,
    };
    let mut header = Header::request(Command::Negotiate, MessageId(0))
        .response(NtStatus::SUCCESS, connection.window.borrow_mut().grant(1));
    header.credit_charge = 0;
    let mut reply = Vec::new();
    header.encode(&mut reply);
    encode(child, &negotiated, &[], &mut reply);
    connection.channel.send(Outgoing {
        pieces: vec![reply],
        ..Outgoing::default()
    });
    // The NEGOTIATE that follows says whose client this is.
    connection.channel.read_on(Reading::OneMessage);
}

/// The best dialect both speak; NOT_SUPPORTED without one (MS-SMB2 3.3.5.4).
fn choose_dialect(request: &NegotiateRequest<'_>, global: &Global) -> Result<Dialect, NtStatus> {
    if request.dialects().len() == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let oldest = u16::from(global.server_min_protocol.dialect());
    let newest = u16::from(global.server_max_protocol.dialect());
    DIALECTS
        .into_iter()
        .find(|dialect| {
            (oldest..=newest).contains(&u16::from(*dialect)) && request.offers(*dialect)
        })
        .ok_or(NtStatus::NOT_SUPPORTED)
}

fn capabilities(dialect: Dialect, client: Capabilities, global: &Global) -> Capabilities {
    let mut capabilities = Capabilities::LARGE_MTU;
    if dialect.is_smb3()
        && global.server_multi_channel_support
        && client.contains(Capabilities::MULTI_CHANNEL)
    {
        capabilities |= Capabilities::MULTI_CHANNEL;
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
    /// size of their RDMA transfers from these fields; where every session is signed or encrypted
    /// it does not.
    fn of(transport: Transport, limits: ChannelLimits, config: &Config) -> Sizes {
        let global = &config.global;
        let sizes = Sizes {
            transact: global.smb2_max_trans,
            read: global.smb2_max_read,
            write: global.smb2_max_write,
        };
        if transport == Transport::Tcp {
            return sizes;
        }
        let send = limits.max_send.saturating_sub(REPLY_OVERHEAD);
        let receive = limits.max_receive.saturating_sub(REPLY_OVERHEAD);
        let protected = global.server_signing == ServerSigning::Mandatory
            || global.server_smb_encrypt == ServerEncryption::Required;
        let (read, write) = match protected && !config.rdma.allow_unprotected_payload {
            true => (send, receive),
            false => (limits.max_rdma, limits.max_rdma),
        };
        Sizes {
            transact: sizes.transact.min(send).min(receive),
            read: sizes.read.min(read),
            write: sizes.write.min(write),
        }
    }
}

/// What 3.1.1's contexts settle (MS-SMB2 3.3.5.4).
#[derive(Debug, Default, PartialEq, Eq)]
struct Contexts {
    /// Answered only if asked for, and only if there is one in common.
    signing: Option<SigningAlgorithm>,
    /// Answered if asked for, with 0 when there is none in common.
    cipher: Option<Option<Cipher>>,
    is_311: bool,
}

impl Contexts {
    fn choose(request: &NegotiateRequest<'_>, global: &Global) -> Result<Contexts, NtStatus> {
        let mut preauth = None;
        let mut signing = None;
        let mut ciphers = None;
        for context in request.contexts.iter() {
            let context = context.map_err(malformed)?;
            let slot = match context.context_type {
                ContextType::PREAUTH_INTEGRITY_CAPABILITIES => &mut preauth,
                ContextType::SIGNING_CAPABILITIES => &mut signing,
                ContextType::ENCRYPTION_CAPABILITIES => &mut ciphers,
                // Compression, RDMA transforms: not offered, so not answered.
                _ => continue,
            };
            // More than one of a kind is an error (MS-SMB2 3.3.5.4).
            if slot.replace(context.data).is_some() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let preauth = preauth.ok_or(NtStatus::INVALID_PARAMETER)?;
        let preauth = PreauthIntegrity::decode(preauth).map_err(malformed)?;
        if preauth.hash_algorithms.iter().len() == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !preauth.hash_algorithms.contains(SHA_512) {
            return Err(NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP);
        }
        let signing = match signing {
            None => None,
            Some(data) => {
                let offered = decode_algorithms(data).map_err(malformed)?;
                if offered.iter().len() == 0 {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                SIGNING_PREFERENCE
                    .into_iter()
                    .find(|algorithm| offered.contains(algorithm.id()))
            }
        };
        let allowed = global.server_smb_encrypt != ServerEncryption::Off;
        let cipher = match ciphers {
            None => None,
            Some(data) => {
                let offered = decode_algorithms(data).map_err(malformed)?;
                if offered.iter().len() == 0 {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                let common = Cipher::PREFERENCE
                    .into_iter()
                    .find(|cipher| allowed && offered.contains(cipher.id()));
                Some(common)
            }
        };
        Ok(Contexts {
            signing,
            cipher,
            is_311: true,
        })
    }

    /// Lends the contexts of the answer.
    fn with_raw(&self, use_them: impl FnOnce(&[RawContext<'_>])) -> Result<(), NtStatus> {
        if !self.is_311 {
            use_them(&[]);
            return Ok(());
        }
        let salt: [u8; SALT_LENGTH] = random::bytes()?;
        let preauth = PreauthIntegrity::data(&[SHA_512], &salt);
        let signing = self.signing.map(|chosen| algorithms_data(&[chosen.id()]));
        let cipher = self.cipher.map(|chosen| {
            // MS-SMB2 3.3.5.4: 0 says that there is none in common.
            algorithms_data(&[chosen.map_or(0, Cipher::id)])
        });
        let mut contexts = vec![RawContext {
            context_type: ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
            data: &preauth,
        }];
        contexts.extend(signing.as_deref().map(|data| RawContext {
            context_type: ContextType::SIGNING_CAPABILITIES,
            data,
        }));
        contexts.extend(cipher.as_deref().map(|data| RawContext {
            context_type: ContextType::ENCRYPTION_CAPABILITIES,
            data,
        }));
        use_them(&contexts);
        Ok(())
    }
}

fn encode(child: &Child, negotiated: &Negotiated, contexts: &[RawContext<'_>], out: &mut Vec<u8>) {
    NegotiateAnswer {
        security_mode: negotiated.security_mode,
        dialect: negotiated.dialect,
        server_guid: child.identity.guid,
        capabilities: negotiated.capabilities,
        max_transact_size: negotiated.max_transact,
        max_read_size: negotiated.max_read,
        max_write_size: negotiated.max_write,
        system_time: child::now(),
        // MS-SMB2 2.2.4: not used any more.
        server_start_time: FileTime(0),
        security_buffer: &negotiate_hint(),
        contexts,
    }
    .encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::smb2::Guid;
    use proto::smb2::negotiate::NegotiateOffer;

    fn offer(dialects: &[u16], contexts: &[RawContext<'_>]) -> Vec<u8> {
        let mut element = Vec::new();
        Header::request(Command::Negotiate, MessageId(0)).encode(&mut element);
        NegotiateOffer {
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::all(),
            client_guid: Guid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
            dialects,
            contexts,
        }
        .encode(&mut element);
        element
    }

    fn contexts_of(contexts: &[(ContextType, Vec<u8>)]) -> Result<Contexts, NtStatus> {
        let raw: Vec<RawContext<'_>> = contexts
            .iter()
            .map(|(context_type, data)| RawContext {
                context_type: *context_type,
                data,
            })
            .collect();
        let element = offer(&[0x0311], &raw);
        Contexts::choose(
            &NegotiateRequest::decode(&element).unwrap(),
            &Global::default(),
        )
    }

    fn preauth() -> (ContextType, Vec<u8>) {
        (
            ContextType::PREAUTH_INTEGRITY_CAPABILITIES,
            PreauthIntegrity::data(&[SHA_512], &[7; 32]),
        )
    }

    fn signing(algorithms: &[u16]) -> (ContextType, Vec<u8>) {
        (
            ContextType::SIGNING_CAPABILITIES,
            algorithms_data(algorithms),
        )
    }

    #[test]
    fn the_best_common_dialect_is_chosen_within_the_configured_bounds() {
        let choose = |dialects: &[u16], global: &Global| {
            let element = offer(dialects, &[]);
            choose_dialect(&NegotiateRequest::decode(&element).unwrap(), global)
        };
        let global = Global::default();
        assert_eq!(
            choose(&[0x0202, 0x0210, 0x0302], &global),
            Ok(Dialect::Smb302)
        );
        assert_eq!(choose(&[0x0202], &global), Err(NtStatus::NOT_SUPPORTED));
        assert_eq!(choose(&[0x0300, 0x0399], &global), Ok(Dialect::Smb300));
        let bounded = Global {
            server_max_protocol: crate::config::Protocol::Smb300,
            ..Global::default()
        };
        assert_eq!(
            choose(&[0x0210, 0x0300, 0x0302], &bounded),
            Ok(Dialect::Smb300)
        );
    }

    #[test]
    fn exactly_one_preauth_context_with_sha_512_is_needed() {
        assert_eq!(contexts_of(&[]), Err(NtStatus::INVALID_PARAMETER));
        assert_eq!(
            contexts_of(&[preauth(), preauth()]),
            Err(NtStatus::INVALID_PARAMETER)
        );
        let other_hash = PreauthIntegrity::data(&[0x99], &[]);
        assert_eq!(
            contexts_of(&[(ContextType::PREAUTH_INTEGRITY_CAPABILITIES, other_hash)]),
            Err(NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP)
        );
        assert_eq!(contexts_of(&[preauth()]).unwrap().signing, None);
    }

    #[test]
    fn the_fastest_common_signing_algorithm_is_chosen() {
        let chosen = |algorithms: &[u16]| {
            contexts_of(&[preauth(), signing(algorithms)])
                .unwrap()
                .signing
        };
        assert_eq!(chosen(&[0, 1, 2]), Some(SigningAlgorithm::AesGmac));
        assert_eq!(chosen(&[0, 1]), Some(SigningAlgorithm::AesCmac));
        assert_eq!(chosen(&[0x77]), None);
        assert_eq!(
            contexts_of(&[preauth(), signing(&[])]),
            Err(NtStatus::INVALID_PARAMETER)
        );
    }

    #[test]
    fn a_cipher_is_chosen_only_where_one_was_offered() {
        let chosen = |ciphers: &[u16]| {
            let context = (
                ContextType::ENCRYPTION_CAPABILITIES,
                algorithms_data(ciphers),
            );
            contexts_of(&[preauth(), context]).map(|contexts| contexts.cipher)
        };
        assert_eq!(contexts_of(&[preauth()]).unwrap().cipher, None);
        assert_eq!(chosen(&[4, 2, 1, 3]), Ok(Some(Some(Cipher::Aes128Gcm))));
        assert_eq!(chosen(&[4, 3]), Ok(Some(Some(Cipher::Aes256Gcm))));
        assert_eq!(chosen(&[1, 3]), Ok(Some(Some(Cipher::Aes128Ccm))));
        assert_eq!(chosen(&[0x55]), Ok(Some(None)), "told that there is none");
        assert_eq!(chosen(&[]), Err(NtStatus::INVALID_PARAMETER));
    }

    #[test]
    fn payload_that_can_only_travel_in_messages_is_clamped_to_them() {
        let limits = ChannelLimits {
            max_send: 1 << 16,
            max_receive: 1 << 20,
            max_rdma: 4 << 20,
        };
        let mut config = Config::default();
        let sizes = |config: &Config| {
            let sizes = Sizes::of(Transport::Rdma, limits, config);
            (sizes.read, sizes.write)
        };
        assert_eq!(sizes(&config), (4 << 20, 4 << 20));
        config.global.server_smb_encrypt = ServerEncryption::Required;
        assert_eq!(sizes(&config), (65_024, 1_048_064));
        config.rdma.allow_unprotected_payload = true;
        assert_eq!(sizes(&config), (4 << 20, 4 << 20));
    }

    #[test]
    fn encryption_is_a_capability_before_3_1_1_alone() {
        let global = Global::default();
        let has = |dialect, global: &Global| {
            capabilities(dialect, Capabilities::all(), global).contains(Capabilities::ENCRYPTION)
        };
        assert!(has(Dialect::Smb302, &global));
        assert!(!has(Dialect::Smb210, &global) && !has(Dialect::Smb311, &global));
        let off = Global {
            server_smb_encrypt: ServerEncryption::Off,
            ..Global::default()
        };
        assert!(!has(Dialect::Smb302, &off));
    }

    #[test]
    fn multichannel_is_told_to_clients_of_smb3_that_know_it() {
        let global = Global::default();
        let all = Capabilities::all();
        assert_eq!(
            capabilities(Dialect::Smb311, all, &global),
            Capabilities::LARGE_MTU | Capabilities::MULTI_CHANNEL
        );
        assert_eq!(
            capabilities(Dialect::Smb210, all, &global),
            Capabilities::LARGE_MTU
        );
        assert_eq!(
            capabilities(Dialect::Smb302, Capabilities::LARGE_MTU, &global),
            Capabilities::LARGE_MTU
        );
    }
}
