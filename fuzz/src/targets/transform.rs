//! What stands before or beside encrypted bytes: the transform header of a message, and the RDMA
//! transform of a payload. Nothing opens that this session's key did not seal.

use proto::smb2::rdma_transform::{ChannelInformation, RdmaTransform};
use proto::smb2::transform::TransformHeader;
use proto::smb2::{Channel, SessionId};
use smbd::security::encryption::{Cipher, End, SessionCipher};
use smbd::security::keys::{KeySchedule, PreauthHash};
use smbd::security::ntlm::SessionKey;

fn cipher(cipher: Cipher, end: End) -> Option<SessionCipher> {
    let key = SessionKey::from_bytes([9; 16]);
    let hash = PreauthHash::default();
    let keys = KeySchedule::Smb311(&hash).cipher_keys(&key, cipher.key_length())?;
    Some(SessionCipher::new(cipher, &keys, end))
}

pub fn run(data: &[u8]) {
    if let Ok(header) = TransformHeader::decode(data) {
        let mut encoded = Vec::new();
        header.encode(&mut encoded);
        assert_eq!(TransformHeader::decode(&encoded), Ok(header));
        for kind in Cipher::PREFERENCE {
            let mut message = data.to_vec();
            if let Some(cipher) = cipher(kind, End::Server)
                && cipher.open(&mut message).is_ok()
            {
                assert!(seeds().iter().any(|seed| seed == data), "opened: {kind:?}");
            }
        }
    }
    if let Ok(transform) = RdmaTransform::decode(data) {
        let _ = transform.crypto.nonce.len();
    }
    for channel in [Channel::RdmaV1, Channel::RdmaTransform] {
        let _ = ChannelInformation::decode(channel, data);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    Cipher::PREFERENCE
        .into_iter()
        .filter_map(|kind| {
            let mut message = vec![0; TransformHeader::SIZE];
            message.extend_from_slice(b"a plain message");
            let sealed = cipher(kind, End::Client)?.seal(SessionId(5), &mut message);
            sealed.ok().map(|()| message)
        })
        .collect()
}
