//! Opens (MS-SMB2 3.3.1.10) and the table of a session's opens.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use proto::control::broker::OpenId;
use proto::smb2::{AccessMask, CreateOptions, FileId, NtStatus};
use slab::Slab;

use super::{ChannelSequence, Tree};
use crate::dispatch::Progress;
use crate::rpc::NamedPipe;
use crate::vfs;
use crate::vfs::directory::Scan;

/// Opens a session may have: what one client may take of the process's descriptors.
pub const MAX_OPENS: usize = 16_384;

/// One open file, directory or pipe.
pub struct Open {
    /// Its identifier.
    pub id: FileId,
    /// The tree connect it was made through.
    pub tree: Rc<Tree>,
    /// The file behind it.
    pub file: OpenFile,
    /// Open.ChannelSequence, and what is under way.
    pub sequence: ChannelSequence,
    /// Set when it is closed: requests that wait on it (CHANGE_NOTIFY) end.
    pub closed: Progress,
}

/// What is open.
pub enum OpenFile {
    /// A file or directory of a share.
    Disk(DiskOpen),
    /// A named pipe of IPC$.
    Pipe(Box<PipeOpen>),
}

/// A file or directory that a client has open.
pub struct DiskOpen {
    /// The file itself; jobs of the pool hold it too.
    pub file: Arc<vfs::File>,
    /// Open.GrantedAccess.
    pub granted: AccessMask,
    /// What CREATE asked for: write-through and the mode a query reports.
    pub options: CreateOptions,
    /// Names this open to the broker.
    pub grant: OpenId,
    /// FilePositionInformation: behind the last byte read. Kept for the client, used by nobody.
    pub position: Cell<u64>,
    /// Open.EnumerationLocation and its pattern; `None` before the first QUERY_DIRECTORY.
    pub scan: Arc<Mutex<Option<Scan>>>,
    /// Open.LockList: what it has locked, each lock as it was asked for.
    pub locks: RefCell<Vec<HeldLock>>,
}

/// A named pipe that a client has open.
pub struct PipeOpen {
    /// The pipe.
    pub pipe: NamedPipe,
    /// Open.GrantedAccess.
    pub granted: AccessMask,
}

/// A byte-range lock an open holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    pub offset: u64,
    pub length: u64,
    pub exclusive: bool,
}

/// An open that the table does not take.
pub struct NotAdded {
    /// Why.
    pub status: NtStatus,
    /// The open, in no table: whoever made it releases it (`handlers::close::release`).
    pub open: Rc<Open>,
}

/// The opens of a session (Session.OpenTable).
#[derive(Default)]
pub struct Opens {
    table: RefCell<Slab<Rc<Open>>>,
    generation: Cell<u32>,
}

impl Opens {
    /// The open of `id`.
    pub fn find(&self, id: FileId) -> Result<Rc<Open>, NtStatus> {
        self.table
            .borrow()
            .get(index_of(id))
            .filter(|open| open.id == id)
            .cloned()
            .ok_or(NtStatus::FILE_CLOSED)
    }

    /// Adds an open. One that can't be added is given back, to be released: the tree connect or
    /// session ended while it was opened (NETWORK_NAME_DELETED), or the session has as many as it
    /// may (INSUFFICIENT_RESOURCES).
    /// `sequence` is the ChannelSequence of its CREATE.
    pub fn insert(
        &self,
        tree: Rc<Tree>,
        file: OpenFile,
        sequence: u16,
    ) -> Result<Rc<Open>, NotAdded> {
        let mut table = self.table.borrow_mut();
        let refusal = if tree.ended.get() {
            Some(NtStatus::NETWORK_NAME_DELETED)
        } else if table.len() >= MAX_OPENS {
            Some(NtStatus::INSUFFICIENT_RESOURCES)
        } else {
            None
        };
        if let Some(status) = refusal {
            let open = Rc::new(Open {
                id: FileId::RELATED,
                tree,
                file,
                sequence: ChannelSequence::default(),
                closed: Progress::default(),
            });
            return Err(NotAdded { status, open });
        }
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let entry = table.vacant_entry();
        let number = u64::from(generation) << 32 | entry.key() as u64;
        let open = Rc::new(Open {
            id: FileId {
                // Not durable: it names the open no further than the volatile half does.
                persistent: number,
                volatile: number,
            },
            tree,
            file,
            sequence: ChannelSequence::starting_at(sequence),
            closed: Progress::default(),
        });
        entry.insert(Rc::clone(&open));
        Ok(open)
    }

    /// Takes an open out: nobody finds it any more.
    pub fn remove(&self, id: FileId) -> Result<Rc<Open>, NtStatus> {
        let open = self.find(id)?;
        self.table.borrow_mut().try_remove(index_of(id));
        open.closed.cancel();
        Ok(open)
    }

    /// Takes out every open of a tree connect, or all of them: to be released one by one
    /// (`handlers::close::release`).
    pub fn remove_all(&self, tree: Option<&Rc<Tree>>) -> Vec<Rc<Open>> {
        let ids: Vec<FileId> = self
            .table
            .borrow()
            .iter()
            .filter(|(_, open)| tree.is_none_or(|tree| open.tree.id == tree.id))
            .map(|(_, open)| open.id)
            .collect();
        ids.into_iter()
            .filter_map(|id| self.remove(id).ok())
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Open {
    /// The file or directory; INVALID_DEVICE_REQUEST for anything else.
    pub fn disk(&self) -> Result<&DiskOpen, NtStatus> {
        match &self.file {
            OpenFile::Disk(disk) => Ok(disk),
            OpenFile::Pipe(_) => Err(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    /// The named pipe, if it is one.
    pub fn pipe(&self) -> Option<&PipeOpen> {
        match &self.file {
            OpenFile::Disk(_) => None,
            OpenFile::Pipe(pipe) => Some(pipe.as_ref()),
        }
    }
}

impl HeldLock {
    /// Whether each byte of the other is one of this.
    pub fn covers(&self, other: &HeldLock) -> bool {
        let end = |lock: &HeldLock| u128::from(lock.offset) + u128::from(lock.length);
        self.offset <= other.offset && end(other) <= end(self)
    }

    /// Whether both have a byte in common.
    pub fn overlaps(&self, other: &HeldLock) -> bool {
        let last = |lock: &HeldLock| lock.offset.saturating_add(lock.length.saturating_sub(1));
        self.length > 0
            && other.length > 0
            && self.offset <= last(other)
            && other.offset <= last(self)
    }
}

impl DiskOpen {
    /// Fails unless one of these rights was granted.
    pub fn require_any(&self, rights: AccessMask) -> Result<(), NtStatus> {
        if self.granted.intersects(rights) {
            Ok(())
        } else {
            Err(NtStatus::ACCESS_DENIED)
        }
    }
}

impl PipeOpen {
    /// Fails unless all these rights were granted.
    pub fn require(&self, rights: AccessMask) -> Result<(), NtStatus> {
        if self.granted.contains(rights) {
            Ok(())
        } else {
            Err(NtStatus::ACCESS_DENIED)
        }
    }
}

fn index_of(id: FileId) -> usize {
    (id.volatile & 0xffff_ffff) as usize
}
