//! A share's lists of users and groups, and the right they give.
//!
//! Asked at a tree connect. Group membership comes from the caller, who knows the user's Unix
//! groups.

use std::fmt;

use super::parameters::Share;
use super::values::{Show, list, no_macro};

/// `user` or `@group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameMatch {
    User(String),
    Group(String),
}

/// What a user may do in a share, before the files' own permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareRight {
    ReadOnly,
    ReadWrite,
}

impl Share {
    /// `None`: no access. `is_account` says whether the user's Unix account is that of a name with its domain
    /// (`EXAMPLE\alice`, `alice@example.org`), which the name service knows by several. `is_member` says whether the user is in a Unix group of that name. Being
    /// refused goes before being let in, `write list` before `read list`, and both before `read
    /// only` (as in smb.conf's manual).
    pub fn right_of(
        &self,
        user: &str,
        is_account: impl Fn(&str) -> bool,
        is_member: impl Fn(&str) -> bool,
    ) -> Option<ShareRight> {
        let listed = |names: &[NameMatch]| {
            names.iter().any(|name| match name {
                NameMatch::User(name) => {
                    let has_domain = name.contains(['\\', '@']);
                    name.to_lowercase() == user.to_lowercase() || has_domain && is_account(name)
                }
                NameMatch::Group(group) => is_member(group),
            })
        };
        if listed(&self.invalid_users) {
            return None;
        }
        if !self.valid_users.is_empty() && !listed(&self.valid_users) {
            return None;
        }
        if listed(&self.write_list) {
            return Some(ShareRight::ReadWrite);
        }
        if listed(&self.read_list) || self.read_only {
            return Some(ShareRight::ReadOnly);
        }
        Some(ShareRight::ReadWrite)
    }
}

impl fmt::Display for NameMatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, name) = match self {
            NameMatch::User(name) => ("", name),
            NameMatch::Group(name) => ("@", name),
        };
        if name.contains([' ', ',', ';']) {
            write!(formatter, "\"{mark}{name}\"")
        } else {
            write!(formatter, "{mark}{name}")
        }
    }
}

impl Show for NameMatch {
    fn show(&self) -> String {
        self.to_string()
    }
}

pub(super) fn names(text: &str) -> Result<Vec<NameMatch>, String> {
    list(text)?
        .into_iter()
        .map(|item| {
            no_macro(&item)?;
            // All of Samba's marks for groups mean Unix groups here: there is no NIS.
            let name = item.trim_start_matches(['@', '+', '&']);
            if name.is_empty() {
                return Err(format!(
                    "{item:?} names nobody: allowed are user and @group"
                ));
            }
            let name = name.to_owned();
            Ok(if name.len() == item.len() {
                NameMatch::User(name)
            } else {
                NameMatch::Group(name)
            })
        })
        .collect()
}
