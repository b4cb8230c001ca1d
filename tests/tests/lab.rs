//! Proves the lab on its own ground, without a daemon of ours: two hosts with RDMA between them, a status that comes
//! back whatever happens to the guest, recordings that decode, and a host on which nothing was written.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::lab::{Ending, Guest, RdmaKind};

#[test]
fn both_hosts_have_an_active_device_and_reach_each_other_by_rdma() {
    let Some(outcome) = Guest::builder()
        .script(
            r#"
            grep -q ACTIVE /sys/class/infiniband/rdma_c1/ports/1/state
            grep -q ACTIVE /sys/class/infiniband/rdma_s1/ports/1/state
            server rping -s -a 10.9.0.1 -p 7174 -C 10 -S 4096 &
            sleep 0.2
            rping -c -a 10.9.0.1 -p 7174 -C 10 -S 4096
            echo "sent $(cat /sys/class/infiniband/rdma_c1/ports/1/hw_counters/sent_pkts)"
            "#,
        )
        .time_limit(Duration::from_secs(20))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    let sent = outcome
        .output
        .lines()
        .find_map(|line| line.strip_prefix("sent "))
        .and_then(|count| count.parse::<u64>().ok())
        .expect("the script prints its packet count");
    // Ten round trips of 4,096 bytes, each an RDMA READ and an RDMA WRITE by the server.
    assert!(sent >= 30, "only {sent} RDMA packets left the client");
}

#[test]
fn two_links_carry_rdma_each() {
    let Some(outcome) = Guest::builder()
        .links(2)
        .script(
            r#"
            for address in 10.9.0.1 10.9.1.1; do
                server rping -s -a $address -p 7174 -C 3 &
                sleep 0.2
                rping -c -a $address -p 7174 -C 3
                wait
            done
            for device in rdma_c1 rdma_c2; do
                [ "$(cat /sys/class/infiniband/$device/ports/1/hw_counters/sent_pkts)" -gt 5 ]
            done
            "#,
        )
        .time_limit(Duration::from_secs(20))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
}

#[test]
fn soft_iwarp_devices_are_there_on_request() {
    let Some(outcome) = Guest::builder()
        .rdma(RdmaKind::Siw)
        .script(
            r#"
            server rping -s -a 10.9.0.1 -p 7174 -C 3 &
            sleep 0.2
            rping -c -a 10.9.0.1 -p 7174 -C 3
            "#,
        )
        .time_limit(Duration::from_secs(20))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
}

#[test]
fn script_is_running_within_a_second_and_a_half() {
    let Some(outcome) = Guest::builder().script("true").run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    let ready = outcome
        .read("ready")
        .expect("the guest notes when it was ready");
    let seconds: f64 = ready
        .trim()
        .parse()
        .expect("seconds since the kernel started");
    assert!(seconds < 1.5, "the script started after {seconds} s");
}

#[test]
fn failing_script_hands_back_its_status() {
    let Some(outcome) = Guest::builder()
        .script("echo before; exit 42")
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::Status(42));
    assert!(outcome.output.contains("before"));
}

#[test]
fn statuses_the_runner_uses_itself_are_handed_back_too() {
    for status in [124, 125] {
        let script = format!("exit {status}");
        let Some(outcome) = Guest::builder().script(&script).run_or_skip() else {
            return;
        };
        assert_eq!(outcome.ending, Ending::Status(status));
    }
}

#[test]
fn guest_that_dies_without_a_status_has_failed() {
    let Some(outcome) = Guest::builder()
        .script("echo o >/proc/sysrq-trigger; sleep 5; exit 0")
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::Silent);
    assert!(!outcome.succeeded());
}

#[test]
fn guest_that_hangs_is_killed_at_its_time_limit() {
    let started = Instant::now();
    let Some(outcome) = Guest::builder()
        .script("echo hanging; sleep 1000")
        .time_limit(Duration::from_secs(3))
        .run_or_skip()
    else {
        return;
    };
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(
        outcome.output.contains("hanging"),
        "what it printed is kept"
    );
    // Waiting for a free core comes on top of the limit, so only the order of magnitude can be checked.
    assert!(started.elapsed() < Duration::from_secs(200));
}

#[test]
fn nothing_of_the_host_is_written() {
    let marker = format!("smbdirect-lab-marker-{}", std::process::id());
    let folders = [
        "/", "/etc", "/tmp", "/var/tmp", "/root", "/dev/shm", "/run", "/mnt", "/srv",
    ];
    let script = format!(
        "for folder in {}; do echo x >$folder/{marker}; test -s $folder/{marker}; done; rm /etc/hostname; test ! -e /etc/hostname",
        folders.join(" ")
    );
    let hostname = std::fs::read("/etc/hostname").ok();
    let Some(outcome) = Guest::builder().script(&script).run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    for folder in folders {
        let path = Path::new(folder).join(&marker);
        assert!(!path.exists(), "{} is on the host", path.display());
    }
    assert_eq!(std::fs::read("/etc/hostname").ok(), hostname);
}

#[test]
fn results_folder_is_the_one_way_out() {
    let Some(outcome) = Guest::builder()
        .script("echo measured >$LAB_RESULTS/figures; echo \"$COLOUR $1\"")
        .environment("COLOUR", "blue; green's $x")
        .argument("an argument")
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    assert_eq!(
        outcome.read("figures").expect("written by the script"),
        "measured\n"
    );
    assert!(outcome.output.contains("blue; green's $x an argument"));
}

#[test]
fn recording_of_the_wire_decodes() {
    let Some(outcome) = Guest::builder()
        .capture(true)
        .script(
            r#"
            server rping -s -a 10.9.0.1 -p 7174 -C 5 &
            sleep 0.2
            rping -c -a 10.9.0.1 -p 7174 -C 5
            "#,
        )
        .time_limit(Duration::from_secs(30))
        .run_or_skip()
    else {
        return;
    };
    outcome.assert_succeeded();
    let wire = match outcome.wire(1) {
        Ok(wire) => wire,
        Err(tests::lab::LabError::Skip(reason)) => return tests::lab::skip::report(&reason),
        Err(error) => panic!("{error}"),
    };
    assert!(wire.infiniband >= 40, "{wire:?}");
    assert_eq!((wire.malformed, wire.dropped), (0, 0), "{wire:?}");
}

#[test]
fn script_that_cannot_run_here_is_no_success() {
    let result = Guest::builder().script("skip 'no such device'").run();
    match result {
        Err(tests::lab::LabError::Skip(reason)) if reason != "no such device" => {
            tests::lab::skip::report(&reason);
        }
        Err(tests::lab::LabError::Skip(_)) => {}
        other => panic!("expected a skip, got {other:?}"),
    }
}
