//! Unix identity of a user: uid, gid and groups, from the system's account database.
//!
//! Called once a logon succeeded, before any file is touched in the user's name.

use std::ffi::CString;

use nix::unistd::{Uid, User, getgrouplist};
use thiserror::Error;

use super::UserEntry;

/// Whom file calls are made as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The Unix account's name.
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
}

#[derive(Debug, Error)]
pub enum IdentityError {
    #[error(
        "no Unix account {account:?} on this machine; create it (useradd), or add the user with another account's number (smbd passwd add --uid)"
    )]
    NoAccount { account: String },
    #[error(
        "no Unix account {}: none of them is known to the name service; see nsswitch.conf (sss, winbind), create one (useradd), or add the user with another account's number (smbd passwd add --uid)",
        tried.join(", ")
    )]
    NoDomainAccount { tried: Vec<String> },
    #[error(
        "{account:?} is root, and no ticket makes one root; add it with smbd passwd add to allow it"
    )]
    Root { account: String },
    #[error("reading Unix account {account:?} failed: {errno}; see nsswitch.conf")]
    Lookup { account: String, errno: nix::Error },
}

impl Identity {
    /// The identity a user of the user file has: the account of its uid, else that of its name.
    pub fn of_entry(entry: &UserEntry) -> Result<Identity, IdentityError> {
        match entry.uid {
            Some(uid) => Identity::of_uid(uid),
            None => Identity::of_account(&entry.name),
        }
    }

    /// The identity of a Kerberos user whom the user file does not name: of the first of these accounts
    /// that is there. Never root's: whoever may be root stands in the user file.
    pub fn of_ticket(accounts: &[String]) -> Result<Identity, IdentityError> {
        for account in accounts {
            match Identity::of_account(account) {
                Err(IdentityError::NoAccount { .. }) => {}
                Ok(identity) if identity.uid == 0 => {
                    return Err(IdentityError::Root {
                        account: account.clone(),
                    });
                }
                outcome => return outcome,
            }
        }
        Err(IdentityError::NoDomainAccount {
            tried: accounts.to_vec(),
        })
    }

    pub fn of_account(name: &str) -> Result<Identity, IdentityError> {
        Identity::build(name, User::from_name(name))
    }

    pub fn of_uid(uid: u32) -> Result<Identity, IdentityError> {
        Identity::build(&uid.to_string(), User::from_uid(Uid::from_raw(uid)))
    }

    fn build(account: &str, found: nix::Result<Option<User>>) -> Result<Identity, IdentityError> {
        let lookup = |errno| IdentityError::Lookup {
            account: account.to_owned(),
            errno,
        };
        let user = found
            .map_err(lookup)?
            .ok_or_else(|| IdentityError::NoAccount {
                account: account.to_owned(),
            })?;
        let name = CString::new(user.name.as_str()).map_err(|_| lookup(nix::Error::EINVAL))?;
        let groups = getgrouplist(&name, user.gid).map_err(lookup)?;
        Ok(Identity {
            user: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(|gid| gid.as_raw()).collect(),
        })
    }
}

/// What the name service may call a user of a realm: SSSD with the domain behind the name, winbind before it, both of them
/// without where they are set so. The whole names first: an account of this machine alone may have the bare one.
pub fn accounts_of(name: &str, realm: &str, workgroup: &str) -> Vec<String> {
    vec![
        format!("{name}@{realm}"),
        format!("{workgroup}\\{name}"),
        name.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::ntlm::NtHash;

    #[test]
    fn root_has_uid_0_by_name_and_by_uid() {
        let by_name = Identity::of_account("root").unwrap();
        assert_eq!((by_name.uid, by_name.gid), (0, 0));
        assert!(by_name.groups.contains(&0));
        assert_eq!(Identity::of_uid(0).unwrap(), by_name);
    }

    #[test]
    fn the_uid_of_an_entry_goes_before_its_name() {
        let entry = UserEntry {
            name: "no-such-account-here".into(),
            uid: Some(0),
            hash: NtHash::from_bytes([0; 16]),
            disabled: false,
        };
        assert_eq!(Identity::of_entry(&entry).unwrap().user, "root");
    }

    #[test]
    fn a_ticket_makes_nobody_root() {
        let of = |name| Identity::of_ticket(&accounts_of(name, "EXAMPLE.ORG", "EXAMPLE"));
        assert!(matches!(of("root"), Err(IdentityError::Root { .. })));
        assert!(of("nobody").is_ok());
        let error = of("no-such-account-here").unwrap_err().to_string();
        let tried = "no-such-account-here@EXAMPLE.ORG, EXAMPLE\\no-such-account-here";
        assert!(error.contains(tried), "{error}");
    }

    #[test]
    fn a_missing_account_is_named_and_told_what_to_do_about() {
        let error = Identity::of_account("no-such-account-here")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"no-such-account-here\"") && error.contains("useradd"),
            "{error}"
        );
    }
}
