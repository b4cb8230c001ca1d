//! NEGOTIATE: the request, its contexts, and the SMB1 message that leads there. What is settled was
//! offered, and the answer is one that a client can read.

use proto::smb2::multi_protocol::MultiProtocolNegotiate;
use proto::smb2::negotiate::{Capabilities, NegotiateOffer, NegotiateRequest, SecurityMode};
use proto::smb2::negotiate_context::{
    Compression, CompressionFlags, ContextType, PreauthIntegrity, RawContext, SHA_512,
    algorithms_data, rdma_transforms_data,
};
use proto::smb2::{Command, Guid, Header, MessageId};
use smbd::channel::{ChannelLimits, Transport};
use smbd::config::{Config, Share};
use smbd::negotiation::{Policy, SALT_LENGTH, agree, multi_protocol};

pub fn run(data: &[u8]) {
    let mut config = Config::default();
    config.shares.push(Share::default().into());
    for transport in [Transport::Tcp, Transport::Rdma] {
        let policy = Policy {
            config: &config,
            transport,
            limits: ChannelLimits {
                max_send: 1 << 16,
                max_receive: 1 << 20,
                max_rdma: 8 << 20,
            },
        };
        if let Ok(offered) = MultiProtocolNegotiate::decode(data) {
            let _ = multi_protocol(offered, &policy);
        }
        let Ok(request) = NegotiateRequest::decode(data) else {
            continue;
        };
        let Ok(agreement) = agree(&request, &policy) else {
            continue;
        };
        assert!(request.offers(agreement.negotiated.dialect));
        for (_, data) in agreement.contexts.answer(&[1; SALT_LENGTH]) {
            assert!(!data.is_empty());
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let preauth = PreauthIntegrity::data(&[SHA_512], &[7; 32]);
    let ciphers = algorithms_data(&[4, 2, 1, 3]);
    let signing = algorithms_data(&[2, 1, 0]);
    let compression = Compression::data(CompressionFlags::CHAINED, &[4, 5, 1, 2, 3]);
    let transforms = rdma_transforms_data(&[1, 2]);
    let context = |context_type, data| RawContext { context_type, data };
    let all = [
        context(ContextType::PREAUTH_INTEGRITY_CAPABILITIES, &preauth[..]),
        context(ContextType::ENCRYPTION_CAPABILITIES, &ciphers),
        context(ContextType::SIGNING_CAPABILITIES, &signing),
        context(ContextType::COMPRESSION_CAPABILITIES, &compression),
        context(ContextType::RDMA_TRANSFORM_CAPABILITIES, &transforms),
        context(ContextType::NETNAME_NEGOTIATE_CONTEXT_ID, b"f\0s\0"),
        context(ContextType::TRANSPORT_CAPABILITIES, &[1, 0, 0, 0]),
    ];
    let request = |dialects: &[u16], contexts: &[RawContext<'_>]| {
        let mut element = Vec::new();
        Header::request(Command::Negotiate, MessageId(0)).encode(&mut element);
        NegotiateOffer {
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::all(),
            client_guid: Guid([3; 16]),
            dialects,
            contexts,
        }
        .encode(&mut element);
        element
    };
    vec![
        request(&[0x0202, 0x0210, 0x0300, 0x0302, 0x0311], &all),
        request(&[0x0311], &all[..1]),
        request(&[0x0202], &[]),
        MultiProtocolNegotiate::request(&["NT LM 0.12", "SMB 2.002", "SMB 2.???"]),
    ]
}
