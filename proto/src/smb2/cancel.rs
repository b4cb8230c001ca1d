//! CANCEL (MS-SMB2 2.2.30): the header names what to cancel, and nothing answers it.

empty_messages! {
    /// MS-SMB2 2.2.30.
    pub struct CancelRequest;
}
