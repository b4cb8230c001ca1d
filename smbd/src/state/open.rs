//! Opens (MS-SMB2 3.3.1.10) and the table of a session's opens.

use std::cell::RefCell;
use std::rc::Rc;

use proto::smb2::{FileId, NtStatus};
use slab::Slab;

use super::Tree;
use crate::vfs;

/// One open file, directory or pipe.
pub struct Open {
    /// Its identifier.
    pub id: FileId,
    /// The tree connect it was made through.
    pub tree: Rc<Tree>,
    /// The file behind it.
    pub file: vfs::OpenFile,
}

/// The opens of a session.
#[derive(Default)]
pub struct Opens {
    table: RefCell<Slab<Rc<Open>>>,
}

impl Opens {
    /// The open of `id`.
    pub fn find(&self, id: FileId) -> Result<Rc<Open>, NtStatus> {
        let table = self.table.borrow();
        usize::try_from(id.volatile & 0xffff_ffff)
            .ok()
            .and_then(|index| table.get(index))
            .filter(|open| open.id == id)
            .cloned()
            .ok_or(NtStatus::FILE_CLOSED)
    }
}
