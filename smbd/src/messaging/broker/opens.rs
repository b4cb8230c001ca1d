//! Opens at the broker: share modes, delete-pending, oplocks. Each is kept here until it is closed, so
//! that a restarted broker can be told of it.

use std::collections::VecDeque;
use std::future::Future;

use futures::channel::oneshot;
use proto::control::broker::{FileKey, OpenId, OpenMode, Oplock, ShareDenied, ToBroker};
use proto::smb2::AccessMask;

use super::{Broker, Closing, DeleteDuty, Grant, OpenRecord, Phase, answered};

impl Broker {
    /// Checks a file, open here already and not changed yet, against everybody's opens of it.
    /// Dropping the future closes the open again.
    pub fn open(
        &self,
        file: FileKey,
        mode: OpenMode,
    ) -> impl Future<Output = Result<Grant, ShareDenied>> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let open = OpenId(state.next_open);
        state.next_open += 1;
        let record = OpenRecord {
            file,
            mode,
            delete_pending: false,
            phase: Phase::Opening(reply),
            settings: VecDeque::new(),
        };
        state.opens.insert(open, record);
        state.send(&ToBroker::Open { open, file, mode });
        answered(answer)
    }

    /// Sets or clears the file's delete-pending mark, for all its opens.
    pub fn set_delete_pending(&self, open: OpenId, on: bool) -> impl Future<Output = ()> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let known = state
            .opens
            .get_mut(&open)
            .filter(|record| matches!(record.phase, Phase::Open));
        match known {
            Some(record) => {
                record.settings.push_back((on, reply));
                state.send(&ToBroker::SetDeletePending { open, on });
            }
            None => {
                let _ = reply.send(());
            }
        }
        answered(answer)
    }

    /// Opens whose oplock another open waits for, as told since the last call.
    pub fn oplock_breaks(&self) -> Vec<OpenId> {
        std::mem::take(&mut self.state.borrow_mut().breaks)
    }

    /// Whether an open has an oplock.
    pub fn holds_oplock(&self, open: OpenId) -> bool {
        let state = self.state.borrow();
        state.opens.get(&open).is_some_and(|record| {
            matches!(record.phase, Phase::Open) && record.mode.oplock != Oplock::None
        })
    }

    /// Gives an open's oplock up.
    pub fn release_oplock(&self, open: OpenId) {
        let state = &mut *self.state.borrow_mut();
        let held = state.opens.get_mut(&open).filter(|record| {
            matches!(record.phase, Phase::Open) && record.mode.oplock != Oplock::None
        });
        if let Some(record) = held {
            record.mode.oplock = Oplock::None;
            state.send(&ToBroker::OplockReleased { open });
        }
    }

    /// Whether the file of this open is delete-pending, as far as this process has been told.
    pub fn is_delete_pending(&self, open: OpenId) -> bool {
        self.state
            .borrow()
            .opens
            .get(&open)
            .is_some_and(|record| record.delete_pending)
    }

    /// Whether closing this open changes what others may do, so that whoever closes it must know it
    /// done: it takes part in share modes, or its file may be deleted with it.
    pub fn close_matters(&self, open: OpenId) -> bool {
        let state = self.state.borrow();
        state.opens.get(&open).is_some_and(|record| {
            AccessMask::from_bits_retain(record.mode.access)
                .intersects(AccessMask::CONCERNS_SHARING)
                || record.mode.delete_on_close
                || record.delete_pending
                || !record.settings.is_empty()
        })
    }

    /// Gives a granted open back. The caller keeps its descriptor until the answer: it may have
    /// to find the file's name with it. Dropping the future forgets a deletion asked for.
    pub fn close(&self, open: OpenId) -> impl Future<Output = Closing> + use<> {
        let (reply, answer) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let known = state
            .opens
            .get_mut(&open)
            .filter(|record| matches!(record.phase, Phase::Open));
        match known {
            Some(record) => {
                record.phase = Phase::Closing(reply);
                state.send(&ToBroker::Close { open });
            }
            None => {
                let _ = reply.send(Closing::Done);
            }
        }
        answered(answer)
    }
}

impl Drop for DeleteDuty {
    fn drop(&mut self) {
        let state = &mut *self.broker.state.borrow_mut();
        // A broker restarted since then knows nothing of the deletion.
        if state.opens.remove(&self.open).is_some() {
            state.send(&ToBroker::Deleted { open: self.open });
        }
    }
}
