//! Share modes and delete-pending, over all children's opens of a file (MS-FSA 2.1.5.1.2.2,
//! 2.1.5.5, 2.1.5.15.3). Keyed by the file's identity, so renames change nothing here.
//!
//! Exactly one child deletes a file: whoever closes its last open while it is delete-pending.
//! Until that child has said it is done, the file stays listed and nobody can open it.

use std::collections::HashMap;

use proto::control::ChildId;
use proto::control::broker::{FileKey, FromBroker, OpenId, OpenMode, ShareDenied};
use proto::smb2::access::{AccessMask, ShareAccess};

/// Opens of one child. Its own limit per session is far lower; this bounds the broker's memory.
pub const MAX_OPENS: usize = 65_536;

/// A message to one child.
pub type Answer = (ChildId, FromBroker);

/// A child that asked for what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileOffence {
    /// The number is in use.
    #[error("an open's number used twice")]
    NumberInUse,
    /// The number names no open of this child in that state.
    #[error("a request for an open it does not have")]
    UnknownOpen,
}

/// Every open of every child.
#[derive(Debug, Default)]
pub struct Files {
    files: HashMap<FileKey, File>,
    children: HashMap<ChildId, HashMap<OpenId, FileKey>>,
}

#[derive(Debug, Default)]
struct File {
    opens: Vec<OpenRecord>,
    delete_pending: bool,
    /// Who deletes it now; it has no opens then.
    deleting: Option<(ChildId, OpenId)>,
}

#[derive(Debug)]
struct OpenRecord {
    child: ChildId,
    open: OpenId,
    mode: OpenMode,
}

impl Files {
    /// A child wants a file.
    pub fn open(
        &mut self,
        child: ChildId,
        open: OpenId,
        key: FileKey,
        mode: OpenMode,
    ) -> Result<FromBroker, FileOffence> {
        let held = self.children.entry(child).or_default();
        if held.contains_key(&open) {
            return Err(FileOffence::NumberInUse);
        }
        let denied = |reason| Ok(FromBroker::Denied { open, reason });
        if held.len() >= MAX_OPENS {
            return denied(ShareDenied::TooManyOpens);
        }
        if let Some(file) = self.files.get(&key) {
            // MS-FSA 2.1.5.1.2: whatever access is asked for.
            if file.delete_pending || file.deleting.is_some() {
                return denied(ShareDenied::DeletePending);
            }
            if file.opens.iter().any(|other| conflict(mode, other.mode)) {
                return denied(ShareDenied::SharingViolation);
            }
        }
        held.insert(open, key);
        let file = self.files.entry(key).or_default();
        let other_opens = !file.opens.is_empty();
        file.opens.push(OpenRecord { child, open, mode });
        Ok(FromBroker::Granted { open, other_opens })
    }

    /// A child brings an open the broker before this one had granted.
    ///
    /// Delete-pending comes back only if every open of the file says so: when they disagree, the
    /// last broker died while it told them, and keeping the file is the harmless side.
    pub fn restore(
        &mut self,
        child: ChildId,
        open: OpenId,
        key: FileKey,
        mode: OpenMode,
        delete_pending: bool,
    ) -> Result<(), FileOffence> {
        let held = self.children.entry(child).or_default();
        if held.len() >= MAX_OPENS || held.insert(open, key).is_some() {
            return Err(FileOffence::NumberInUse);
        }
        let file = self.files.entry(key).or_default();
        file.delete_pending = delete_pending && (file.opens.is_empty() || file.delete_pending);
        file.opens.push(OpenRecord { child, open, mode });
        Ok(())
    }

    /// FileDispositionInformation: marks the file, whoever else has it open.
    pub fn set_delete_pending(
        &mut self,
        child: ChildId,
        open: OpenId,
        on: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<(), FileOffence> {
        let file = self
            .key(child, open)
            .and_then(|key| self.files.get_mut(&key))
            .filter(|file| file.deleting.is_none())
            .ok_or(FileOffence::UnknownOpen)?;
        file.mark(on, answers);
        answers.push((child, FromBroker::DeletePendingSet { open }));
        Ok(())
    }

    /// A child closes an open; it may have to delete the file now.
    pub fn close(
        &mut self,
        child: ChildId,
        open: OpenId,
        answers: &mut Vec<Answer>,
    ) -> Result<(), FileOffence> {
        let key = self.key(child, open).ok_or(FileOffence::UnknownOpen)?;
        let file = self
            .files
            .get_mut(&key)
            .filter(|file| file.deleting.is_none())
            .ok_or(FileOffence::UnknownOpen)?;
        file.remove(child, open, answers);
        let delete = file.opens.is_empty() && file.delete_pending;
        if delete {
            file.deleting = Some((child, open));
        } else {
            self.forget(child, open, key);
        }
        answers.push((child, FromBroker::Closed { open, delete }));
        Ok(())
    }

    /// The child ended the deletion its close had to do.
    pub fn deleted(&mut self, child: ChildId, open: OpenId) -> Result<(), FileOffence> {
        let key = self.key(child, open).ok_or(FileOffence::UnknownOpen)?;
        let deleting = self.files.get(&key).and_then(|file| file.deleting);
        if deleting != Some((child, open)) {
            return Err(FileOffence::UnknownOpen);
        }
        if let Some(file) = self.files.get_mut(&key) {
            file.deleting = None;
        }
        self.forget(child, open, key);
        Ok(())
    }

    /// A child died: its opens are closed, its deletions ended. A file whose last open it had
    /// stays: nobody is left who knows its name.
    pub fn release(&mut self, child: ChildId, answers: &mut Vec<Answer>) {
        for (open, key) in self.children.remove(&child).unwrap_or_default() {
            if let Some(file) = self.files.get_mut(&key) {
                if file.deleting == Some((child, open)) {
                    file.deleting = None;
                }
                file.remove(child, open, answers);
                if file.opens.is_empty() && file.deleting.is_none() {
                    self.files.remove(&key);
                }
            }
        }
        answers.retain(|(receiver, _)| *receiver != child);
    }

    /// Opens and files listed.
    pub fn counts(&self) -> (usize, usize) {
        let opens = self.children.values().map(HashMap::len).sum();
        (opens, self.files.len())
    }

    fn key(&self, child: ChildId, open: OpenId) -> Option<FileKey> {
        self.children.get(&child)?.get(&open).copied()
    }

    /// Drops a child's open, and the file with its last one.
    fn forget(&mut self, child: ChildId, open: OpenId, key: FileKey) {
        if let Some(held) = self.children.get_mut(&child) {
            held.remove(&open);
            if held.is_empty() {
                self.children.remove(&child);
            }
        }
        let unused = self
            .files
            .get(&key)
            .is_some_and(|file| file.opens.is_empty() && file.deleting.is_none());
        if unused {
            self.files.remove(&key);
        }
    }
}

impl File {
    fn mark(&mut self, on: bool, answers: &mut Vec<Answer>) {
        if self.delete_pending != on {
            self.delete_pending = on;
            answers.extend(self.opens.iter().map(|other| {
                let open = other.open;
                (other.child, FromBroker::DeletePending { open, on })
            }));
        }
    }

    /// Takes one open out; FILE_DELETE_ON_CLOSE marks the file then (MS-FSA 2.1.5.5).
    fn remove(&mut self, child: ChildId, open: OpenId, answers: &mut Vec<Answer>) {
        let found = self
            .opens
            .iter()
            .position(|record| record.child == child && record.open == open);
        if let Some(record) = found.map(|position| self.opens.swap_remove(position))
            && record.mode.delete_on_close
        {
            self.mark(true, answers);
        }
    }
}

/// MS-FSA 2.1.5.1.2.2. Opens that neither read, write nor delete data conflict with nothing.
fn conflict(new: OpenMode, existing: OpenMode) -> bool {
    concerns_sharing(new.access)
        && concerns_sharing(existing.access)
        && !(permits(existing.share, new.access) && permits(new.share, existing.access))
}

/// Whether an open with this sharing lets another with that access be.
fn permits(share: u32, access: u32) -> bool {
    let share = ShareAccess::from_bits_retain(share);
    let access = AccessMask::from_bits_retain(access);
    let read = AccessMask::READ_DATA | AccessMask::EXECUTE;
    let write = AccessMask::WRITE_DATA | AccessMask::APPEND_DATA;
    (share.contains(ShareAccess::READ) || !access.intersects(read))
        && (share.contains(ShareAccess::WRITE) || !access.intersects(write))
        && (share.contains(ShareAccess::DELETE) || !access.contains(AccessMask::DELETE))
}

fn concerns_sharing(access: u32) -> bool {
    AccessMask::from_bits_retain(access).intersects(AccessMask::CONCERNS_SHARING)
}
