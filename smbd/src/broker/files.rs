//! Share modes, delete-pending and oplocks, over all children's opens of a file (MS-FSA 2.1.5.1.2,
//! 2.1.5.5, 2.1.5.15.3, 2.1.5.18). Keyed by the file's identity, so renames change nothing here.
//!
//! Exactly one child deletes a file: whoever closes its last open while it is delete-pending.
//! Until that child has said it is done, the file stays listed and nobody can open it.
//!
//! An oplock goes to a file's only open. An open that breaks it waits until its holder has released
//! it, closed the file or died; a child bounds what its client takes for that.

use std::collections::HashMap;

use proto::control::ChildId;
use proto::control::broker::{FileKey, FromBroker, OpenId, OpenMode, Oplock, ShareDenied};
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
    /// Opens that wait for an oplock's end, oldest first.
    waiting: Vec<OpenRecord>,
    delete_pending: bool,
    /// Who deletes it now; it has no opens then.
    deleting: Option<(ChildId, OpenId)>,
}

#[derive(Debug)]
struct OpenRecord {
    child: ChildId,
    open: OpenId,
    mode: OpenMode,
    /// Its oplock's holder was told to give it up.
    breaking: bool,
}

/// What becomes of an open.
enum Verdict {
    Granted,
    Denied(ShareDenied),
    /// When an oplock has ended.
    Waits,
}

impl Files {
    /// A child wants a file. Answered at once, unless an oplock is in the way.
    pub fn open(
        &mut self,
        child: ChildId,
        open: OpenId,
        key: FileKey,
        mode: OpenMode,
        answers: &mut Vec<Answer>,
    ) -> Result<(), FileOffence> {
        let held = self.children.entry(child).or_default();
        if held.contains_key(&open) {
            return Err(FileOffence::NumberInUse);
        }
        if held.len() >= MAX_OPENS {
            let reason = ShareDenied::TooManyOpens;
            answers.push((child, FromBroker::Denied { open, reason }));
            return Ok(());
        }
        held.insert(open, key);
        let file = self.files.entry(key).or_default();
        file.waiting.push(OpenRecord::new(child, open, mode));
        self.admit(key, answers);
        Ok(())
    }

    /// An oplock has ended; what waited for that may go on.
    pub fn release_oplock(
        &mut self,
        child: ChildId,
        open: OpenId,
        answers: &mut Vec<Answer>,
    ) -> Result<(), FileOffence> {
        let key = self.key(child, open).ok_or(FileOffence::UnknownOpen)?;
        let opens = self.files.get_mut(&key).map(|file| &mut file.opens);
        let record = opens
            .and_then(|opens| opens.iter_mut().find(|record| record.is(child, open)))
            .ok_or(FileOffence::UnknownOpen)?;
        record.mode.oplock = Oplock::None;
        record.breaking = false;
        self.admit(key, answers);
        Ok(())
    }

    /// Decides on the opens that wait for a file, in their order.
    fn admit(&mut self, key: FileKey, answers: &mut Vec<Answer>) {
        let Some(file) = self.files.get_mut(&key) else {
            return;
        };
        let mut denied = Vec::new();
        for mut record in std::mem::take(&mut file.waiting) {
            let (child, open) = (record.child, record.open);
            match file.judge(record.mode, answers) {
                Verdict::Granted => {
                    let other_opens = !file.opens.is_empty();
                    if other_opens {
                        record.mode.oplock = Oplock::None;
                    }
                    let granted = FromBroker::Granted {
                        open,
                        other_opens,
                        oplock: record.mode.oplock,
                    };
                    file.opens.push(record);
                    answers.push((child, granted));
                }
                Verdict::Denied(reason) => {
                    denied.push((child, open));
                    answers.push((child, FromBroker::Denied { open, reason }));
                }
                Verdict::Waits => file.waiting.push(record),
            }
        }
        for (child, open) in denied {
            self.forget(child, open, key);
        }
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
        file.opens.push(OpenRecord::new(child, open, mode));
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
        self.admit(key, answers);
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
                file.waiting.retain(|record| !record.is(child, open));
                self.admit(key, answers);
                if self.files.get(&key).is_some_and(File::is_unused) {
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
        if self.files.get(&key).is_some_and(File::is_unused) {
            self.files.remove(&key);
        }
    }
}

impl OpenRecord {
    fn new(child: ChildId, open: OpenId, mode: OpenMode) -> OpenRecord {
        OpenRecord {
            child,
            open,
            mode,
            breaking: false,
        }
    }

    fn is(&self, child: ChildId, open: OpenId) -> bool {
        self.child == child && self.open == open
    }
}

impl File {
    fn is_unused(&self) -> bool {
        self.opens.is_empty() && self.waiting.is_empty() && self.deleting.is_none()
    }

    /// Whether an open like this may be now; asks an oplock's holder to give it up if that is why not.
    fn judge(&mut self, mode: OpenMode, answers: &mut Vec<Answer>) -> Verdict {
        // MS-FSA 2.1.5.1.2: whatever access is asked for.
        if self.delete_pending || self.deleting.is_some() {
            return Verdict::Denied(ShareDenied::DeletePending);
        }
        let violates = self.opens.iter().any(|other| conflict(mode, other.mode));
        let holder = self
            .opens
            .iter_mut()
            .find(|other| other.mode.oplock != Oplock::None)
            .filter(|_| breaks_oplocks(mode));
        match holder {
            // The share mode of a batch oplock's holder is asked about when it has answered.
            Some(holder) if !violates || holder.mode.oplock == Oplock::Batch => {
                if !holder.breaking {
                    holder.breaking = true;
                    let open = holder.open;
                    answers.push((holder.child, FromBroker::BreakOplock { open }));
                }
                Verdict::Waits
            }
            _ if violates => Verdict::Denied(ShareDenied::SharingViolation),
            _ => Verdict::Granted,
        }
    }

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
        let found = self.opens.iter().position(|record| record.is(child, open));
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

/// MS-FSA 2.1.5.1.2: an open for attributes alone breaks no oplock.
fn breaks_oplocks(mode: OpenMode) -> bool {
    let harmless =
        AccessMask::READ_ATTRIBUTES | AccessMask::WRITE_ATTRIBUTES | AccessMask::SYNCHRONIZE;
    !harmless.contains(AccessMask::from_bits_retain(mode.access))
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
