//! Security descriptors (MS-DTYP 2.4.6) made of owner, group and permission bits, and back.
//!
//! Unix owners are the SIDs S-1-22-1-uid and S-1-22-2-gid, which clients and other servers know.
//! Setting one changes the permission bits as far as its list speaks of owner, group and
//! everyone; an owner cannot be given away. Pure.

use proto::smb2::query_info::SecurityInformation;
use proto::smb2::{AccessMask, NtStatus};
use proto::wire::{Reader, WireError, Writer, range};

use super::metadata::Metadata;

/// A security identifier (MS-DTYP 2.4.2), as far as this server names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sid {
    authority: u64,
    subauthorities: Vec<u32>,
}

const NULL_AUTHORITY_WORLD: u64 = 1;
const AUTHORITY_CREATOR: u64 = 3;
const AUTHORITY_NT: u64 = 5;
const AUTHORITY_UNIX: u64 = 22;
const MAX_SUBAUTHORITIES: u8 = 15;

const SELF_RELATIVE: u16 = 0x8000;
const DACL_PRESENT: u16 = 0x0004;
const HEADER: usize = 20;
const ACCESS_ALLOWED: u8 = 0;
const ACCESS_DENIED: u8 = 1;
const INHERIT_ONLY: u8 = 0x08;

impl Sid {
    fn new(authority: u64, subauthorities: &[u32]) -> Sid {
        Sid {
            authority,
            subauthorities: subauthorities.to_vec(),
        }
    }

    /// The owner of a file.
    pub fn of_user(uid: u32) -> Sid {
        Sid::new(AUTHORITY_UNIX, &[1, uid])
    }

    /// The group of a file.
    pub fn of_group(gid: u32) -> Sid {
        Sid::new(AUTHORITY_UNIX, &[2, gid])
    }

    /// Everyone, S-1-1-0.
    pub fn everyone() -> Sid {
        Sid::new(NULL_AUTHORITY_WORLD, &[0])
    }

    fn read(reader: &mut Reader<'_>) -> Result<Sid, WireError> {
        let malformed = reader.error("Sid");
        let revision = reader.u8("Sid.Revision")?;
        let count = reader.u8("Sid.SubAuthorityCount")?;
        if revision != 1 || count > MAX_SUBAUTHORITIES {
            return Err(malformed);
        }
        let bytes = reader.array::<6>("Sid.IdentifierAuthority")?;
        let authority = bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        let subauthorities = (0..count)
            .map(|_| reader.u32("Sid.SubAuthority"))
            .collect::<Result<_, _>>()?;
        Ok(Sid {
            authority,
            subauthorities,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.u8(1).u8(self.subauthorities.len() as u8);
        writer.bytes(&self.authority.to_be_bytes()[2..]);
        for subauthority in &self.subauthorities {
            writer.u32(*subauthority);
        }
    }

    const fn size(&self) -> usize {
        8 + 4 * self.subauthorities.len()
    }

    fn is_creator(&self, which: u32) -> bool {
        self.authority == AUTHORITY_CREATOR && self.subauthorities == [which]
    }

    /// Everyone, or whoever is logged on.
    fn is_anybody(&self) -> bool {
        *self == Sid::everyone() || (self.authority == AUTHORITY_NT && self.subauthorities == [11])
    }

    /// S-1-5-88-3-mode, by which Unix clients hand over permission bits as they are. Not the three
    /// above them: a program that runs as its owner is not to be made over the network.
    fn mode(&self) -> Option<u32> {
        match self.subauthorities[..] {
            [88, 3, mode] if self.authority == AUTHORITY_NT => Some(mode & 0o777),
            _ => None,
        }
    }
}

/// The descriptor of a file, with the parts that were asked for.
pub fn encode(metadata: &Metadata, wanted: SecurityInformation) -> Vec<u8> {
    let owner = Sid::of_user(metadata.uid);
    let group = Sid::of_group(metadata.gid);
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    let with_dacl = wanted.contains(SecurityInformation::DACL);
    writer.u8(1).u8(0);
    writer.u16(SELF_RELATIVE | if with_dacl { DACL_PRESENT } else { 0 });
    writer.zeros(HEADER - 4);
    if wanted.contains(SecurityInformation::OWNER) {
        let offset = writer.offset() as u32;
        writer.patch_u32(4, offset);
        owner.write(&mut writer);
    }
    if wanted.contains(SecurityInformation::GROUP) {
        let offset = writer.offset() as u32;
        writer.patch_u32(8, offset);
        group.write(&mut writer);
    }
    if with_dacl {
        let offset = writer.offset() as u32;
        writer.patch_u32(16, offset);
        let entries = [
            (owner, owner_rights(metadata)),
            (group, rights(metadata.mode >> 3, metadata.is_directory())),
            (
                Sid::everyone(),
                rights(metadata.mode, metadata.is_directory()),
            ),
        ];
        write_dacl(&mut writer, &entries);
    }
    out
}

/// The permission bits a descriptor asks for; `None` if it has no access list. Owner and group, if
/// named, must be what they are.
pub fn decode(
    bytes: &[u8],
    parts: SecurityInformation,
    metadata: &Metadata,
) -> Result<Option<u32>, NtStatus> {
    let malformed = |_: WireError| NtStatus::INVALID_SECURITY_DESCR;
    let mut reader = Reader::new(bytes);
    reader.skip(2, "Revision").map_err(malformed)?;
    let control = reader.u16("Control").map_err(malformed)?;
    let owner = reader.u32("OffsetOwner").map_err(malformed)?;
    let group = reader.u32("OffsetGroup").map_err(malformed)?;
    reader.skip(4, "OffsetSacl").map_err(malformed)?;
    let dacl = reader.u32("OffsetDacl").map_err(malformed)?;
    let named = |offset: u32| -> Result<Option<Sid>, NtStatus> {
        if offset == 0 {
            return Ok(None);
        }
        let mut reader = Reader::starting_at(bytes, offset as usize, "Sid").map_err(malformed)?;
        Sid::read(&mut reader).map(Some).map_err(malformed)
    };
    if parts.contains(SecurityInformation::OWNER)
        && named(owner)?.is_some_and(|sid| sid != Sid::of_user(metadata.uid))
    {
        return Err(NtStatus::INVALID_OWNER);
    }
    if parts.contains(SecurityInformation::GROUP)
        && named(group)?.is_some_and(|sid| sid != Sid::of_group(metadata.gid))
    {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if !parts.contains(SecurityInformation::DACL) {
        return Ok(None);
    }
    let special = metadata.mode & 0o7000;
    if control & DACL_PRESENT == 0 || dacl == 0 {
        // No list at all: everybody may do everything (MS-DTYP 2.4.6).
        return Ok(Some(special | 0o777));
    }
    read_dacl(bytes, dacl, metadata)
        .map(|mode| Some(mode.unwrap_or(special)))
        .map_err(malformed)
}

/// The owner may change attributes and the list, whatever the bits say.
fn owner_rights(metadata: &Metadata) -> AccessMask {
    rights(metadata.mode >> 6, metadata.is_directory())
        | AccessMask::WRITE_ATTRIBUTES
        | AccessMask::WRITE_DAC
        | AccessMask::WRITE_OWNER
        | AccessMask::DELETE
}

fn rights(bits: u32, is_directory: bool) -> AccessMask {
    let mut granted =
        AccessMask::READ_ATTRIBUTES | AccessMask::READ_CONTROL | AccessMask::SYNCHRONIZE;
    if bits & 4 != 0 {
        granted |= AccessMask::FILE_GENERIC_READ;
    }
    if bits & 2 != 0 {
        granted |= AccessMask::FILE_GENERIC_WRITE;
        if is_directory {
            granted |= AccessMask::DELETE_CHILD;
        }
    }
    if bits & 1 != 0 {
        granted |= AccessMask::FILE_GENERIC_EXECUTE;
    }
    if bits & 7 == 7 {
        granted |= AccessMask::FILE_ALL_ACCESS
            - (AccessMask::WRITE_DAC | AccessMask::WRITE_OWNER | AccessMask::DELETE);
    }
    granted
}

fn write_dacl(writer: &mut Writer<'_>, entries: &[(Sid, AccessMask)]) {
    let size: usize = entries.iter().map(|(sid, _)| 8 + sid.size()).sum();
    writer.u8(2).u8(0).u16((8 + size) as u16);
    writer.u16(entries.len() as u16).u16(0);
    for (sid, mask) in entries {
        writer.u8(ACCESS_ALLOWED).u8(0).u16((8 + sid.size()) as u16);
        writer.u32(mask.bits());
        sid.write(writer);
    }
}

/// Owner, group and everyone get the bits their entries allow and none denied before; `None` if
/// no entry speaks of them.
fn read_dacl(bytes: &[u8], offset: u32, metadata: &Metadata) -> Result<Option<u32>, WireError> {
    let mut reader = Reader::starting_at(bytes, offset as usize, "Dacl")?;
    reader.skip(2, "Dacl.Revision")?;
    let size = reader.u16("Dacl.Size")?;
    let list = range(bytes, offset.into(), size.into(), "Dacl")?;
    let count = reader.u16("Dacl.Count")?;
    let mut reader = Reader::starting_at(list, 8, "Ace")?;
    let mut allowed = [0u32; 3];
    let mut denied = [0u32; 3];
    let mut exact = None;
    for _ in 0..count {
        let malformed = reader.error("Ace.Size");
        let kind = reader.u8("Ace.Type")?;
        let flags = reader.u8("Ace.Flags")?;
        let length = usize::from(reader.u16("Ace.Size")?);
        let body = reader.bytes(length.checked_sub(4).ok_or(malformed)?, "Ace")?;
        if !matches!(kind, ACCESS_ALLOWED | ACCESS_DENIED) || flags & INHERIT_ONLY != 0 {
            continue;
        }
        let mut body = Reader::new(body);
        let mask = AccessMask::from_bits_retain(body.u32("Ace.Mask")?).map_generic();
        let sid = Sid::read(&mut body)?;
        if let Some(mode) = sid.mode() {
            exact = Some(mode);
        }
        let whose: &[usize] = if sid == Sid::of_user(metadata.uid) || sid.is_creator(0) {
            &[0]
        } else if sid == Sid::of_group(metadata.gid) || sid.is_creator(1) {
            &[1]
        } else if sid.is_anybody() {
            // Owner and group are somebody, too.
            &[0, 1, 2]
        } else {
            &[]
        };
        for class in whose {
            if kind == ACCESS_ALLOWED {
                allowed[*class] |= bits(mask) & !denied[*class];
            } else {
                denied[*class] |= bits(mask);
            }
        }
    }
    let [owner, group, everyone] = allowed;
    let special = metadata.mode & 0o7000;
    let bits = exact.unwrap_or(owner << 6 | group << 3 | everyone);
    Ok(Some(special | bits))
}

fn bits(mask: AccessMask) -> u32 {
    let mut bits = 0;
    for (right, bit) in [
        (AccessMask::READ_DATA, 4),
        (AccessMask::WRITE_DATA, 2),
        (AccessMask::EXECUTE, 1),
    ] {
        if mask.contains(right) {
            bits |= bit;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const ALL: SecurityInformation = SecurityInformation::OWNER
        .union(SecurityInformation::GROUP)
        .union(SecurityInformation::DACL);

    fn metadata(mode: u32) -> Metadata {
        let file = tempfile::tempfile().unwrap();
        Metadata {
            mode,
            uid: 1000,
            gid: 100,
            ..Metadata::of(file.as_fd()).unwrap()
        }
    }

    #[test]
    fn permission_bits_survive_both_ways() {
        for mode in [0o644, 0o750, 0o400, 0o777, 0o000, 0o4711] {
            let metadata = metadata(mode);
            let bytes = encode(&metadata, ALL);
            assert_eq!(decode(&bytes, ALL, &metadata), Ok(Some(mode)), "{mode:o}");
        }
    }

    #[test]
    fn only_the_parts_asked_for_are_there() {
        let bytes = encode(&metadata(0o644), SecurityInformation::OWNER);
        assert_eq!(bytes.len(), HEADER + 16);
        assert_eq!(&bytes[2..4], &SELF_RELATIVE.to_le_bytes());
        assert_eq!(
            &bytes[20..36],
            b"\x01\x02\0\0\0\0\0\x16\x01\0\0\0\xe8\x03\0\0"
        );
    }

    #[test]
    fn a_list_for_the_creator_is_one_for_the_owner() {
        let metadata = metadata(0o644);
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.u8(1).u8(0).u16(SELF_RELATIVE | DACL_PRESENT);
        writer.zeros(12).u32(20);
        let read = AccessMask::FILE_GENERIC_READ | AccessMask::WRITE_DAC;
        write_dacl(&mut writer, &[(Sid::new(AUTHORITY_CREATOR, &[0]), read)]);
        assert_eq!(
            decode(&bytes, SecurityInformation::DACL, &metadata),
            Ok(Some(0o400))
        );
    }

    #[test]
    fn a_mode_handed_over_changes_no_set_user_id_bit() {
        let handed_over = |mode: u32, metadata: &Metadata| {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes);
            writer.u8(1).u8(0).u16(SELF_RELATIVE | DACL_PRESENT);
            writer.zeros(12).u32(20);
            let entry = (Sid::new(AUTHORITY_NT, &[88, 3, mode]), AccessMask::empty());
            write_dacl(&mut writer, &[entry]);
            decode(&bytes, SecurityInformation::DACL, metadata)
        };
        assert_eq!(handed_over(0o640, &metadata(0o755)), Ok(Some(0o640)));
        assert_eq!(handed_over(0o6755, &metadata(0o644)), Ok(Some(0o755)));
        assert_eq!(handed_over(0o700, &metadata(0o1777)), Ok(Some(0o1700)));
    }

    #[test]
    fn a_file_is_not_given_away() {
        let (mine, other) = (
            metadata(0o644),
            Metadata {
                uid: 1001,
                ..metadata(0o644)
            },
        );
        let bytes = encode(&mine, ALL);
        assert_eq!(decode(&bytes, ALL, &other), Err(NtStatus::INVALID_OWNER));
    }

    #[test]
    fn a_truncated_descriptor_is_refused_wherever_it_is_cut() {
        let metadata = metadata(0o644);
        let bytes = encode(&metadata, ALL);
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes[..length], ALL, &metadata).is_err(),
                "{length}"
            );
        }
    }
}
