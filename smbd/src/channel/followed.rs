//! Which message of a relay a task works on, so that what it logs, and what smbdirectd logs of its
//! operations, goes under one id. Dispatch wraps tasks; the relay asks. Costs two stores a poll, and
//! a span only where the log has `debug` on.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use proto::relay::MessageName;
use tracing::{Level, Span};

use super::Channel;

thread_local! {
    static MESSAGE: Cell<u64> = const { Cell::new(0) };
}

/// The message the running task is for; 0 for none.
pub(super) fn message() -> u64 {
    MESSAGE.get()
}

pin_project! {
    /// A task that answers a message.
    pub struct Followed<F> {
        message: u64,
        span: Span,
        #[pin]
        task: F,
    }
}

impl<F> Followed<F> {
    /// `message` is the number it had when it was delivered ([`Channel::delivering`]).
    pub fn new(channel: &dyn Channel, message: u64, task: F) -> Followed<F> {
        let span = match channel.gateway_connection() {
            Some(connection) if message != 0 && tracing::enabled!(Level::DEBUG) => {
                let id = MessageName {
                    connection,
                    message,
                };
                tracing::debug_span!("message", %id)
            }
            _ => Span::none(),
        };
        Followed {
            message,
            span,
            task,
        }
    }
}

impl<F: Future> Future for Followed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        let before = MESSAGE.replace(*this.message);
        let polled = this.task.poll(cx);
        MESSAGE.set(before);
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::channel::recording::RecordingChannel;

    #[test]
    fn a_task_knows_its_message_while_it_runs_and_no_longer() {
        let channel = RecordingChannel::default();
        let inner = Followed::new(&channel, 8, async { message() });
        let outer = Followed::new(&channel, 7, async { (message(), inner.await, message()) });
        assert_eq!(outer.now_or_never(), Some((7, 8, 7)));
        assert_eq!(message(), 0);
    }
}
