//! Connection.RequestList (MS-SMB2 3.3.1.7): requests under way, for CANCEL to find.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use proto::smb2::{AsyncId, MessageId};

use super::Progress;

/// Asynchronous requests of a connection at once, as Windows has it (MS-SMB2 3.3.4.2).
const MAX_ASYNC: usize = 511;

/// Requests of one connection that have no final response yet.
#[derive(Debug, Default)]
pub struct Requests {
    by_message: HashMap<MessageId, Rc<Progress>>,
    by_async: HashMap<AsyncId, MessageId>,
}

thread_local! {
    /// AsyncIds are the process's, so that one never means two requests of a client.
    static LAST_ASYNC_ID: Cell<u64> = const { Cell::new(0) };
}

impl Requests {
    /// Adds a request.
    pub fn begin(&mut self, id: MessageId) -> Rc<Progress> {
        let progress = Rc::new(Progress::default());
        self.by_message.insert(id, Rc::clone(&progress));
        progress
    }

    /// Whether one more request may wait for what may never come.
    pub fn may_wait(&self) -> bool {
        self.by_async.len() < MAX_ASYNC
    }

    /// Gives a request an AsyncId (MS-SMB2 3.3.4.2).
    pub fn go_async(&mut self, id: MessageId) -> AsyncId {
        let async_id = AsyncId(LAST_ASYNC_ID.with(|last| {
            last.set(last.get() + 1);
            last.get()
        }));
        self.by_async.insert(async_id, id);
        async_id
    }

    /// Removes a request that is answered.
    pub fn finish(&mut self, id: MessageId, async_id: Option<AsyncId>) {
        self.by_message.remove(&id);
        if let Some(async_id) = async_id {
            self.by_async.remove(&async_id);
        }
    }

    /// What a CANCEL names (MS-SMB2 3.3.5.16); a request that is answered already is not found.
    pub fn find(&self, message: MessageId, async_id: Option<AsyncId>) -> Option<Rc<Progress>> {
        let message = match async_id {
            Some(async_id) => self.by_async.get(&async_id)?,
            None => &message,
        };
        self.by_message.get(message).cloned()
    }

    /// Cancels everything: the connection is gone.
    pub fn cancel_all(&self) {
        self.by_message
            .values()
            .for_each(|progress| progress.cancel());
    }

    /// Requests under way.
    pub fn len(&self) -> usize {
        self.by_message.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_message.is_empty()
    }
}
