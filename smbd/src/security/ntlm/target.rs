//! Which server a client believes it logs on to: MsvAvTargetName (MS-NLMP 2.2.2.1), under its proof.
//!
//! A client that was lured to another service, or to another machine that relays it here, names that
//! one. Called by the acceptor once the proof is known to be right. Pure.

use super::av_pairs::{AvFlags, AvPairs};

/// How much of the target name must be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameHardening {
    /// The service alone: `cifs` or `host`.
    #[default]
    Service,
    /// The machine too, where the client names one.
    IfPresent,
    /// The machine too, and the client must name one.
    Required,
}

/// What a target name is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetCheck {
    pub hardening: NameHardening,
    /// This server's names and addresses, in lower case.
    pub names: Vec<String>,
}

impl TargetCheck {
    /// Whether the client means this server; if not, what it means.
    pub(super) fn check(&self, pairs: &AvPairs) -> Result<(), String> {
        let target = pairs.target_name().unwrap_or_default();
        if target.is_empty() {
            return match self.hardening {
                NameHardening::Required => Err("nobody".into()),
                NameHardening::Service | NameHardening::IfPresent => Ok(()),
            };
        }
        let Some((service, rest)) = target.split_once('/') else {
            return Err(target);
        };
        if !["cifs", "host"].contains(&service.to_lowercase().as_str()) {
            return Err(target);
        }
        // `service/machine`, perhaps with a port and a realm or domain behind it.
        let machine = rest.split(['/', '@']).next().unwrap_or_default();
        let machine = machine.to_lowercase();
        let untrusted = pairs.flags().contains(AvFlags::UNTRUSTED_TARGET_NAME);
        let is_ours = self.names.contains(&machine);
        match self.hardening {
            NameHardening::Service => Ok(()),
            NameHardening::IfPresent if is_ours => Ok(()),
            NameHardening::Required if is_ours && !untrusted => Ok(()),
            _ => Err(target),
        }
    }
}
