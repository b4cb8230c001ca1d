//! CANCEL (MS-SMB2 3.3.5.16): names a request, by MessageId or AsyncId, and is never answered.
//!
//! Carried out when it is received, not in a task: what it names may be waiting for it. A handler
//! that waits answers STATUS_CANCELLED; one that does not, ends as it would have.

use proto::smb2::Header;

use crate::state::Connection;

/// Marks the request it names. One that is unknown, or answered already, is ignored; so is
/// whatever the signature says, since a forged one could have been a dropped connection as well.
pub fn carry_out(connection: &Connection, header: &Header) {
    let found = connection
        .requests
        .borrow()
        .find(header.message_id, header.async_id());
    if let Some(progress) = found {
        progress.cancel();
    }
}
