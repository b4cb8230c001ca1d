//! The relay's rules (ARCHITECTURE.md, "Relay") kept a second time, to say of what a hostile child
//! sends whether it is a breach. It shares the decoder with smbdirectd and nothing else.

use proto::relay::{
    Attached, Body, Descriptor, MAX_LOANS, PayloadWrite, RegionRange, ToGateway, ToGatewayRecords,
};

use shm::link::MAX_DESCRIPTORS;

use super::theatre::MAX_PARTS;

/// What a file descriptor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// A memfd of smbdirectd's, or one as fixed in size as those are.
    Region,
    /// Anything else.
    Other,
}

/// What must come of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The connection lives on.
    Harmless,
    /// The client's device decides: it names memory that may not be there.
    UpToTheDevice,
    /// An orderly end was asked for.
    Farewell,
    /// The connection ends.
    Breach,
}

/// How far the child has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeted,
    Attached,
    Mapped,
    Closing,
}

/// One connection's account.
#[derive(Debug, Clone)]
pub struct Law {
    phase: Phase,
    parts: u32,
    lent: usize,
    announced: u64,
    released: u64,
    /// The longest message the client takes.
    pub longest: u32,
    /// Address, token, bytes.
    exposed: (u64, u32, u32),
    layout: Option<Attached>,
}

impl Law {
    /// Nothing has come. `exposed`: the client's memory that is there.
    pub fn new(longest: u32, exposed: (u64, u32, u32)) -> Law {
        Law {
            phase: Phase::Greeted,
            parts: 0,
            lent: 0,
            announced: 0,
            released: 0,
            longest,
            exposed,
            layout: None,
        }
    }

    /// Messages that smbdirectd has announced.
    pub fn announced(&mut self, newest: u64) {
        self.announced = newest;
    }

    /// The region was granted.
    pub fn attached(&mut self, attached: Attached) {
        self.layout = Some(attached);
        self.parts = attached.parts;
    }

    /// Of records in the bytes, as smbdirectd is to take them: the first that does not read, or may
    /// not come, decides. Also how many records that took.
    pub fn judge(&mut self, bytes: &[u8], descriptors: &[Passed]) -> (Verdict, u64) {
        let mut verdict = Verdict::Harmless;
        let mut unused = descriptors.iter();
        let mut count = 0;
        if bytes.is_empty() || descriptors.len() > MAX_DESCRIPTORS {
            return (Verdict::Breach, 1);
        }
        for record in ToGatewayRecords::new(bytes) {
            count += 1;
            let Ok(record) = record else {
                return (Verdict::Breach, count);
            };
            verdict = verdict.max(self.judge_record(&record));
            if record == ToGateway::Attach && unused.next() == Some(&Passed::Other) {
                verdict = Verdict::Breach;
            }
            if verdict == Verdict::Breach {
                return (verdict, count);
            }
        }
        if unused.next().is_some() {
            verdict = Verdict::Breach;
        }
        (verdict, count)
    }

    fn judge_record(&mut self, record: &ToGateway<'_>) -> Verdict {
        let allowed = match record {
            ToGateway::Release { .. } => true,
            _ if self.phase == Phase::Closing => false,
            ToGateway::Close { .. } => true,
            ToGateway::Attach => self.phase == Phase::Greeted,
            ToGateway::Mapped => self.phase == Phase::Attached,
            ToGateway::ReadPayload { .. }
            | ToGateway::Expect { .. }
            | ToGateway::Lend { .. }
            | ToGateway::Recall
            | ToGateway::Grow { .. } => self.phase == Phase::Mapped,
            ToGateway::Reply { writes, body, .. } => {
                let uses_region = !writes.is_empty() || matches!(body, Body::InRegion(_));
                self.phase == Phase::Mapped || !uses_region
            }
        };
        if !allowed {
            return Verdict::Breach;
        }
        match record {
            ToGateway::Attach => self.phase = Phase::Attached,
            ToGateway::Mapped => self.phase = Phase::Mapped,
            ToGateway::Close { .. } => {
                self.phase = Phase::Closing;
                return Verdict::Farewell;
            }
            ToGateway::Grow { parts } => self.parts = self.parts.max((*parts).min(MAX_PARTS)),
            ToGateway::Release { through } => {
                if through.0 > self.announced || through.0 < self.released {
                    return Verdict::Breach;
                }
                self.released = through.0;
            }
            ToGateway::ReadPayload {
                target,
                descriptors,
                ..
            } => return self.payload(*target, descriptors),
            // No message of its client is long enough, or small enough, to be fetched for.
            ToGateway::Expect { .. } => {}
            ToGateway::Lend { target, .. } => {
                if !self.holds(*target) || self.lent == MAX_LOANS {
                    return Verdict::Breach;
                }
                self.lent += 1;
            }
            ToGateway::Recall => self.lent = 0,
            ToGateway::Reply {
                invalidate,
                writes,
                body,
                ..
            } => return self.reply(*invalidate, writes, body),
        }
        Verdict::Harmless
    }

    fn reply(
        &mut self,
        invalidate: Option<u32>,
        writes: &[PayloadWrite<'_>],
        body: &Body<'_>,
    ) -> Verdict {
        let mut verdict = Verdict::Harmless;
        let length = match body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::InRegion(range) => {
                if !self.holds(*range) {
                    return Verdict::Breach;
                }
                u64::from(range.length)
            }
        };
        if length > u64::from(self.longest) {
            return Verdict::Breach;
        }
        for write in writes {
            verdict = verdict.max(self.payload(write.source, write.descriptors));
        }
        // The client's device knows the token, or does not; afterwards it knows it no more.
        match invalidate {
            Some(_) => verdict.max(Verdict::UpToTheDevice),
            None => verdict,
        }
    }

    fn payload(&self, range: RegionRange, descriptors: &[Descriptor]) -> Verdict {
        let described: u64 = descriptors
            .iter()
            .map(|one| u64::from(one.length.get()))
            .sum();
        if !self.holds(range) || described < u64::from(range.length) {
            return Verdict::Breach;
        }
        let (address, token, length) = self.exposed;
        let is_there = |one: &Descriptor| {
            let start = one.offset.get().checked_sub(address);
            let end = start.and_then(|start| start.checked_add(one.length.get().into()));
            one.token.get() == token && end.is_some_and(|end| end <= u64::from(length))
        };
        match descriptors.iter().all(is_there) {
            true => Verdict::Harmless,
            false => Verdict::UpToTheDevice,
        }
    }

    fn holds(&self, range: RegionRange) -> bool {
        let Some(layout) = &self.layout else {
            return false;
        };
        let part = u128::from(layout.part_size);
        let granted = (0..u128::from(self.parts)).map(|number| {
            let start = u128::from(layout.payload_offset) + number * part;
            start..start + part
        });
        let start = u128::from(range.offset);
        let end = start + u128::from(range.length);
        granted
            .into_iter()
            .any(|whole| start >= whole.start && end <= whole.end && range.length > 0)
    }
}
