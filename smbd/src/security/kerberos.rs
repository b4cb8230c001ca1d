//! Kerberos as SPNEGO sees it: what a ticket says, and which user that is.
//!
//! `sys::gssapi` judges tickets; this module has no I/O. Whose name a principal is depends on its
//! realm: a user of another realm is another user, however the name begins.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use super::ntlm::SessionKey;

/// A ticket that was judged and is good.
pub struct Ticket {
    /// AP-REP, for the client; empty if it asked for none.
    pub reply: Vec<u8>,
    /// `user@REALM`.
    pub principal: String,
    /// The principal's local name, by the rules of krb5.conf (`auth_to_local`).
    pub local_name: Option<String>,
    /// The key both ends hold.
    pub session_key: Zeroizing<Vec<u8>>,
    /// How long it is good; `None` for ever.
    pub lifetime: Option<Duration>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ticket")
            .field("principal", &self.principal)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// Why no ticket can be judged, or this one is no good.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    #[error("Kerberos needs MIT's library: {0}; install libgssapi-krb5-2")]
    Library(String),
    #[error("no key to judge tickets with: {0}; see `dedicated keytab file` and `kerberos method`")]
    Keytab(String),
    #[error("the ticket is refused: {0}")]
    Refused(String),
    #[error("the ticket's name is not readable")]
    Name,
}

/// Judges one ticket, and signs what belongs to it.
pub trait Tickets: fmt::Debug + Send {
    /// May wait for disks: called on the pool.
    fn accept(&mut self, token: &[u8]) -> Result<Ticket, TicketError>;
    /// A signature the client can check (RFC 4121 4.2.6.1).
    fn sign(&mut self, message: &[u8]) -> Option<Vec<u8>>;
    /// Whether the client made this signature.
    fn is_signature(&mut self, message: &[u8], signature: &[u8]) -> bool;
}

impl Ticket {
    /// The user's name here. With a realm of our own only its users have one; without, krb5.conf
    /// decides. Services and hosts (`host/name`) are nobody here.
    pub fn user(&self, realm: &str) -> Option<&str> {
        let (name, of_realm) = self.principal.rsplit_once('@')?;
        if name.is_empty() || name.contains(['/', '@', '\\']) {
            return None;
        }
        match realm {
            "" => self.local_name.as_deref(),
            _ => (of_realm == realm).then_some(name),
        }
    }

    /// The principal's realm, for the log.
    pub fn realm(&self) -> &str {
        self.principal
            .rsplit_once('@')
            .map_or("", |(_, realm)| realm)
    }

    /// Session.SessionKey and Session.FullSessionKey.
    pub fn key(&self) -> SessionKey {
        SessionKey::from_slice(&self.session_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(principal: &str, local_name: Option<&str>) -> Ticket {
        Ticket {
            reply: Vec::new(),
            principal: principal.into(),
            local_name: local_name.map(str::to_owned),
            session_key: Zeroizing::new(vec![7; 32]),
            lifetime: None,
        }
    }

    #[test]
    fn only_a_user_of_our_realm_has_a_name_here() {
        let alice = ticket("alice@EXAMPLE.ORG", Some("alice"));
        assert_eq!(alice.user("EXAMPLE.ORG"), Some("alice"));
        assert_eq!(alice.user("OTHER.ORG"), None);
        assert_eq!(alice.user(""), Some("alice"), "krb5.conf says so");
        assert_eq!(ticket("alice@OTHER.ORG", None).user(""), None);
        for other in [
            "host/files@EXAMPLE.ORG",
            "@EXAMPLE.ORG",
            "alice",
            "a\\b@EXAMPLE.ORG",
        ] {
            assert_eq!(
                ticket(other, Some("x")).user("EXAMPLE.ORG"),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn a_ticket_does_not_print_its_key() {
        let text = format!("{:?}", ticket("alice@EXAMPLE.ORG", None));
        assert!(!text.contains('7'), "{text}");
    }

    #[test]
    fn a_long_key_keeps_its_first_half_and_the_whole() {
        let mut key = [0; 32];
        key.iter_mut().zip(0u8..).for_each(|(byte, n)| *byte = n);
        let made = SessionKey::from_slice(&key);
        assert_eq!(made.as_bytes()[..], key[..16]);
        assert_eq!(made.full(), key);
        let short = SessionKey::from_slice(&key[..8]);
        assert_eq!(short.as_bytes()[8..], [0; 8]);
    }
}
