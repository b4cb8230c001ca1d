//! Work requests as the gateway writes them, and their form for the verbs library.

use std::ptr;

use rdma_sys::{
    bind_mw_tso_union_t, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode,
    imm_data_invalidated_rkey_union_t, qp_type_t, rdma_t, tso_t, wr_t, xrc_t,
};

use super::memory_region::LocalRange;

/// What a work request of the send queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// SEND, or SEND_WITH_INV of a token.
    Send {
        /// The peer's token to invalidate.
        invalidate: Option<u32>,
    },
    /// RDMA WRITE to the peer's memory.
    Write {
        /// Where.
        address: u64,
        /// By which token.
        token: u32,
    },
    /// RDMA READ from the peer's memory.
    Read {
        /// Where.
        address: u64,
        /// By which token.
        token: u32,
    },
}

/// One work request. Its memory is kept by the registrations its ranges came from.
#[derive(Debug, Clone, Copy)]
pub struct WorkRequest {
    /// Comes back with its completion; below 2^63.
    pub id: u64,
    /// What it does.
    pub operation: Operation,
    /// Its bytes, first part.
    pub first: LocalRange,
    /// Its bytes, second part.
    pub second: Option<LocalRange>,
    /// A completion is wanted even if it succeeds.
    pub signaled: bool,
}

/// A work request's elements, where the verbs one points to them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Elements([ibv_sge; 2]);

impl WorkRequest {
    pub(super) fn elements(&self) -> Elements {
        Elements([self.first.sge, self.second.unwrap_or(self.first).sge])
    }

    /// The verbs form; the caller fills in where its elements and the next request are.
    pub(super) fn lower(&self) -> ibv_send_wr {
        let (opcode, address, token, invalidate) = match self.operation {
            Operation::Send { invalidate: None } => (ibv_wr_opcode::IBV_WR_SEND, 0, 0, 0),
            Operation::Send {
                invalidate: Some(key),
                // In both places: libsiw takes the token to invalidate from where a READ or WRITE has its
                // own (seen with rdma-core 44), and who takes it from its own place looks nowhere else.
            } => (ibv_wr_opcode::IBV_WR_SEND_WITH_INV, 0, key, key),
            Operation::Write { address, token } => {
                (ibv_wr_opcode::IBV_WR_RDMA_WRITE, address, token, 0)
            }
            Operation::Read { address, token } => {
                (ibv_wr_opcode::IBV_WR_RDMA_READ, address, token, 0)
            }
        };
        let flags = if self.signaled {
            ibv_send_flags::IBV_SEND_SIGNALED.0
        } else {
            0
        };
        ibv_send_wr {
            wr_id: self.id,
            next: ptr::null_mut(),
            sg_list: ptr::null_mut(),
            num_sge: if self.second.is_some() { 2 } else { 1 },
            opcode,
            send_flags: flags,
            imm_data_invalidated_rkey_union: imm_data_invalidated_rkey_union_t {
                invalidated_rkey: invalidate,
            },
            wr: wr_t {
                rdma: rdma_t {
                    remote_addr: address,
                    rkey: token,
                },
            },
            qp_type: qp_type_t {
                xrc: xrc_t { remote_srqn: 0 },
            },
            bind_mw_tso_union: bind_mw_tso_union_t {
                tso: tso_t {
                    hdr: ptr::null_mut(),
                    hdr_sz: 0,
                    mss: 0,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_to_invalidate_stands_where_each_provider_looks_for_it() {
        let sge = ibv_sge {
            addr: 0x1000,
            length: 8,
            lkey: 3,
        };
        let request = WorkRequest {
            id: 1,
            operation: Operation::Send {
                invalidate: Some(0x1234),
            },
            first: LocalRange { sge },
            second: None,
            signaled: false,
        };
        let lowered = request.lower();
        assert_eq!(lowered.opcode, ibv_wr_opcode::IBV_WR_SEND_WITH_INV);
        // SAFETY: every field of both unions was written, and any bytes are valid in them.
        let tokens = unsafe {
            (
                lowered.imm_data_invalidated_rkey_union.invalidated_rkey,
                lowered.wr.rdma.rkey,
            )
        };
        assert_eq!(tokens, (0x1234, 0x1234));
    }
}
