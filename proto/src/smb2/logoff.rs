//! LOGOFF (MS-SMB2 2.2.7, 2.2.8): a body that says nothing, both ways.

empty_messages! {
    /// MS-SMB2 2.2.7.
    pub struct LogoffRequest;

    /// MS-SMB2 2.2.8.
    pub struct LogoffResponse;
}
