//! What tshark shows of a recording, field by field, beside what this project's own decoders make of the same bytes.
//! `wire_compare` and the lab's tests call it for a recording of a client at work. Each field that tshark shows
//! in the SMB Direct and SMB2 layers must be known here and have the value meant; one that nobody here knows is a
//! failure, and so is one that was meant and is not shown. It never reads a packet by itself: the bytes of a layer are
//! those that tshark took for it.

mod connecting;
mod files;
mod flags;
mod information;
mod interfaces;
mod meaning;
mod shown;
mod smb2;
mod smbdirect;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use proto::smb2::{BufferDescriptorV1, Header};

use meaning::Meaning;
use shown::{Layer, Protocol};

/// Of a whole recording.
#[derive(Debug, Default)]
pub struct Comparison {
    pub frames: usize,
    /// SMB Direct messages, and SMB2 messages of a compound one by one.
    pub messages: BTreeMap<String, usize>,
    /// Fields compared, by name.
    pub fields: BTreeMap<String, usize>,
    /// Fields about other frames or of other protocols, which say nothing of the bytes of this one.
    pub deduced: usize,
    /// RDMA READs and WRITEs, each within a buffer descriptor that was sent before.
    pub transfers: usize,
    /// What is wrong, each with its frame.
    pub differences: Vec<String>,
}

/// SMB2 requests by frame and MessageId, for their responses to refer to.
type Requests = HashMap<(u64, u64), Vec<u8>>;

/// Has tshark decode a recording, and compares.
pub fn compare(recording: &Path) -> Result<Comparison, super::lab::LabError> {
    let mut comparison = Comparison::default();
    let mut requests = Requests::new();
    let mut exposed = Vec::new();
    for frame in shown::frames(recording)? {
        comparison.frames += 1;
        let number = frame.number;
        for problem in frame.problems {
            comparison
                .differences
                .push(format!("frame {number}: {problem}"));
        }
        if let Some([address, key, length]) = frame.remote_memory {
            comparison.transfers += 1;
            let may = |descriptor: &BufferDescriptorV1| {
                let (from, to) = (
                    descriptor.offset,
                    descriptor
                        .offset
                        .saturating_add(u64::from(descriptor.length)),
                );
                key == u64::from(descriptor.token)
                    && address >= from
                    && address.saturating_add(length) <= to
            };
            if !exposed.iter().any(may) {
                let what = format!("RDMA to {length} bytes at {address:#x} of {key:#x}");
                let line = format!("frame {number}: {what}, which no descriptor names");
                comparison.differences.push(line);
            }
        }
        for layer in frame.layers {
            if layer.protocol == Protocol::Smb2 {
                exposed.extend(files::descriptors(&layer.bytes));
            }
            comparison.take(number, &layer, &mut requests);
        }
    }
    Ok(comparison)
}

impl Comparison {
    fn take(&mut self, frame: u64, layer: &Layer, requests: &mut Requests) {
        let mut meaning = Meaning::default();
        let decoded = match layer.protocol {
            Protocol::SmbDirect => smbdirect::message(&layer.bytes, layer, &mut meaning)
                .map_err(|error| error.to_string()),
            Protocol::Smb2 => {
                self.remember(frame, &layer.bytes, requests);
                smb2::message(&layer.bytes, layer, requests, &mut meaning)
                    .map_err(|error| error.to_string())
            }
        };
        let what = match decoded {
            Ok(what) => what,
            Err(error) => {
                let line = format!("frame {frame}: we cannot decode what tshark can: {error}");
                self.differences.push(line);
                return;
            }
        };
        let differences = meaning.differences(&layer.fields, &mut self.fields);
        self.deduced += layer
            .fields
            .iter()
            .filter(|field| field.is_deduced())
            .count();
        let said = differences.into_iter();
        let said = said.map(|difference| format!("frame {frame}, {what}: {difference}"));
        self.differences.extend(said);
        *self.messages.entry(what).or_default() += 1;
    }

    fn remember(&self, frame: u64, bytes: &[u8], requests: &mut Requests) {
        if let Ok(header) = Header::decode(bytes)
            && !header.is_response()
        {
            requests.insert((frame, header.message_id.0), bytes.to_vec());
        }
    }
}
