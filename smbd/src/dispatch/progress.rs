//! How far a request is, seen from both sides: its handler learns that it was cancelled, dispatch
//! learns that it will wait. One per request, shared between its task and the connection's table.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Cancellation and waiting of one request.
#[derive(Debug, Default)]
pub struct Progress {
    cancelled: Cell<bool>,
    waits: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Progress {
    /// CANCEL named this request, or its connection is gone (MS-SMB2 3.3.5.16).
    pub fn cancel(&self) {
        self.cancelled.set(true);
        self.wake();
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Resolves once it is cancelled; a handler that waits for something selects on this and
    /// answers STATUS_CANCELLED.
    pub async fn cancelled(&self) {
        self.reached(&self.cancelled).await;
    }

    /// The handler is about to wait for what may never come: the client gets its interim response
    /// at once instead of after the usual delay (MS-SMB2 3.3.4.2).
    pub fn will_wait(&self) {
        self.waits.set(true);
        self.wake();
    }

    /// Whether the handler said so.
    pub fn waits(&self) -> bool {
        self.waits.get()
    }

    /// Resolves once the handler said so.
    pub async fn waiting(&self) {
        self.reached(&self.waits).await;
    }

    async fn reached(&self, flag: &Cell<bool>) {
        poll_fn(|cx| {
            if flag.get() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn wake(&self) {
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}
