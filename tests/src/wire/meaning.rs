//! What a message means, in the names of tshark's fields, and the comparison with what is shown.

use std::collections::BTreeMap;

use proto::smb2::{FileId, FileTime, Guid};

use super::flags::Bits;
use super::shown::{Field, number_of};

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    /// All bytes of the field.
    Bytes(Vec<u8>),
    /// Whatever the sender likes: the offset of nothing, or what its receiver ignores.
    Anything,
}

/// Fields that are sent as zero, unless it is said here what they are.
const RESERVED: &[&str] = &[
    "smb2.reserved",
    "smb2.unknown",
    "smb.reserved",
    "smb2.setinfo_reserved",
    "smb2.error.reserved",
    "smb2.tc.reserved",
    "smb2.negotiate_context.comp_alg_flags.reserved",
    "smb2.negotiate_context.rdma_transform_reserved1",
    "smb2.negotiate_context.rdma_transform_reserved2",
];

/// Values by field, in the order in which they stand in the message.
#[derive(Debug, Default)]
pub struct Meaning(BTreeMap<&'static str, Vec<Value>>);

impl Meaning {
    fn push(&mut self, name: &'static str, value: Value) {
        self.0.entry(name).or_default().push(value);
    }

    pub fn number(&mut self, name: &'static str, value: impl Into<u64>) {
        self.push(name, Value::Number(value.into()));
    }

    /// A number and what each of its bits means.
    pub fn flags(&mut self, name: &'static str, value: impl Into<u64>, bits: Bits) {
        let value = value.into();
        self.number(name, value);
        self.bits(value, bits);
    }

    /// The bits alone, of a number that is not shown or has another name each time.
    pub fn bits(&mut self, value: u64, bits: Bits) {
        for (name, mask) in bits {
            let shift = mask.trailing_zeros();
            self.number(name, (value & mask) >> shift);
        }
    }

    pub fn text(&mut self, name: &'static str, text: impl Into<String>) {
        self.push(name, Value::Text(text.into()));
    }

    /// UTF-16LE.
    pub fn utf16(&mut self, name: &'static str, text: &[u8]) {
        let (units, _) = text.as_chunks::<2>();
        let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
        let text: String = char::decode_utf16(units)
            .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        self.text(name, text);
    }

    pub fn bytes(&mut self, name: &'static str, bytes: &[u8]) {
        self.push(name, Value::Bytes(bytes.to_vec()));
    }

    pub fn anything(&mut self, name: &'static str) {
        self.push(name, Value::Anything);
    }

    pub fn guid(&mut self, name: &'static str, guid: Guid) {
        self.text(name, guid.to_string());
    }

    pub fn file_id(&mut self, file: FileId) {
        let mut bytes = [0; 16];
        let (persistent, volatile) = bytes.split_at_mut(8);
        persistent.copy_from_slice(&file.persistent.to_le_bytes());
        volatile.copy_from_slice(&file.volatile.to_le_bytes());
        self.guid("smb2.fid", Guid(bytes));
    }

    pub fn time(&mut self, name: &'static str, time: FileTime) {
        self.text(name, date(time));
    }

    /// Where `slice` lies in `whole`, as one of our decoders took it from there.
    pub fn offset(&mut self, name: &'static str, whole: &[u8], slice: &[u8]) {
        match slice.is_empty() {
            true => self.anything(name),
            false => self.number(name, offset_in(whole, slice)),
        }
    }

    /// Offset and length of a buffer.
    pub fn buffer(&mut self, whole: &[u8], slice: &[u8]) {
        self.offset("smb2.olb.offset", whole, slice);
        self.number("smb2.olb.length", slice.len() as u64);
    }

    /// What is shown and not meant, meant and not shown, or has another value; what was compared is counted.
    pub fn differences(
        self,
        shown: &[Field],
        compared: &mut BTreeMap<String, usize>,
    ) -> Vec<String> {
        let mut found: BTreeMap<&str, Vec<&Field>> = BTreeMap::new();
        for field in shown.iter().filter(|field| !field.is_deduced()) {
            *compared.entry(field.name.clone()).or_default() += 1;
            if RESERVED.contains(&field.name.as_str()) && field.is_zero() {
                continue;
            }
            found.entry(&field.name).or_default().push(field);
        }
        let mut differences = Vec::new();
        for (name, fields) in &found {
            if !self.0.contains_key(name) {
                let texts: Vec<_> = fields.iter().map(|field| &field.text).collect();
                differences.push(format!("{name} is shown as {texts:?} and nothing of ours"));
            }
        }
        for (name, values) in &self.0 {
            let fields = found.get(name).map(Vec::as_slice).unwrap_or_default();
            let agree = values.len() == fields.len()
                && values
                    .iter()
                    .zip(fields)
                    .all(|(value, field)| value.is(field));
            if !agree {
                let texts: Vec<_> = fields.iter().map(|field| &field.text).collect();
                differences.push(format!("{name} is shown as {texts:?}, meant as {values:?}"));
            }
        }
        differences
    }
}

impl Value {
    fn is(&self, field: &Field) -> bool {
        match self {
            Value::Number(number) => number_of(&field.text) == Some(*number),
            Value::Text(text) => field.text == *text,
            Value::Bytes(bytes) => super::shown::from_hexadecimal(&field.bytes) == *bytes,
            Value::Anything => true,
        }
    }
}

/// Where a part that was decoded from `whole` begins in it.
pub fn offset_in(whole: &[u8], slice: &[u8]) -> u64 {
    (slice.as_ptr().addr() as u64).wrapping_sub(whole.as_ptr().addr() as u64)
}

/// As tshark writes a time; one that is zero has its own form.
fn date(time: FileTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (seconds, nanoseconds) = match time {
        FileTime(0) => (0, 0),
        time => time.to_unix(),
    };
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // The civil calendar from days, years beginning in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    format!(
        "{} {day:2}, {year} {:02}:{:02}:{:02}.{nanoseconds:09} UTC",
        MONTHS[usize::try_from(month).unwrap_or(0)],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, text: &str, bytes: &str) -> Field {
        Field {
            name: name.to_owned(),
            text: text.to_owned(),
            bytes: bytes.to_owned(),
        }
    }

    fn differences(meaning: Meaning, shown: &[Field]) -> usize {
        meaning.differences(shown, &mut BTreeMap::new()).len()
    }

    #[test]
    fn a_value_that_differs_is_missing_or_is_not_known_is_a_difference() {
        let meant = || {
            let mut meaning = Meaning::default();
            meaning.number("smb2.cmd", 8u16);
            meaning
        };
        let shown = field("smb2.cmd", "8", "0800");
        assert_eq!(differences(meant(), std::slice::from_ref(&shown)), 0);
        assert_eq!(differences(meant(), &[field("smb2.cmd", "9", "0900")]), 1);
        assert_eq!(differences(meant(), &[]), 1);
        assert_eq!(
            differences(Meaning::default(), std::slice::from_ref(&shown)),
            1
        );
        assert_eq!(differences(meant(), &[shown.clone(), shown.clone()]), 1);
        let reserved = |bytes| field("smb2.reserved", "", bytes);
        assert_eq!(differences(meant(), &[shown.clone(), reserved("0000")]), 0);
        assert_eq!(differences(meant(), &[shown, reserved("0001")]), 1);
    }

    #[test]
    fn times_are_written_as_tshark_writes_them() {
        let time = FileTime::from_unix(1_795_247_571, 673_618_800);
        assert_eq!(date(time), "Nov 21, 2026 07:52:51.673618800 UTC");
        let leap = FileTime::from_unix(951_782_400, 0);
        assert_eq!(date(leap), "Feb 29, 2000 00:00:00.000000000 UTC");
        assert_eq!(date(FileTime(0)), "Jan  1, 1970 00:00:00.000000000 UTC");
    }
}
