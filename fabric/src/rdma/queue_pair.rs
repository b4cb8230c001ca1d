//! A reliable connected queue pair with its completion queue, completion channel and identifier.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use shm::SystemError;

use super::device::ProtectionDomain;
use super::identifier::Identifier;
use super::memory_region::count_queue_pair;
use super::receive_buffers::ReceiveBuffers;
use super::work_queues::{Receive, WorkQueues};
use super::work_request::WorkRequest;
use super::{DeviceKey, refused};

/// How deep the queues are.
#[derive(Debug, Clone, Copy)]
pub struct QueuePairLimits {
    /// Sends, RDMA WRITEs and READs outstanding.
    pub send: u32,
    /// Receives outstanding.
    pub receive: u32,
}

/// How a work request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Success,
    /// Never carried out: the queue pair is in error.
    Flushed,
    /// Failed; the device's number and name for it.
    Failed(u32, &'static str),
}

/// A work request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// As given with the request; a receive's is its buffer.
    pub id: u64,
    /// How it ended.
    pub status: Status,
    /// It was a receive.
    pub receive: bool,
    /// Bytes received; only of a successful receive.
    pub length: u32,
}

/// A chain that was not taken whole.
#[derive(Debug)]
pub struct PostError {
    /// Requests at its front that are in the queue.
    pub posted: usize,
    /// Why the next one is not.
    pub error: SystemError,
}

/// One connection's end at the device.
#[derive(Debug)]
pub struct QueuePair {
    identifier: Identifier,
    /// The completion channel, kept beside the queues it belongs to so that it can be borrowed.
    channel: std::os::fd::OwnedFd,
    number: u32,
    destroyed: bool,
    _domain: Rc<ProtectionDomain>,
}

thread_local! {
    static NEXT_NUMBER: std::cell::Cell<u32> = const { std::cell::Cell::new(17) };
}

impl QueuePair {
    /// Makes queue pair and queues on an identifier that belongs to the domain's device.
    pub fn new(
        identifier: Identifier,
        domain: &Rc<ProtectionDomain>,
        limits: QueuePairLimits,
    ) -> Result<QueuePair, (SystemError, Identifier)> {
        if DeviceKey::of(&identifier) != Some(domain.device().key()) {
            let error = refused("make a queue pair on another device", libc::EINVAL);
            return Err((error, identifier));
        }
        let made = WorkQueues::new(domain, limits, identifier.fabric()).and_then(|queues| {
            let channel = queues
                .poller()
                .try_clone()
                .map_err(SystemError::of("create a completion channel"))?;
            identifier.endpoint().borrow_mut().give_queues(queues)?;
            Ok(channel)
        });
        match made {
            Ok(channel) => {
                count_queue_pair(1);
                Ok(QueuePair {
                    identifier,
                    channel,
                    number: NEXT_NUMBER.replace(NEXT_NUMBER.get() + 1),
                    destroyed: false,
                    _domain: domain.clone(),
                })
            }
            Err(error) => Err((error, identifier)),
        }
    }

    /// Its identifier.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// Its number on the wire.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Passive: accepts the connection request. Receives must be posted before.
    pub fn accept(
        &self,
        initiator_depth: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        let mut endpoint = self.identifier.endpoint().borrow_mut();
        endpoint.accept(initiator_depth, resources, private_data)
    }

    /// Active: connects. Receives must be posted before.
    pub fn connect(
        &self,
        initiator_depth: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        let mut endpoint = self.identifier.endpoint().borrow_mut();
        endpoint.connect(initiator_depth, resources, private_data)
    }

    /// Readable when completions may be waiting.
    pub fn completion_channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Takes every completion there is.
    pub fn poll(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        self.identifier.endpoint().borrow_mut().poll(into);
        Ok(())
    }

    /// Nothing: what there is to hear is cleared when it is reaped.
    pub fn hear(&mut self) {}

    /// Takes every completion there is.
    pub fn reap(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        self.poll(into)
    }

    /// Nothing: a receive always tells of itself.
    pub fn arm(&mut self) -> Result<bool, SystemError> {
        Ok(false)
    }

    /// From now on the end of a send wakes nobody until [`QueuePair::arm_sends`] asks for it.
    pub fn reap_sends_quietly(&mut self) {
        if let Ok(queues) = self.identifier.endpoint().borrow_mut().queues() {
            queues.reap_sends_quietly();
        }
    }

    /// Takes the sends that are complete.
    pub fn reap_sends(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        if let Ok(queues) = self.identifier.endpoint().borrow_mut().queues() {
            queues.reap_sends(into);
        }
        Ok(())
    }

    /// Has the next end of a send wake. True if it was not so before: then what has ended meanwhile
    /// is to be reaped once more.
    pub fn arm_sends(&mut self) -> Result<bool, SystemError> {
        let mut endpoint = self.identifier.endpoint().borrow_mut();
        Ok(endpoint.queues().is_ok_and(|queues| queues.arm_sends()))
    }

    /// Posts up to `count` free buffers; answers how many.
    pub fn post_receives(
        &mut self,
        buffers: &mut ReceiveBuffers,
        count: u32,
    ) -> Result<u16, SystemError> {
        let mut endpoint = self.identifier.endpoint().borrow_mut();
        let capacity = buffers.size();
        let mut posted = 0;
        for _ in 0..count {
            let Some((index, arrival)) = buffers.take() else {
                break;
            };
            let receive = Receive {
                index,
                capacity,
                arrival,
            };
            if let Err(error) = endpoint.queues()?.post_receive(receive) {
                buffers.put_back(index);
                return Err(error);
            }
            posted += 1;
        }
        Ok(posted)
    }

    /// Posts a chain in order.
    pub fn post_send(&mut self, chain: &[WorkRequest]) -> Result<(), PostError> {
        let mut endpoint = self.identifier.endpoint().borrow_mut();
        let mut result = Ok(());
        for (posted, request) in chain.iter().enumerate() {
            let taken = endpoint
                .queues()
                .and_then(|queues| queues.post(*request))
                .map_err(|error| PostError { posted, error });
            if taken.is_err() {
                result = taken;
                break;
            }
        }
        endpoint.pump();
        result
    }

    /// Puts the queue pair into error: everything queued completes, nothing more is carried out.
    pub fn fail(&self) -> Result<(), SystemError> {
        let mut endpoint = self.identifier.endpoint().borrow_mut();
        endpoint.queues()?.fail();
        Ok(())
    }

    /// Takes the queue pair away from the device, and with it every request the device still has.
    pub fn destroy(&mut self) {
        if !std::mem::replace(&mut self.destroyed, true) {
            self.identifier.endpoint().borrow_mut().drop_queues();
            count_queue_pair(-1);
        }
    }
}

impl AsFd for QueuePair {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.completion_channel()
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        self.destroy();
    }
}
