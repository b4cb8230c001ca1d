//! What smbdirectd's status must say. Scenarios ask for it and then check it here.

use proto::relay::Descriptor;

use super::Supervisor;

impl Supervisor {
    /// Of the only connection, over which payload went both ways.
    #[track_caller]
    pub fn check_only_connection(&self) {
        let (connections, totals) = self.status.as_ref().expect("a status");
        let [found] = connections.as_slice() else {
            panic!("one connection: {connections:?}");
        };
        let (counts, credits, limits) = (&found.counts, &found.credits, &found.limits);
        assert_eq!(found.state, "established");
        assert_eq!(counts.rdma_read_bytes, totals.rdma_read_bytes);
        assert_eq!(counts.rdma_write_bytes, totals.rdma_write_bytes);
        assert!(counts.rdma_reads > 5 && counts.rdma_writes > 5);
        assert!(counts.messages_in > 0 && counts.fragments_in >= counts.messages_in);
        assert!(counts.messages_out > 0 && counts.fragments_out >= counts.messages_out);
        assert!(credits.held > 0, "{credits:?}");
        assert!(
            (11..=credits.posted).contains(&credits.granted),
            "{credits:?}"
        );
        assert_eq!(limits.max_receive_size, 1364);
        assert_eq!(limits.max_read_write_size, 8 << 20);
        assert!(limits.reads > 0 && limits.sends > 0 && limits.rdma_depth > 0);
        assert!(found.region_bytes >= 8 << 20);
        assert_eq!(self.devices[0].name, found.device);
        assert!(self.unheard.is_empty(), "{:?}", self.unheard);
    }

    /// Of the last connection that ended: its client could not be read from through this.
    #[track_caller]
    pub fn check_last_ending(&self, wrong: &Descriptor) {
        let ended = self.ended.last().expect("an ending");
        assert_eq!(ended.reason, "PeerViolation");
        for part in [
            format!("{} on {}", ended.peer, ended.device),
            format!("{} bytes at {:#x}", wrong.length.get(), wrong.offset.get()),
            format!("token {:#010x}", wrong.token.get()),
        ] {
            assert!(
                ended.message.contains(&part),
                "{part:?} is not in {ended:?}"
            );
        }
    }
}
