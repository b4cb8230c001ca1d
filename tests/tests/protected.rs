//! Signed and encrypted sessions over SMB Direct, in the lab: the kernel client in each dialect with each
//! protection it can be told to use, and what a recording of the wire shows of a file.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tests::hazards::pattern;
use tests::lab::{Guest, GuestBuilder, LabError, Outcome, binary, lab_folder, skip};

/// Where the built programs lie; `None`, noted as a skip, where they are not.
fn programs() -> Option<PathBuf> {
    let found = ["smbdirectd", "conformance", "smbd"].map(binary);
    for program in &found {
        if let Err(LabError::Skip(reason)) = program {
            skip::report(reason);
            return None;
        }
    }
    let [.., smbd] = found;
    let smbd = smbd.expect("built with the tests");
    smbd.parent().map(PathBuf::from)
}

fn guest(folder: &std::path::Path) -> GuestBuilder {
    Guest::builder()
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
        .time_limit(Duration::from_secs(110))
}

/// Whether these bytes are anywhere in the recordings of the links.
fn on_the_wire(outcome: &Outcome, links: u8, bytes: &[u8]) -> bool {
    let search = memmem(bytes);
    (1..=links).any(|link| {
        let recording = fs::read(outcome.file(&format!("wire-{link}.pcap"))).expect("a recording");
        assert!(recording.len() > 1 << 20, "the file is in it, somehow");
        search(&recording)
    })
}

/// A search that looks for the first byte first.
fn memmem(bytes: &[u8]) -> impl Fn(&[u8]) -> bool {
    move |all| {
        let mut rest = all;
        while let Some(at) = rest.iter().position(|byte| *byte == bytes[0]) {
            rest = &rest[at..];
            if rest.starts_with(bytes) {
                return true;
            }
            rest = &rest[1..];
        }
        false
    }
}

#[test]
fn the_kernel_client_is_served_in_each_dialect_with_each_protection() {
    let Some(folder) = programs() else { return };
    let guest = guest(&folder).script_file(lab_folder().join("protected.sh"));
    let Some(outcome) = guest.run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    let last = outcome.output.lines().last().unwrap_or_default();
    // By RDMA go the three dialects with nothing to protect.
    assert_eq!(last, "protected: ok combinations=21 inline=18 by_rdma=3");
}

const MARK: &str = "a plain byte of the file, 32 long";

/// A file of marks by the kernel client over two RDMA channels, recorded.
fn recorded(protection: &str, setting: &str) -> Option<Outcome> {
    let folder = programs()?;
    guest(&folder)
        .links(2)
        .capture(true)
        .script(&format!(
            r#"
            smbd() {{ server "$SMBDIRECT_BIN_DIR/smbd" "$@"; }}
            channels() {{ smbd status --json 2>/dev/null | jq "[.children[].status.channels[]? | select(.transport == \"Rdma\")] | length"; }}
            listens() {{ smbd status --json 2>/dev/null | says '.gateway.interfaces | length > 1'; }}
            two() {{ [ "$(channels)" = 2 ]; }}
            mkdir -p /mnt/a /srv/share /run/recorded
            useradd --no-create-home load; chown load /srv/share
            printf '[global]\n\tserver smb transports = tcp, rdma\n\t{setting}\n[share]\n\tpath = /srv/share\n\tread only = no\n' >/run/recorded/smb.conf
            smbd --config /run/recorded/smb.conf passwd add load --stdin <<<load-word >/dev/null
            smbd --config /run/recorded/smb.conf >"$LAB_RESULTS/smbd.log" 2>&1 &
            wait_until 10 listens
            mount -t cifs //10.9.0.1/share /mnt/a -o vers=3.1.1,rdma,multichannel,max_channels=2,cache=none,{protection},username=load,password=load-word
            wait_until 10 two
            yes '{MARK}' | head -c 4194304 >/run/recorded/file || true
            cp /run/recorded/file /mnt/a/file
            cmp /run/recorded/file /mnt/a/file
            cmp /run/recorded/file /srv/share/file
            two
            for device in rdma_s1 rdma_s2; do
                [ "$(cat /sys/class/infiniband/$device/ports/1/hw_counters/sent_pkts)" -gt 200 ]
            done
            umount /mnt/a
            "#
        ))
        .run_or_skip()
}

#[test]
fn an_encrypted_session_with_two_rdma_channels_shows_no_plain_byte_of_a_file() {
    let Some(sealed) = recorded("seal", "server smb encrypt = required") else {
        return;
    };
    sealed.assert_succeeded();
    assert!(!on_the_wire(&sealed, 2, MARK.as_bytes()));
    // What finds nothing there finds it where nothing is encrypted.
    if let Some(plain) = recorded("sec=ntlmssp", "") {
        plain.assert_succeeded();
        assert!(on_the_wire(&plain, 2, MARK.as_bytes()));
    }
}

#[test]
fn payload_by_rdma_transform_is_not_plain_on_the_wire() {
    let Some(folder) = programs() else { return };
    let guest = guest(&folder).capture(true).script(
        "ulimit -l unlimited; \"$SMBDIRECT_BIN_DIR/conformance\" smbdirect Transform_RequiredEncryption",
    );
    let Some(outcome) = guest.run_or_skip() else {
        return;
    };
    outcome.assert_succeeded();
    let data = pattern(2 << 20, 4);
    for at in (100..data.len() - 32).step_by(200_000) {
        assert!(!on_the_wire(&outcome, 1, &data[at..at + 32]), "byte {at}");
    }
}
