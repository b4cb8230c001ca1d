//! A pipe as an open has it: shared by the requests under way on it, some of which may wait for an
//! answer another one's write is yet to cause.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use futures::future::{Either, select};
use proto::smb2::NtStatus;

use super::{Pipe, PipeRead, Served};
use crate::dispatch::Progress;

/// An open pipe. It belongs to the child's loop; nothing is borrowed across a wait.
#[derive(Debug)]
pub struct NamedPipe {
    pipe: RefCell<Pipe>,
    readers: RefCell<Vec<Waker>>,
}

impl NamedPipe {
    /// As [`Pipe::open`].
    pub fn open(name: &str, served: Served) -> Result<NamedPipe, NtStatus> {
        Ok(NamedPipe {
            pipe: RefCell::new(Pipe::open(name, served)?),
            readers: RefCell::default(),
        })
    }

    /// As [`Pipe::write`].
    pub fn write(&self, bytes: &[u8]) -> Result<(), NtStatus> {
        let outcome = self.pipe.borrow_mut().write(bytes);
        self.wake_readers();
        outcome
    }

    /// Reads a message, and waits for one: pipes block here, as they do on Windows (MS-SMB2 3.3.5.12).
    /// CANCELLED where the client says so before.
    pub async fn read(&self, max: usize, progress: &Progress) -> Result<PipeRead, NtStatus> {
        match self.pipe.borrow_mut().read(max) {
            Err(NtStatus::PIPE_EMPTY) => progress.will_wait(),
            outcome => return outcome,
        }
        let message = poll_fn(|cx| match self.pipe.borrow_mut().read(max) {
            Err(NtStatus::PIPE_EMPTY) => {
                self.readers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
            outcome => Poll::Ready(outcome),
        });
        match select(pin!(message), pin!(progress.cancelled())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(NtStatus::CANCELLED),
        }
    }

    /// FSCTL_PIPE_TRANSCEIVE (MS-SMB2 3.3.5.15.3).
    pub async fn transceive(
        &self,
        input: &[u8],
        max_output: usize,
        progress: &Progress,
    ) -> Result<PipeRead, NtStatus> {
        let written = self.pipe.borrow_mut().write_to_transceive(input);
        self.wake_readers();
        written?;
        self.read(max_output, progress).await
    }

    /// Ends it: reads that wait answer PIPE_DISCONNECTED.
    pub fn close(&self) {
        self.pipe.borrow_mut().close();
        self.wake_readers();
    }

    /// Bytes to be read.
    pub fn unread(&self) -> usize {
        self.pipe.borrow().unread()
    }

    fn wake_readers(&self) {
        for waker in self.readers.take() {
            waker.wake();
        }
    }
}
