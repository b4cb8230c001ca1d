//! Oplocks the client holds (Open.OplockLevel, Open.OplockState; MS-SMB2 3.3.1.10), by the number
//! their open has at the broker. The broker decides who gets one and when it is wanted back; what
//! goes to the client and comes from it is the business of `handlers::oplock_break`.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};

use proto::control::broker::OpenId;
use proto::smb2::FileId;

use super::Session;
use crate::dispatch::Progress;

/// All of the process's.
#[derive(Default)]
pub struct Oplocks {
    held: RefCell<HashMap<OpenId, Held>>,
    /// Wanted back before their CREATE was answered.
    early: RefCell<HashSet<OpenId>>,
}

struct Held {
    session: Weak<Session>,
    file: FileId,
    /// Set while the client is asked: Open.OplockState is Breaking.
    breaking: Option<Rc<Progress>>,
}

/// An oplock the client is to give up.
pub struct Break {
    pub session: Rc<Session>,
    pub file: FileId,
    /// Cancelled when it has ended, one way or another.
    pub ended: Rc<Progress>,
}

impl Oplocks {
    /// The client is about to be told that it has this one; false if it is wanted back already.
    pub fn grant(&self, open: OpenId, session: &Rc<Session>, file: FileId) -> bool {
        if self.early.borrow_mut().remove(&open) {
            return false;
        }
        let held = Held {
            session: Rc::downgrade(session),
            file,
            breaking: None,
        };
        self.held.borrow_mut().insert(open, held);
        true
    }

    /// The broker wants it back. `None` where the client is asked already, or knows of none.
    pub fn begin_break(&self, open: OpenId) -> Option<Break> {
        let mut table = self.held.borrow_mut();
        let Some(held) = table.get_mut(&open) else {
            self.early.borrow_mut().insert(open);
            return None;
        };
        if held.breaking.is_some() {
            return None;
        }
        let ended = Rc::new(Progress::default());
        held.breaking = Some(Rc::clone(&ended));
        Some(Break {
            session: held.session.upgrade()?,
            file: held.file,
            ended,
        })
    }

    /// Oplocks of a session whose client is being asked.
    pub fn breaking(&self, session: &Rc<Session>) -> Vec<FileId> {
        let table = self.held.borrow();
        let asked = table.values().filter(|held| {
            held.breaking.is_some() && std::ptr::eq(held.session.as_ptr(), Rc::as_ptr(session))
        });
        asked.map(|held| held.file).collect()
    }

    /// Whether the client is being asked for it.
    pub fn is_breaking(&self, open: OpenId) -> bool {
        let table = self.held.borrow();
        table.get(&open).is_some_and(|held| held.breaking.is_some())
    }

    /// It was given up, or its open is closed.
    pub fn end(&self, open: OpenId) {
        self.early.borrow_mut().remove(&open);
        let held = self.held.borrow_mut().remove(&open);
        if let Some(ended) = held.and_then(|held| held.breaking) {
            ended.cancel();
        }
    }
}
