//! What tshark shows of a recording: its JSON, in order and with every field that stands there more than once,
//! and beside each field the bytes it was read from.

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::lab::LabError;

/// Layers inside SMB2 that are other protocols'.
const OTHER_PROTOCOLS: &[&str] = &["gss-api", "spnego", "ntlmssp"];

/// Trees below a field that tell what other frames said of it.
const FROM_OTHER_FRAMES: &[&str] = &["smb2.tid_tree", "smb2.sesid_tree"];

/// One field as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub text: String,
    /// In hexadecimal; bits of a byte are shown shifted. Empty for what stands in no byte.
    pub bytes: String,
}

/// Fields that tshark has from other frames: when and where something was opened, who logged on.
const DEDUCED: &[&str] = &[
    "smb2.time",
    "smb2.preauth_hash",
    "dcerpc.nt.open_frame",
    "dcerpc.nt.close_frame",
    "smb2.acct",
    "smb2.domain",
    "smb2.host",
    "smb2.auth_frame",
    "tid: smb2.tcon_frame",
    "tid: smb2.tree",
    "tid: smb2.share_type",
];

impl Field {
    /// It is about other frames.
    pub fn is_deduced(&self) -> bool {
        DEDUCED.contains(&self.name.as_str())
    }

    /// All its bytes are.
    pub fn is_zero(&self) -> bool {
        self.bytes.bytes().all(|digit| digit == b'0')
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    SmbDirect,
    Smb2,
}

/// One message of a frame.
#[derive(Debug)]
pub struct Layer {
    pub protocol: Protocol,
    pub bytes: Vec<u8>,
    pub fields: Vec<Field>,
}

impl Layer {
    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

#[derive(Debug)]
pub struct Frame {
    pub number: u64,
    pub layers: Vec<Layer>,
    /// Memory that an RDMA READ or WRITE names: address, key, length.
    pub remote_memory: Option<[u64; 3]>,
    /// What tshark complains of.
    pub problems: Vec<String>,
}

/// All frames of a recording, those without a layer of ours too.
pub fn frames(recording: &Path) -> Result<Vec<Frame>, LabError> {
    let mut tshark = Command::new("tshark");
    let tshark = tshark.arg("-r").arg(recording).env("TZ", "UTC").args([
        "-T",
        "json",
        "-x",
        "-J",
        "frame infiniband smb_direct smb2 data _ws.malformed _ws.expert _ws.short",
    ]);
    let output = tshark.output();
    let output =
        output.map_err(|error| LabError::Skip(format!("tshark cannot be run: {error}")))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(LabError::Misused(format!("tshark: {errors}")));
    }
    let packets: Json = serde_json::from_slice(&output.stdout)
        .map_err(|error| LabError::Misused(format!("tshark's JSON: {error}")))?;
    let Json::List(packets) = packets else {
        return Err(LabError::Misused("tshark's JSON is no list".to_owned()));
    };
    Ok((1..).zip(&packets).map(frame).collect())
}

/// JSON whose objects keep their order and every member.
#[derive(Debug)]
enum Json {
    Text(String),
    List(Vec<Json>),
    Members(Vec<(String, Json)>),
}

impl Json {
    fn member(&self, name: &str) -> Option<&Json> {
        let Json::Members(members) = self else {
            return None;
        };
        let found = members.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    }

    /// The bytes of a `_raw` member, in hexadecimal; none where it spans none.
    fn bytes(&self) -> &str {
        match self {
            Json::List(parts) => match &parts[..] {
                [Json::Text(_), _, Json::Text(length), ..] if length == "0" => "",
                [Json::Text(bytes), ..] => bytes,
                _ => "",
            },
            _ => "",
        }
    }
}

fn frame((number, packet): (u64, &Json)) -> Frame {
    let mut frame = Frame {
        number,
        layers: Vec::new(),
        remote_memory: None,
        problems: Vec::new(),
    };
    let layers = packet
        .member("_source")
        .and_then(|source| source.member("layers"));
    let Some(Json::Members(layers)) = layers else {
        frame.problems.push("it has no layers".to_owned());
        return frame;
    };
    let mut bytes = "";
    for (name, layer) in layers {
        let protocol = match name.as_str() {
            "smb_direct_raw" | "smb2_raw" => {
                bytes = layer.bytes();
                continue;
            }
            "smb_direct" => Protocol::SmbDirect,
            "smb2" => Protocol::Smb2,
            // What is written, a protocol of its own for tshark.
            "data" if let Some(written) = frame.layers.last_mut() => {
                gather(layer, "", &mut written.fields);
                continue;
            }
            _ => {
                if name == "infiniband" {
                    frame.remote_memory = remote_memory(layer);
                }
                complaints(name, layer, &mut frame.problems);
                continue;
            }
        };
        complaints(name, layer, &mut frame.problems);
        let mut fields = Vec::new();
        gather(layer, "", &mut fields);
        frame.layers.push(Layer {
            protocol,
            bytes: from_hexadecimal(bytes),
            fields,
        });
    }
    frame
}

/// The RDMA extended transport header, which the first packet of a READ or WRITE has.
fn remote_memory(layer: &Json) -> Option<[u64; 3]> {
    let mut fields = Vec::new();
    gather(layer, "", &mut fields);
    let number = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        number_of(&field.text)
    };
    Some([
        number("infiniband.reth.va")?,
        number("infiniband.reth.r_key")?,
        number("infiniband.reth.dmalen")?,
    ])
}

/// Decimal, or hexadecimal behind 0x.
pub fn number_of(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Malformed and cut packets, and whatever its experts noticed.
fn complaints(name: &str, value: &Json, problems: &mut Vec<String>) {
    let is_complaint = ["_ws.malformed", "_ws.short", "_ws.expert.message"].contains(&name);
    if is_complaint {
        problems.push(format!("{name}: {value:?}"));
    }
    if let Json::Members(members) = value {
        for (name, value) in members {
            complaints(name, value, problems);
        }
    }
}

/// The fields of a tree, in order; `context` stands before the names in trees about other frames.
fn gather(tree: &Json, context: &str, fields: &mut Vec<Field>) {
    let Json::Members(members) = tree else { return };
    let mut bytes = String::new();
    for (name, value) in members {
        if name.ends_with("_raw") {
            bytes = value.bytes().to_owned();
            continue;
        }
        let bytes = std::mem::take(&mut bytes);
        // Fields may have such a name too, but are no objects then.
        let is_tree = name.ends_with("_tree") && matches!(value, Json::Members(_));
        let is_label = is_tree || name.contains(' ') || !name.contains('.');
        if OTHER_PROTOCOLS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        match value {
            Json::Text(text) if !is_label => fields.push(Field {
                name: format!("{context}{name}"),
                text: text.clone(),
                bytes,
            }),
            Json::Members(_) => {
                if !is_label {
                    fields.push(Field {
                        name: format!("{context}{name}"),
                        text: String::new(),
                        bytes,
                    });
                }
                let below = match FROM_OTHER_FRAMES.contains(&name.as_str()) {
                    true if name == "smb2.tid_tree" => "tid: ",
                    _ => "",
                };
                gather(value, below, fields);
            }
            _ => {}
        }
    }
}

/// Bytes of hexadecimal digits; none for what is none.
pub fn from_hexadecimal(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map_while(byte).collect()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Text(number.to_string()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Text(truth.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Text(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Json::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Members(members))
    }
}
