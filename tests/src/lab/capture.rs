//! What the wire carried, as tshark decodes it: the last line of `tests/lab/capture.sh`, read.
//! Called for an outcome's recordings; never reads a packet itself.

use std::path::Path;
use std::process::Command;

use super::{LabError, failed, lab_folder};

/// Frames of one recording, by what tshark found in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    pub frames: u64,
    pub malformed: u64,
    pub infiniband: u64,
    pub smb_direct: u64,
    pub smb2: u64,
    /// Frames that tcpdump could not keep up with: a decoder may miss what they carried.
    pub dropped: u64,
}

pub(super) fn decode(pcap: &Path) -> Result<Capture, LabError> {
    let output = Command::new(lab_folder().join("capture.sh"))
        .arg(pcap)
        .output()
        .map_err(|source| failed("start tests/lab/capture.sh", source))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(77) {
        return Err(LabError::Skip(text.trim().to_owned()));
    }
    let last = text
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("capture: "));
    last.and_then(parse).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        LabError::Misused(format!("capture.sh: {text}{errors}"))
    })
}

/// These fields of every frame that a filter of tshark's lets through; what stands in a frame several
/// times is joined by commas.
pub(super) fn fields(
    pcap: &Path,
    filter: &str,
    names: &[&str],
) -> Result<Vec<Vec<String>>, LabError> {
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-r")
        .arg(pcap)
        .args(["-Y", filter, "-T", "fields"]);
    for name in names {
        tshark.args(["-e", name]);
    }
    let output = tshark.output();
    let output =
        output.map_err(|error| LabError::Skip(format!("tshark cannot be run: {error}")))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(LabError::Misused(format!("tshark: {errors}")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(text.lines().map(row).collect())
}

fn parse(pairs: &str) -> Option<Capture> {
    let mut capture = Capture::default();
    for pair in pairs.split_whitespace() {
        let (key, value) = pair.split_once('=')?;
        let field = match key {
            "frames" => &mut capture.frames,
            "malformed" => &mut capture.malformed,
            "infiniband" => &mut capture.infiniband,
            "smb_direct" => &mut capture.smb_direct,
            "smb2" => &mut capture.smb2,
            "dropped" => &mut capture.dropped,
            _ => return None,
        };
        *field = value.parse().ok()?;
    }
    Some(capture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_line_becomes_counts() {
        let line = "frames=9 malformed=1 infiniband=8 smb_direct=5 smb2=4 dropped=2";
        let expected = Capture {
            frames: 9,
            malformed: 1,
            infiniband: 8,
            smb_direct: 5,
            smb2: 4,
            dropped: 2,
        };
        assert_eq!(parse(line), Some(expected));
    }

    #[test]
    fn unknown_or_unreadable_counts_are_refused() {
        assert_eq!(parse("frames=9 surprises=1"), None);
        assert_eq!(parse("frames=many"), None);
    }
}
