//! Tree connects (MS-SMB2 3.3.1.9): a session's use of one share.

use proto::smb2::{AccessMask, TreeId};

/// What a tree connect leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// A share's directory.
    Disk,
    /// IPC$: named pipes.
    Pipe,
}

/// One tree connect.
#[derive(Debug)]
pub struct Tree {
    /// TreeConnect.TreeId.
    pub id: TreeId,
    /// A directory or IPC$.
    pub kind: TreeKind,
    /// TreeConnect.MaximalAccess: what any open through it may have at most.
    pub maximal_access: AccessMask,
    /// Nothing may be changed through it, whatever the user's rights.
    pub read_only: bool,
}
