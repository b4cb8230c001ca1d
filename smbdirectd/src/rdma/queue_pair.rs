//! A reliable connected queue pair with its completion queues, completion channel and identifier:
//! everything one connection has of the device. Destroyed in the order the device demands, after
//! which nothing of the connection can reach memory. Receives have a queue of their own, because
//! they always wake whoever waits for the channel, and the end of a send need not.

use std::ffi::{CStr, c_int};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use rdma_sys::{
    ibv_ack_cq_events, ibv_comp_channel, ibv_cq, ibv_create_comp_channel, ibv_create_cq,
    ibv_destroy_comp_channel, ibv_destroy_cq, ibv_get_cq_event, ibv_modify_qp, ibv_poll_cq,
    ibv_post_recv, ibv_post_send, ibv_qp, ibv_qp_attr, ibv_qp_attr_mask, ibv_qp_init_attr,
    ibv_qp_state, ibv_qp_type, ibv_recv_wr, ibv_req_notify_cq, ibv_send_wr, ibv_wc, ibv_wc_status,
    ibv_wc_status_str, rdma_create_qp, rdma_destroy_qp,
};
use rustix::io::ioctl_fionbio;
use shm::SystemError;

use super::device::ProtectionDomain;
use super::identifier::Identifier;
use super::memory_region::QUEUE_PAIRS;
use super::receive_buffers::ReceiveBuffers;
use super::work_request::{Elements, WorkRequest};
use super::{cm_result, last_error, verbs_result};

/// Completions taken from the queue at a time.
const POLL_BATCH: usize = 32;
/// Work requests of one chain that are lowered at a time.
const CHAIN: usize = 64;
/// Tells receives from sends: the opcode of a failed completion is undefined, its id is not.
const RECEIVE: u64 = 1 << 63;

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
    /// `None` once it is destroyed.
    qp: Option<NonNull<ibv_qp>>,
    number: u32,
    /// A failed send shows in the receives too, all of which are flushed.
    receives: CompletionQueue,
    sends: CompletionQueue,
    /// Whether [`QueuePair::poll`] has the next end of a send wake.
    polls_wake_for_sends: bool,
    channel: Channel,
    identifier: Option<Identifier>,
    _domain: Rc<ProtectionDomain>,
    /// Scratch for chains, kept for its capacity.
    lowered: Vec<Lowered>,
}

/// A work request in the form the verbs library reads.
struct Lowered {
    request: ibv_send_wr,
    elements: Elements,
}

impl std::fmt::Debug for Lowered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("work request")
    }
}

/// What tells of completions in both queues; goes after them.
#[derive(Debug)]
struct Channel(NonNull<ibv_comp_channel>);

#[derive(Debug)]
struct CompletionQueue {
    queue: NonNull<ibv_cq>,
    /// The next completion is told of by an event, which may wait in the channel already.
    armed: bool,
}

impl Channel {
    fn new(domain: &ProtectionDomain) -> Result<Channel, SystemError> {
        // SAFETY: the context lives as long as the domain's device.
        let channel = unsafe { ibv_create_comp_channel(domain.device().context()) };
        let channel =
            NonNull::new(channel).ok_or_else(|| last_error("create a completion channel"))?;
        let made = Channel(channel);
        ioctl_fionbio(made.descriptor(), true)
            .map_err(SystemError::of("make a completion channel non-blocking"))?;
        Ok(made)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel's descriptor is open as long as the channel, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_ref().fd) }
    }

    /// Takes an event, if there is one, and answers which queue it is of.
    fn take_event(&self) -> Option<NonNull<ibv_cq>> {
        let mut queue = ptr::null_mut();
        let mut context = ptr::null_mut();
        // SAFETY: the channel is live and non-blocking; each event taken is acknowledged, as
        // destroying the queue waits for that.
        unsafe {
            if ibv_get_cq_event(self.0.as_ptr(), &mut queue, &mut context) != 0 {
                return None;
            }
            ibv_ack_cq_events(queue, 1);
        }
        NonNull::new(queue)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: its queues are gone: they are declared before it, and made after.
        unsafe { ibv_destroy_comp_channel(self.0.as_ptr()) };
    }
}

impl CompletionQueue {
    fn new(
        domain: &ProtectionDomain,
        channel: &Channel,
        depth: u32,
    ) -> Result<CompletionQueue, SystemError> {
        let context = domain.device().context();
        let depth = c_int::try_from(depth).unwrap_or(c_int::MAX);
        // SAFETY: the context lives as long as the domain's device, the channel outlives the queue.
        let queue =
            unsafe { ibv_create_cq(context, depth, ptr::null_mut(), channel.0.as_ptr(), 0) };
        let queue = NonNull::new(queue).ok_or_else(|| last_error("create a completion queue"))?;
        let mut made = CompletionQueue {
            queue,
            armed: false,
        };
        made.arm()?;
        Ok(made)
    }

    /// True if it was not armed: completions may have come before that, and wake nobody.
    fn arm(&mut self) -> Result<bool, SystemError> {
        if self.armed {
            return Ok(false);
        }
        // SAFETY: the queue is live.
        let answer = unsafe { ibv_req_notify_cq(self.queue.as_ptr(), 0) };
        verbs_result("arm a completion queue", answer)?;
        self.armed = true;
        Ok(true)
    }

    fn poll(&self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        loop {
            let mut batch = mem::MaybeUninit::<[ibv_wc; POLL_BATCH]>::uninit();
            // SAFETY: room for as many completions as are asked for.
            let count = unsafe {
                ibv_poll_cq(
                    self.queue.as_ptr(),
                    POLL_BATCH as c_int,
                    batch.as_mut_ptr().cast(),
                )
            };
            let Ok(count) = usize::try_from(count) else {
                return Err(last_error("poll a completion queue"));
            };
            let start = batch.as_ptr().cast::<ibv_wc>();
            for index in 0..count.min(POLL_BATCH) {
                // SAFETY: the call filled the first `count` entries. Of a failed one only the
                // fields read for it are defined.
                into.push(unsafe { completion(&*start.add(index)) });
            }
            if count < POLL_BATCH {
                return Ok(());
            }
        }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue pair that used it is gone, all events are acknowledged.
        unsafe { ibv_destroy_cq(self.queue.as_ptr()) };
    }
}

impl QueuePair {
    /// Makes queue pair and queues on an identifier that belongs to the domain's device.
    pub fn new(
        identifier: Identifier,
        domain: &Rc<ProtectionDomain>,
        limits: QueuePairLimits,
    ) -> Result<QueuePair, (SystemError, Identifier)> {
        // SAFETY: the identifier is live.
        if unsafe { (*identifier.raw()).verbs } != domain.device().context() {
            let error = SystemError {
                operation: "make a queue pair",
                source: std::io::Error::other("the connection came in on another device"),
            };
            return Err((error, identifier));
        }
        let made = Channel::new(domain).and_then(|channel| {
            let receives = CompletionQueue::new(domain, &channel, limits.receive)?;
            let sends = CompletionQueue::new(domain, &channel, limits.send)?;
            Ok((channel, sends, receives))
        });
        // On an error below, the last of them goes first.
        let (channel, sends, receives) = match made {
            Ok(made) => made,
            Err(error) => return Err((error, identifier)),
        };
        // SAFETY: all zeroes is a valid value of this plain C structure.
        let mut attributes: ibv_qp_init_attr = unsafe { mem::zeroed() };
        attributes.send_cq = sends.queue.as_ptr();
        attributes.recv_cq = receives.queue.as_ptr();
        attributes.qp_type = ibv_qp_type::IBV_QPT_RC;
        attributes.cap.max_send_wr = limits.send;
        attributes.cap.max_recv_wr = limits.receive;
        attributes.cap.max_send_sge = 2;
        attributes.cap.max_recv_sge = 1;
        // SAFETY: identifier, domain and queues are live and of one device.
        let answer = unsafe { rdma_create_qp(identifier.raw(), domain.raw(), &mut attributes) };
        if let Err(error) = cm_result("create a queue pair", answer) {
            return Err((error, identifier));
        }
        // SAFETY: set by the call that just succeeded.
        let Some(qp) = NonNull::new(unsafe { (*identifier.raw()).qp }) else {
            return Err((last_error("create a queue pair"), identifier));
        };
        QUEUE_PAIRS.fetch_add(1, Ordering::Relaxed);
        Ok(QueuePair {
            qp: Some(qp),
            // SAFETY: the queue pair is live.
            number: unsafe { qp.as_ref().qp_num },
            receives,
            sends,
            polls_wake_for_sends: true,
            channel,
            identifier: Some(identifier),
            _domain: domain.clone(),
            lowered: Vec::with_capacity(CHAIN),
        })
    }

    /// Its identifier.
    pub fn identifier(&self) -> &Identifier {
        // It leaves only in `drop`.
        self.identifier.as_ref().expect("owned until drop")
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
        self.identifier()
            .accept(initiator_depth, resources, private_data)
    }

    /// Active: connects. Receives must be posted before.
    pub fn connect(
        &self,
        initiator_depth: u8,
        resources: u8,
        private_data: &[u8],
    ) -> Result<(), SystemError> {
        self.identifier()
            .connect(initiator_depth, resources, private_data)
    }

    /// Readable when completions may be waiting.
    pub fn completion_channel(&self) -> BorrowedFd<'_> {
        self.channel.descriptor()
    }

    /// From now on the end of a send wakes nobody until [`QueuePair::arm_sends`] asks for it.
    pub fn reap_sends_quietly(&mut self) {
        self.polls_wake_for_sends = false;
    }

    /// Takes every completion there is, and sees to it that the next one is told of.
    pub fn poll(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        self.hear();
        self.reap(into)?;
        // What has come before the queues were armed is told of by nobody.
        if self.arm()? {
            self.reap(into)?;
        }
        Ok(())
    }

    /// Takes an event from the channel, if there is one. What it tells of is to be reaped, and its
    /// queue tells of nothing more until it is armed again.
    pub fn hear(&mut self) {
        // No more than one of each queue can wait; the other one keeps the channel readable.
        let event = self.channel.take_event();
        for queue in [&mut self.receives, &mut self.sends] {
            if event == Some(queue.queue) {
                queue.armed = false;
            }
        }
    }

    /// Has the next completion tell of itself, a send's only as [`QueuePair::reap_sends_quietly`]
    /// says. True if it was not so before: then what has ended meanwhile is to be reaped once more.
    pub fn arm(&mut self) -> Result<bool, SystemError> {
        if self.qp.is_none() {
            return Ok(false);
        }
        let sends = self.polls_wake_for_sends && self.sends.arm()?;
        Ok(self.receives.arm()? || sends)
    }

    /// Takes every completion there is, sends first, without a system call.
    pub fn reap(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        if self.qp.is_none() {
            // Its memory may belong to somebody else by now: nothing more is heard of it.
            return Ok(());
        }
        self.sends.poll(into)?;
        self.receives.poll(into)
    }

    /// Takes the sends that are complete, without a system call.
    pub fn reap_sends(&mut self, into: &mut Vec<Completion>) -> Result<(), SystemError> {
        match self.qp {
            Some(_) => self.sends.poll(into),
            None => Ok(()),
        }
    }

    /// Has the next end of a send wake. True if it was not so before: then what has ended meanwhile
    /// is to be reaped once more.
    pub fn arm_sends(&mut self) -> Result<bool, SystemError> {
        match self.qp {
            Some(_) => self.sends.arm(),
            None => Ok(false),
        }
    }

    /// Posts up to `count` free buffers; answers how many.
    pub fn post_receives(
        &mut self,
        buffers: &mut ReceiveBuffers,
        count: u32,
    ) -> Result<u16, SystemError> {
        let qp = self.live("post a receive")?;
        let mut posted = 0;
        for _ in 0..count {
            let Some((index, range)) = buffers.take() else {
                break;
            };
            let mut element = range.sge;
            let mut request = ibv_recv_wr {
                wr_id: u64::from(index) | RECEIVE,
                next: ptr::null_mut(),
                sg_list: &mut element,
                num_sge: 1,
            };
            let mut bad = ptr::null_mut();
            // SAFETY: request and element live through the call, which copies them; the buffer
            // is marked posted, so nobody reads it before its completion.
            let answer = unsafe { ibv_post_recv(qp.as_ptr(), &mut request, &mut bad) };
            if let Err(error) = verbs_result("post a receive", answer) {
                buffers.put_back(index);
                return Err(error);
            }
            posted += 1;
        }
        Ok(posted)
    }

    /// Posts a chain in order.
    pub fn post_send(&mut self, chain: &[WorkRequest]) -> Result<(), PostError> {
        let mut done = 0;
        for part in chain.chunks(CHAIN) {
            self.post_part(part).map_err(|error| PostError {
                posted: done + error.posted,
                error: error.error,
            })?;
            done += part.len();
        }
        Ok(())
    }

    fn post_part(&mut self, part: &[WorkRequest]) -> Result<(), PostError> {
        let qp = self
            .live("post to the send queue")
            .map_err(|error| PostError { posted: 0, error })?;
        self.lowered.clear();
        self.lowered.reserve(part.len());
        for request in part {
            self.lowered.push(Lowered {
                request: request.lower(),
                elements: request.elements(),
            });
        }
        let mut next: *mut ibv_send_wr = ptr::null_mut();
        for entry in self.lowered.iter_mut().rev() {
            entry.request.sg_list = (&raw mut entry.elements).cast();
            entry.request.next = next;
            next = &raw mut entry.request;
        }
        if next.is_null() {
            return Ok(());
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the chain and its elements lie in `lowered`, which is not touched before the
        // call returns; the memory they name is kept registered or refused by the device.
        let answer = unsafe { ibv_post_send(qp.as_ptr(), next, &mut bad) };
        verbs_result("post to the send queue", answer).map_err(|error| {
            let posted = self
                .lowered
                .iter_mut()
                .position(|entry| ptr::eq(&raw mut entry.request, bad));
            PostError {
                posted: posted.unwrap_or(0),
                error,
            }
        })
    }

    /// Puts the queue pair into error: everything queued completes, nothing more is carried out.
    pub fn fail(&self) -> Result<(), SystemError> {
        let qp = self.live("put a queue pair into error")?;
        // SAFETY: all zeroes is a valid value of this plain C structure.
        let mut attributes: ibv_qp_attr = unsafe { mem::zeroed() };
        attributes.qp_state = ibv_qp_state::IBV_QPS_ERR;
        let mask = ibv_qp_attr_mask::IBV_QP_STATE.0 as c_int;
        // SAFETY: the queue pair is live; only the state is looked at.
        let answer = unsafe { ibv_modify_qp(qp.as_ptr(), &mut attributes, mask) };
        verbs_result("put a queue pair into error", answer)
    }

    /// Takes the queue pair away from the device, and with it every request the device still has:
    /// when this returns, nothing of the connection reaches memory. No completion is heard after.
    pub fn destroy(&mut self) {
        if self.qp.take().is_none() {
            return;
        }
        while self.channel.take_event().is_some() {}
        if let Some(identifier) = &self.identifier {
            // SAFETY: made on this identifier, destroyed once, before queues and identifier.
            unsafe { rdma_destroy_qp(identifier.raw()) };
        }
        QUEUE_PAIRS.fetch_sub(1, Ordering::Relaxed);
    }

    fn live(&self, operation: &'static str) -> Result<NonNull<ibv_qp>, SystemError> {
        self.qp.ok_or_else(|| SystemError {
            operation,
            source: std::io::Error::other("the queue pair is destroyed"),
        })
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
        // Before the queues, as its events name them.
        self.identifier = None;
    }
}

fn completion(raw: &ibv_wc) -> Completion {
    let status = match raw.status {
        ibv_wc_status::IBV_WC_SUCCESS => Status::Success,
        ibv_wc_status::IBV_WC_WR_FLUSH_ERR => Status::Flushed,
        other => {
            // SAFETY: answers a constant string for every value.
            let name = unsafe { CStr::from_ptr(ibv_wc_status_str(other)) };
            Status::Failed(other, name.to_str().unwrap_or("unknown"))
        }
    };
    let receive = raw.wr_id & RECEIVE != 0;
    let arrived = receive && status == Status::Success;
    Completion {
        id: raw.wr_id & !RECEIVE,
        status,
        receive,
        length: if arrived { raw.byte_len } else { 0 },
    }
}
