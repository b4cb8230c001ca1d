//! `hosts allow` and `hosts deny`: which addresses may come in.
//!
//! Asked at a tree connect; in [global] the lists are the default of all shares. Addresses and
//! networks only: a name would need a look-up an attacker can answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::values::{Show, list};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPattern {
    All,
    Network { address: IpAddr, prefix: u8 },
}

impl HostPattern {
    pub fn matches(&self, peer: IpAddr) -> bool {
        match self {
            HostPattern::All => true,
            HostPattern::Network { address, prefix } => {
                in_network(peer.to_canonical(), *address, *prefix)
            }
        }
    }
}

/// Samba's rule: who is allowed comes in; else who is denied stays out; else, with an allow list
/// only, nobody comes in.
pub fn hosts_admit(allow: &[HostPattern], deny: &[HostPattern], peer: IpAddr) -> bool {
    let listed = |list: &[HostPattern]| list.iter().any(|pattern| pattern.matches(peer));
    if listed(allow) {
        return true;
    }
    if listed(deny) {
        return false;
    }
    allow.is_empty() || !deny.is_empty()
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::All => formatter.write_str("ALL"),
            HostPattern::Network { address, prefix } if *prefix == bits(*address) => {
                write!(formatter, "{address}")
            }
            HostPattern::Network { address, prefix } => write!(formatter, "{address}/{prefix}"),
        }
    }
}

impl Show for HostPattern {
    fn show(&self) -> String {
        self.to_string()
    }
}

pub(super) fn hosts(text: &str) -> Result<Vec<HostPattern>, String> {
    list(text)?.iter().map(|item| host(item)).collect()
}

fn host(item: &str) -> Result<HostPattern, String> {
    if item.eq_ignore_ascii_case("all") {
        return Ok(HostPattern::All);
    }
    if let Ok(address) = item.parse::<IpAddr>() {
        return Ok(HostPattern::Network {
            address,
            prefix: bits(address),
        });
    }
    if item.contains('/') {
        let (address, prefix) = parse_network(item)?;
        return Ok(HostPattern::Network { address, prefix });
    }
    if let Some((address, prefix)) = item.strip_suffix('.').and_then(dotted_prefix) {
        return Ok(HostPattern::Network { address, prefix });
    }
    Err(format!(
        "{item:?}: allowed are ALL, addresses, and networks (10.0.0.0/24, 10.0.0.0/255.255.255.0, 10.0.); names are not looked up"
    ))
}

/// `192.168` of `192.168.`: one to three numbers.
fn dotted_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let numbers: Vec<u8> = text
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let mut octets = [0; 4];
    octets
        .get_mut(..numbers.len().min(4))?
        .copy_from_slice(numbers.get(..4).unwrap_or(&numbers));
    let prefix = u8::try_from(numbers.len() * 8)
        .ok()
        .filter(|prefix| *prefix <= 24)?;
    Some((Ipv4Addr::from(octets).into(), prefix))
}

/// `address/length` or `address/mask`.
pub(super) fn parse_network(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || {
        format!(
            "{text:?} is no network: allowed are 10.0.0.0/24, 10.0.0.0/255.255.255.0 and fd00::/64"
        )
    };
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix = match (length.parse::<u8>(), length.parse::<Ipv4Addr>()) {
        (Ok(prefix), _) => prefix,
        (_, Ok(mask)) if address.is_ipv4() => {
            let mask = u32::from(mask);
            let prefix = mask.leading_ones();
            if mask.checked_shl(prefix).unwrap_or(0) != 0 {
                return Err(wrong());
            }
            u8::try_from(prefix).map_err(|_| wrong())?
        }
        _ => return Err(wrong()),
    };
    if prefix > bits(address) {
        Err(wrong())
    } else {
        Ok((address, prefix))
    }
}

pub(super) fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = u32::from(address) ^ u32::from(network);
            differing.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = u128::from(address) ^ u128::from(network);
            differing.leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
