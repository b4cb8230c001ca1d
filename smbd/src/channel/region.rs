//! The child's region: one for all its RDMA channels, made by smbdirectd at the first `attach`.
//!
//! Whoever attaches first gets the memfd and maps it; later channels send it along. When a relay
//! ends without `drained` nobody knows what a NIC still writes, so the region is forgotten: its
//! memory is never handed out again, and the next `attach` gets a new one.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use proto::relay::Attached;
use shm::extents::{Extents, PAGE};
use shm::region::{Mapping, map_received};

/// The payload area of one region.
pub struct Area {
    /// Mapped memory.
    pub(super) mapping: Arc<Mapping>,
    /// Which of it is free.
    pub(super) extents: RefCell<Extents>,
    max_parts: u32,
    growth: Cell<Growth>,
    waiters: RefCell<Vec<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    Possible,
    Asked,
    /// The budget is used up; asked again once memory came back.
    Refused,
}

/// The region as all channels see it.
#[derive(Default)]
pub struct SharedRegion {
    state: RefCell<RegionState>,
}

#[derive(Default)]
enum RegionState {
    #[default]
    None,
    /// A first `attach` is under way: whoever else wants to attach waits for its answer.
    Asked,
    Mapped {
        memfd: OwnedFd,
        area: Rc<Area>,
    },
}

/// What a channel that wants to attach does.
pub enum AttachTurn {
    /// Asks without a memfd.
    First,
    /// Sends the memfd of this region along.
    With(OwnedFd, Rc<Area>),
    /// Tries again next turn.
    Wait,
}

impl Area {
    /// Whoever waits for memory tries again.
    pub(super) fn wake(&self) {
        self.waiters.take().into_iter().for_each(Waker::wake);
    }

    /// Called when an extent came back.
    pub(super) fn freed(&self) {
        if self.growth.get() == Growth::Refused {
            self.growth.set(Growth::Possible);
        }
        self.wake();
    }

    /// Somebody waits for memory.
    pub(super) fn is_short(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// Wakes `waker` when memory may be had.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waiters.borrow_mut().push(waker.clone());
    }

    /// How many parts to ask for, when one more may be had and was not asked for yet.
    pub(super) fn wanted_parts(&self) -> Option<u32> {
        let parts = self.extents.borrow().parts();
        if parts >= self.max_parts || self.growth.get() != Growth::Possible {
            return None;
        }
        self.growth.set(Growth::Asked);
        Some(parts + 1)
    }

    /// smbdirectd granted so many parts in total.
    pub(super) fn grown(&self, parts: u32) {
        let parts = parts.min(self.max_parts);
        let refused = parts <= self.extents.borrow().parts();
        self.growth.set(match refused {
            true => Growth::Refused,
            false => Growth::Possible,
        });
        self.extents.borrow_mut().grow(parts);
        self.wake();
    }
}

impl SharedRegion {
    /// Asks for a channel's turn to attach.
    pub(super) fn attach_turn(&self) -> Result<AttachTurn, std::io::Error> {
        let state = &mut *self.state.borrow_mut();
        Ok(match state {
            RegionState::None => {
                *state = RegionState::Asked;
                AttachTurn::First
            }
            RegionState::Asked => AttachTurn::Wait,
            RegionState::Mapped { memfd, area } => {
                AttachTurn::With(memfd.try_clone()?, Rc::clone(area))
            }
        })
    }

    /// The answer to an `attach`: maps a new region, or names the one that was sent along.
    pub(super) fn attached(
        &self,
        attached: &Attached,
        memfd: Option<OwnedFd>,
        sent: Option<&Rc<Area>>,
    ) -> Result<Rc<Area>, String> {
        check(attached)?;
        match (memfd, sent) {
            (None, Some(area)) => {
                area.grown(attached.parts);
                Ok(Rc::clone(area))
            }
            // Also where one was sent: its last relay ended, or smbdirectd is another one now. What this
            // child has by now may be poisoned meanwhile, or newer: the newest answer counts.
            (Some(memfd), _) => {
                let mapping = map_received(&memfd, attached.region_size)
                    .map_err(|error| error.to_string())?;
                let mut extents = Extents::new(attached.payload_offset, attached.part_size);
                extents.grow(attached.parts.min(attached.max_parts));
                let area = Rc::new(Area {
                    mapping: Arc::new(mapping),
                    extents: RefCell::new(extents),
                    max_parts: attached.max_parts,
                    growth: Cell::new(Growth::Possible),
                    waiters: RefCell::default(),
                });
                *self.state.borrow_mut() = RegionState::Mapped {
                    memfd,
                    area: Rc::clone(&area),
                };
                Ok(area)
            }
            (None, None) => Err("`attached` without a region".into()),
        }
    }

    /// A first `attach` comes to nothing: another channel may try.
    pub(super) fn not_attached(&self) {
        let state = &mut *self.state.borrow_mut();
        if matches!(state, RegionState::Asked) {
            *state = RegionState::None;
        }
    }

    /// A relay of this region ended without `drained`.
    pub(super) fn poison(&self, poisoned: &Rc<Area>) {
        let state = &mut *self.state.borrow_mut();
        if matches!(state, RegionState::Mapped { area, .. } if Rc::ptr_eq(area, poisoned)) {
            *state = RegionState::None;
        }
    }
}

/// What smbdirectd says is checked like everybody's word.
fn check(attached: &Attached) -> Result<(), String> {
    let part = u64::from(attached.part_size);
    let parts_end = part
        .checked_mul(u64::from(attached.max_parts))
        .and_then(|size| size.checked_add(attached.payload_offset));
    let ring_end = attached.ring_offset.checked_add(attached.ring_size.into());
    let fits = attached.part_size.is_power_of_two()
        && attached.part_size >= PAGE
        && attached.payload_offset.is_multiple_of(u64::from(PAGE))
        && attached.parts <= attached.max_parts
        && parts_end.is_some_and(|end| end <= attached.region_size)
        && ring_end.is_some_and(|end| end <= attached.payload_offset);
    match fits {
        true => Ok(()),
        false => Err(format!("`attached` describes no region: {attached:?}")),
    }
}
