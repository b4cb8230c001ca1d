//! The table: every case with the rule it proves, where that rule stands, and how it is played.

use std::fmt;

use crate::cases;
use crate::endpoint::Endpoint;
use crate::scene::Scene;

/// What carries the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// The simulated fabric.
    Simulated,
    /// Soft-RoCE.
    Rxe,
    /// Soft iWARP.
    Siw,
}

/// As Microsoft's suite for MS-SMBD divides its cases, and what it does not try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Negotiate,
    DataTransfer,
    Credits,
    RdmaChannel,
    Invalidate,
    Multichannel,
    TransformEncryption,
    TransformSigning,
    Beyond,
}

impl Group {
    /// All of them, with the number of cases the suite has.
    pub const ALL: [(Group, &str, usize); 9] = [
        (Group::Negotiate, "negotiate", 18),
        (Group::DataTransfer, "data-transfer", 18),
        (Group::Credits, "credits", 6),
        (Group::RdmaChannel, "rdma-channel", 9),
        (Group::Invalidate, "invalidate", 6),
        (Group::Multichannel, "multichannel", 2),
        (Group::TransformEncryption, "transform-encryption", 24),
        (Group::TransformSigning, "transform-signing", 9),
        (Group::Beyond, "beyond", 0),
    ];
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Group::ALL.iter().find(|(group, _, _)| group == self);
        f.pad(named.map_or("", |(_, name, _)| name))
    }
}

/// What a server is started with, beside what every one has.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lines of `[global]`.
    pub global: &'static [&'static str],
    /// Variables of its processes' environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// Its simulated device is an iWARP one, which is reached at another port.
    pub iwarp: bool,
}

/// Nothing more.
pub const PLAIN: Settings = Settings {
    global: &[],
    environment: &[],
    iwarp: false,
};

type Play<E> = Box<dyn Fn(&Scene<E>) + Send + Sync>;

/// One case.
pub struct Case<E> {
    pub group: Group,
    pub section: &'static str,
    pub rule: &'static str,
    pub name: &'static str,
    pub settings: &'static Settings,
    /// It waits for a timer of the server's most of its time: others are played meanwhile.
    pub waits: bool,
    /// It looks at what all the others left behind.
    pub is_last: bool,
    skips: Vec<(Devices, &'static str)>,
    pub play: Play<E>,
}

impl<E: Endpoint> Case<E> {
    pub fn new(
        group: Group,
        name: &'static str,
        section: &'static str,
        rule: &'static str,
        play: impl Fn(&Scene<E>) + Send + Sync + 'static,
    ) -> Case<E> {
        Case {
            group,
            section,
            rule,
            name,
            settings: &PLAIN,
            waits: false,
            is_last: false,
            skips: Vec::new(),
            play: Box::new(play),
        }
    }

    /// On a server with these settings.
    pub fn with(self, settings: &'static Settings) -> Case<E> {
        Case { settings, ..self }
    }

    /// See [`Case::waits`].
    pub fn waiting(self) -> Case<E> {
        Case {
            waits: true,
            ..self
        }
    }

    /// See [`Case::is_last`].
    pub fn behind_all(self) -> Case<E> {
        Case {
            is_last: true,
            ..self
        }
    }

    /// It cannot be had there, and why.
    pub fn without(mut self, devices: Devices, reason: &'static str) -> Case<E> {
        self.skips.push((devices, reason));
        self
    }

    /// Why it cannot be had on these devices.
    pub fn skipped_on(&self, devices: Devices) -> Option<&'static str> {
        let found = self.skips.iter().find(|(on, _)| *on == devices);
        found.map(|(_, reason)| *reason)
    }
}

/// Every case, in the suite's order.
pub fn table<E: Endpoint>() -> Vec<Case<E>> {
    let mut table = Vec::new();
    table.extend(cases::negotiate::cases());
    table.extend(cases::data_transfer::cases());
    table.extend(cases::credits::cases());
    table.extend(cases::rdma_channel::cases());
    table.extend(cases::transform::suite::cases());
    table.extend(cases::flow::cases());
    table.extend(cases::payload::cases());
    table.extend(cases::transform::beyond::cases());
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ::tests::client::simulated::SmbDirect;

    use super::*;

    #[test]
    fn every_case_of_the_suite_is_in_the_table_once() {
        let table = table::<SmbDirect>();
        let names: HashSet<_> = table.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), table.len(), "a name twice");
        for (group, name, of_suite) in Group::ALL {
            let cases = table.iter().filter(|case| case.group == group).count();
            if group != Group::Beyond {
                assert_eq!(cases, of_suite, "{name}");
            }
        }
    }
}
