//! ECHO (MS-SMB2 2.2.28, 2.2.29): a body that says nothing, both ways.

empty_messages! {
    /// MS-SMB2 2.2.28.
    pub struct EchoRequest;

    /// MS-SMB2 2.2.29.
    pub struct EchoResponse;
}
