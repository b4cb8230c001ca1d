//! The AV_PAIR list (MS-NLMP 2.2.2.1): what a server says about itself and a client echoes, under
//! its proof.
//!
//! Called by the acceptor (build, then read the client's copy) and the initiator. No cryptography.

use bitflags::bitflags;

use super::message::{Malformed, malformed, utf16_bytes};

const EOL: u16 = 0;
const NB_COMPUTER_NAME: u16 = 1;
const NB_DOMAIN_NAME: u16 = 2;
const DNS_COMPUTER_NAME: u16 = 3;
const DNS_DOMAIN_NAME: u16 = 4;
const FLAGS: u16 = 6;
const TIMESTAMP: u16 = 7;
const TARGET_NAME: u16 = 9;
const CHANNEL_BINDINGS: u16 = 10;

bitflags! {
    /// MsvAvFlags.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AvFlags: u32 {
        const ACCOUNT_CONSTRAINED = 1;
        const MIC_PRESENT = 2;
        const UNTRUSTED_TARGET_NAME = 4;
    }
}

/// The pairs of a list, in order and still as bytes; unknown ones are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AvPairs {
    pairs: Vec<(u16, Vec<u8>)>,
}

impl AvPairs {
    /// MsvAvFlags, MsvAvTargetName and MsvAvChannelBindings, for [`AvPairs::replace`].
    pub const FLAGS: u16 = FLAGS;
    /// See [`AvPairs::FLAGS`].
    pub const TARGET_NAME: u16 = TARGET_NAME;
    /// See [`AvPairs::FLAGS`].
    pub const CHANNEL_BINDINGS: u16 = CHANNEL_BINDINGS;

    /// What this server tells of itself. `timestamp` is a FILETIME.
    pub fn of_server(names: &super::ServerNames, timestamp: u64) -> AvPairs {
        let mut list = AvPairs::default();
        list.push(NB_DOMAIN_NAME, utf16_bytes(&names.netbios_domain));
        list.push(NB_COMPUTER_NAME, utf16_bytes(&names.netbios_name));
        list.push(DNS_DOMAIN_NAME, utf16_bytes(&names.dns_domain));
        list.push(DNS_COMPUTER_NAME, utf16_bytes(&names.dns_name));
        list.push(TIMESTAMP, timestamp.to_le_bytes().to_vec());
        list
    }

    /// Reads pairs up to MsvAvEOL; bytes behind it are padding.
    pub fn parse(mut bytes: &[u8]) -> Result<AvPairs, Malformed> {
        let mut list = AvPairs::default();
        loop {
            let Some((header, rest)) = bytes.split_first_chunk::<4>() else {
                return malformed("AvPairs");
            };
            let [id_low, id_high, length_low, length_high] = *header;
            let id = u16::from_le_bytes([id_low, id_high]);
            let length = usize::from(u16::from_le_bytes([length_low, length_high]));
            if id == EOL {
                return Ok(list);
            }
            let Some((value, rest)) = rest.split_at_checked(length) else {
                return malformed("AvPairs");
            };
            list.push(id, value.to_vec());
            bytes = rest;
        }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, value) in &self.pairs {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    pub fn flags(&self) -> AvFlags {
        let bits = self.find(FLAGS).and_then(|value| value.first_chunk::<4>());
        AvFlags::from_bits_truncate(bits.map_or(0, |bits| u32::from_le_bytes(*bits)))
    }

    pub fn timestamp(&self) -> Option<u64> {
        self.find(TIMESTAMP)
            .and_then(|value| value.first_chunk::<8>())
            .map(|time| u64::from_le_bytes(*time))
    }

    /// MsvAvChannelBindings: the MD5 of a channel's bindings, zeros for none.
    pub fn channel_bindings(&self) -> Option<&[u8]> {
        self.find(CHANNEL_BINDINGS)
    }

    /// MsvAvTargetName: the service the client means, as a service principal name.
    pub fn target_name(&self) -> Option<String> {
        let value = self.find(TARGET_NAME)?;
        let (units, _) = value.as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        Some(String::from_utf16_lossy(&units))
    }

    /// What a client adds before it answers (MS-NLMP 3.1.5.1.2): a MIC will follow, no channel
    /// bindings, and the name it believes it talks to.
    pub fn add_client_pairs(&mut self, target: &str) {
        let flags = self.flags() | AvFlags::MIC_PRESENT;
        self.pairs
            .retain(|(id, _)| ![FLAGS, CHANNEL_BINDINGS, TARGET_NAME].contains(id));
        self.push(FLAGS, flags.bits().to_le_bytes().to_vec());
        self.push(CHANNEL_BINDINGS, vec![0; 16]);
        self.push(TARGET_NAME, utf16_bytes(target));
    }

    /// Sets a pair; the client's last word is the only one of its kind.
    pub fn replace(&mut self, id: u16, value: Vec<u8>) {
        self.pairs.retain(|(known, _)| *known != id);
        self.push(id, value);
    }

    fn push(&mut self, id: u16, value: Vec<u8>) {
        self.pairs.push((id, value));
    }

    fn find(&self, wanted: u16) -> Option<&[u8]> {
        self.pairs
            .iter()
            .find(|(id, _)| *id == wanted)
            .map(|(_, value)| value.as_slice())
    }
}
