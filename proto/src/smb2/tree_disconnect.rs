//! TREE_DISCONNECT (MS-SMB2 2.2.11, 2.2.12): a body that says nothing, both ways.

empty_messages! {
    /// MS-SMB2 2.2.11.
    pub struct TreeDisconnectRequest;

    /// MS-SMB2 2.2.12.
    pub struct TreeDisconnectResponse;
}
