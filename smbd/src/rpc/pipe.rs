//! One end of a named pipe in message mode: what a client writes becomes PDUs, each fragment of the
//! answer is a message of its own.
//!
//! A message longer than a read is told by STATUS_BUFFER_OVERFLOW and read on with the next
//! (MS-SMB2 3.3.5.12, MS-FSCC 2.3.48). Bytes written need not end where a fragment does.

use std::collections::VecDeque;

use proto::rpc::pdu::Pdu;
use proto::smb2::NtStatus;

use super::association::{Association, Outcome};
use super::{Served, Service};

/// Answers a client may leave unread before it loses the pipe. One answer may exceed it.
const MAX_UNREAD: usize = 1 << 20;

/// A pipe and the association it carries.
#[derive(Debug)]
pub struct Pipe {
    service: Service,
    served: Served,
    association: Association,
    /// Written, but not yet a whole fragment.
    incoming: Vec<u8>,
    /// Messages to read; of the first, what is left of it.
    outgoing: VecDeque<Vec<u8>>,
    disconnected: bool,
}

/// What a read gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipeRead {
    pub data: Vec<u8>,
    /// The message goes on: the status is STATUS_BUFFER_OVERFLOW.
    pub more: bool,
}

impl PipeRead {
    /// The status its response carries.
    pub fn status(&self) -> NtStatus {
        match self.more {
            true => NtStatus::BUFFER_OVERFLOW,
            false => NtStatus::SUCCESS,
        }
    }
}

impl Pipe {
    /// Whether there is a pipe of this name, for FSCTL_PIPE_WAIT.
    pub fn exists(name: &str) -> bool {
        Service::named(name).is_some()
    }

    /// OBJECT_NAME_NOT_FOUND for a name nobody serves.
    pub fn open(name: &str, served: Served) -> Result<Pipe, NtStatus> {
        let service = Service::named(name).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        Ok(Pipe {
            service,
            served,
            association: Association::new(service),
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            disconnected: false,
        })
    }

    /// The pipe's name.
    pub fn name(&self) -> &'static str {
        self.service.name()
    }

    /// Takes the client's bytes and carries out what is complete.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), NtStatus> {
        if self.disconnected {
            return Err(NtStatus::PIPE_DISCONNECTED);
        }
        self.incoming.extend_from_slice(bytes);
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = incoming.as_slice();
        loop {
            match Pdu::decode(rest) {
                Ok(None) => break,
                Ok(Some((pdu, length))) if self.unread() <= MAX_UNREAD => {
                    let Outcome { fragments, ends } = self.association.handle(&pdu, &self.served);
                    self.outgoing.extend(fragments);
                    if ends {
                        return self.disconnect("broke the protocol");
                    }
                    rest = rest.get(length..).unwrap_or_default();
                }
                Ok(Some(_)) => return self.disconnect("left its answers unread"),
                Err(error) => return self.disconnect(&error.to_string()),
            }
        }
        self.incoming = rest.to_vec();
        Ok(())
    }

    /// What is left of the first unread message, `max` bytes of it at most. PIPE_EMPTY where there is
    /// none yet, PIPE_DISCONNECTED where there will be none.
    pub fn read(&mut self, max: usize) -> Result<PipeRead, NtStatus> {
        let Some(message) = self.outgoing.front_mut() else {
            return Err(match self.disconnected {
                true => NtStatus::PIPE_DISCONNECTED,
                false => NtStatus::PIPE_EMPTY,
            });
        };
        let left = message.split_off(max.min(message.len()));
        let more = !left.is_empty();
        let data = std::mem::replace(message, left);
        if !more {
            self.outgoing.pop_front();
        }
        Ok(PipeRead { data, more })
    }

    /// The write of FSCTL_PIPE_TRANSCEIVE; its read follows. PIPE_BUSY while something is unread, which
    /// would be taken for the answer (MS-FSCC 2.3.48).
    pub fn write_to_transceive(&mut self, input: &[u8]) -> Result<(), NtStatus> {
        if !self.outgoing.is_empty() {
            return Err(NtStatus::PIPE_BUSY);
        }
        self.write(input)
    }

    /// FSCTL_PIPE_TRANSCEIVE where the answer is there at once.
    pub fn transceive(&mut self, input: &[u8], max_output: usize) -> Result<PipeRead, NtStatus> {
        self.write_to_transceive(input)?;
        self.read(max_output)
    }

    /// The other end is gone: nothing more is written or read.
    pub fn close(&mut self) {
        self.disconnected = true;
        self.outgoing.clear();
    }

    /// Bytes to be read.
    pub fn unread(&self) -> usize {
        self.outgoing.iter().map(Vec::len).sum()
    }

    /// The write itself succeeded; what is unread stays readable, and then the pipe is gone.
    fn disconnect(&mut self, reason: &str) -> Result<(), NtStatus> {
        tracing::info!(pipe = self.name(), reason, "a client loses its pipe");
        self.disconnected = true;
        Ok(())
    }
}
