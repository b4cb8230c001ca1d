//! Open.ChannelSequence and the counts of requests under way before and after it last changed
//! (MS-SMB2 3.3.1.10, 3.3.5.2.10): a client that lost a channel counts its sequence up, and what
//! it had sent before then must not change the file any more.

use std::cell::Cell;

use proto::smb2::NtStatus;

/// The largest step that is one forward, in 16-bit arithmetic.
const FARTHEST: u16 = 0x7FFF;

/// What an open knows of the channel sequence of its requests.
#[derive(Debug, Default)]
pub struct ChannelSequence {
    /// Open.ChannelSequence.
    current: Cell<u16>,
    /// Open.OutstandingRequestCount.
    outstanding: Cell<u32>,
    /// Open.OutstandingPreRequestCount.
    outstanding_before: Cell<u32>,
}

/// What the rules depend on in a request.
#[derive(Debug, Clone, Copy)]
pub struct Sequenced {
    /// ChannelSequence of its header.
    pub sequence: u16,
    /// SMB2_FLAGS_REPLAY_OPERATION is set.
    pub replay: bool,
    /// WRITE, SET_INFO or IOCTL: only these are ever refused.
    pub changes: bool,
}

impl ChannelSequence {
    /// That of an open whose CREATE carried `sequence`.
    pub fn starting_at(sequence: u16) -> ChannelSequence {
        ChannelSequence {
            current: sequence.into(),
            ..ChannelSequence::default()
        }
    }

    /// A request begins. True if it is counted, and must be told to [`ChannelSequence::finished`];
    /// a late one that changes nothing goes on uncounted.
    pub fn begin(&self, request: Sequenced) -> Result<bool, NtStatus> {
        let step = request.sequence.wrapping_sub(self.current.get());
        if step > FARTHEST {
            return late(request);
        }
        if step > 0 {
            let before = self.outstanding_before.get();
            self.outstanding_before
                .set(before.saturating_add(self.outstanding.take()));
            self.current.set(request.sequence);
        }
        if request.replay && self.outstanding_before.get() > 0 {
            // The request it repeats may still be under way.
            return late(request);
        }
        self.outstanding
            .set(self.outstanding.get().saturating_add(1));
        Ok(true)
    }

    /// A counted request that carried `sequence` has ended.
    pub fn finished(&self, sequence: u16) {
        let count = if sequence == self.current.get() {
            &self.outstanding
        } else {
            &self.outstanding_before
        };
        count.set(count.get().saturating_sub(1));
    }
}

fn late(request: Sequenced) -> Result<bool, NtStatus> {
    match request.changes {
        true => Err(NtStatus::FILE_NOT_AVAILABLE),
        false => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(sequence: u16) -> Sequenced {
        Sequenced {
            sequence,
            replay: false,
            changes: true,
        }
    }

    fn replayed(sequence: u16) -> Sequenced {
        Sequenced {
            replay: true,
            ..write(sequence)
        }
    }

    const LATE: Result<bool, NtStatus> = Err(NtStatus::FILE_NOT_AVAILABLE);

    #[test]
    fn a_sequence_goes_forward_by_at_most_half_of_its_range() {
        let open = ChannelSequence::default();
        assert_eq!(open.begin(write(0x8000)), LATE);
        assert_eq!(open.begin(write(0xFFFF)), LATE);
        assert_eq!(open.begin(write(0x7FFF)), Ok(true));
        assert_eq!(open.begin(write(0x7FFE)), LATE);
        assert_eq!(open.begin(write(0)), LATE);
        assert_eq!(open.begin(write(0x8000)), Ok(true));
        assert_eq!(open.begin(write(0xFFFF)), Ok(true));
        assert_eq!(open.begin(write(0)), Ok(true), "wraps");
        assert_eq!(open.begin(write(0xFFFF)), LATE);
    }

    #[test]
    fn a_late_request_that_changes_nothing_goes_on() {
        let open = ChannelSequence::starting_at(5);
        let read = Sequenced {
            changes: false,
            ..write(4)
        };
        assert_eq!(open.begin(read), Ok(false));
        assert_eq!(open.begin(write(4)), LATE);
    }

    #[test]
    fn a_replay_waits_for_what_was_under_way_before_the_sequence_changed() {
        let open = ChannelSequence::starting_at(1);
        assert_eq!(open.begin(write(1)), Ok(true));
        assert_eq!(open.begin(replayed(1)), Ok(true), "nothing from before");
        open.finished(1);
        assert_eq!(open.begin(replayed(2)), LATE, "one of sequence 1 remains");
        assert_eq!(open.begin(write(2)), Ok(true), "no replay, no wait");
        open.finished(1);
        assert_eq!(open.begin(replayed(2)), Ok(true));
        open.finished(2);
        open.finished(2);
        assert_eq!(open.begin(replayed(3)), Ok(true), "none is left over");
    }
}
