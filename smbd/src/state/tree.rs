//! Tree connects (MS-SMB2 3.3.1.9): a session's use of one share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use proto::smb2::{AccessMask, NtStatus, TreeId};

use crate::security::users::Identity;
use crate::vfs::Share;

/// Tree connects a session may have: far above what any client uses.
const MAX_TREES: usize = 1024;

/// What a tree connect leads to.
#[derive(Debug, Clone)]
pub enum TreeKind {
    /// A share's directory.
    Disk(Arc<Share>),
    /// IPC$: named pipes.
    Pipe,
}

/// One tree connect.
#[derive(Debug)]
pub struct Tree {
    /// TreeConnect.TreeId.
    pub id: TreeId,
    /// A share or IPC$.
    pub kind: TreeKind,
    /// Whom file calls through it are made as: the session's user, unless the share says otherwise.
    /// Where a session changes its user, another one takes the tree connect's place.
    pub identity: Arc<Identity>,
    /// TreeConnect.MaximalAccess: what any open through it may have at most.
    pub maximal_access: AccessMask,
    /// Nothing may be changed through it, whatever the user's rights.
    pub read_only: bool,
    /// Data of its files may be sent compressed (`smb3 compression`).
    pub compress: bool,
    /// TreeConnect.Share.EncryptData: what is not encrypted is refused.
    pub encrypt_data: bool,
    /// It was ended: nothing is opened through it any more.
    pub ended: Rc<Cell<bool>>,
}

/// Session.TreeConnectTable.
#[derive(Debug)]
pub struct Trees {
    table: RefCell<HashMap<TreeId, Rc<Tree>>>,
    last: Cell<u32>,
    /// The session has ended: nothing is added any more.
    ended: Cell<bool>,
}

impl Tree {
    /// The share; INVALID_DEVICE_REQUEST for IPC$, which has no files.
    pub fn share(&self) -> Result<&Arc<Share>, NtStatus> {
        match &self.kind {
            TreeKind::Disk(share) => Ok(share),
            TreeKind::Pipe => Err(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    /// Whether this is IPC$.
    pub fn is_pipe(&self) -> bool {
        matches!(self.kind, TreeKind::Pipe)
    }
}

impl Default for Trees {
    fn default() -> Trees {
        Trees {
            table: RefCell::default(),
            last: Cell::new(0),
            ended: Cell::new(false),
        }
    }
}

impl Trees {
    /// The tree connect of `id`.
    pub fn find(&self, id: TreeId) -> Option<Rc<Tree>> {
        self.table.borrow().get(&id).cloned()
    }

    /// Adds the tree connect `make` builds with a fresh identifier.
    pub fn add(&self, make: impl FnOnce(TreeId) -> Tree) -> Result<Rc<Tree>, NtStatus> {
        if self.ended.get() {
            // A TREE_CONNECT under way while its session ended: what is opened through it, in the
            // same compound, would outlive the session.
            return Err(NtStatus::USER_SESSION_DELETED);
        }
        let mut table = self.table.borrow_mut();
        if table.len() >= MAX_TREES {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let id = loop {
            let next = TreeId(self.last.get().wrapping_add(1));
            self.last.set(next.0);
            // 0 is no tree, all ones means "the one before" in a compound.
            if next != TreeId(0) && next != TreeId::RELATED && !table.contains_key(&next) {
                break next;
            }
        };
        let tree = Rc::new(make(id));
        table.insert(id, Rc::clone(&tree));
        Ok(tree)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Rc<Tree>> {
        self.table.borrow().values().cloned().collect()
    }

    /// Puts one in the place of the one with its identifier, unless that has ended.
    pub fn replace(&self, tree: Tree) {
        if let Some(place) = self.table.borrow_mut().get_mut(&tree.id) {
            *place = Rc::new(tree);
        }
    }

    /// Forgets a tree connect.
    pub fn remove(&self, id: TreeId) -> Option<Rc<Tree>> {
        let tree = self.table.borrow_mut().remove(&id)?;
        tree.ended.set(true);
        Some(tree)
    }

    /// Forgets all of them, with the session they belong to.
    pub fn end(&self) {
        self.ended.set(true);
        for (_, tree) in self.table.borrow_mut().drain() {
            tree.ended.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(trees: &Trees) -> Result<Rc<Tree>, NtStatus> {
        let identity = Identity {
            user: "alice".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
        };
        trees.add(|id| Tree {
            id,
            kind: TreeKind::Pipe,
            identity: Arc::new(identity),
            maximal_access: AccessMask::FILE_ALL_ACCESS,
            read_only: false,
            compress: false,
            encrypt_data: false,
            ended: Default::default(),
        })
    }

    #[test]
    fn an_ended_session_takes_no_tree_connect_any_more() {
        let trees = Trees::default();
        let tree = connect(&trees).unwrap();
        trees.end();
        assert!(tree.ended.get() && trees.find(tree.id).is_none());
        assert_eq!(connect(&trees).err(), Some(NtStatus::USER_SESSION_DELETED));
    }
}
