//! NetrShareEnum and NetrShareGetInfo (MS-SRVS 3.1.4.8, 3.1.4.10), and the levels of information
//! about a share they carry (2.2.4.22 to 2.2.4.38).

use crate::rpc::Win32Error;
use crate::rpc::ndr::{NdrReader, NdrWriter};
use crate::wire::{WireError, length_u32};

/// A level of information about a share that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareLevel {
    /// Name.
    Info0,
    /// Name, type, remark.
    Info1,
    /// As 1, with the limit of uses.
    Info2,
    /// As 1, with flags.
    Info501,
    /// As 2, with a security descriptor.
    Info502,
    /// Flags.
    Info1005,
}

/// What clients are told of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareInfo<'a> {
    pub name: &'a str,
    pub share_type: ShareType,
    pub remark: &'a str,
}

/// STYPE values (MS-SRVS 2.2.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareType(pub u32);

impl ShareType {
    pub const DISK: Self = Self(0);
    pub const IPC: Self = Self(3);
    const SPECIAL: u32 = 0x8000_0000;

    /// The same type for an administrative share, whose name ends in `$`.
    pub const fn special(self) -> Self {
        Self(self.0 | Self::SPECIAL)
    }
}

/// SHI_USES_UNLIMITED.
const UNLIMITED: u32 = u32::MAX;
/// PreferedMaximumLength: whatever it takes (MS-SRVS 2.2.2.2).
pub const MAX_PREFERRED_LENGTH: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareEnumRequest {
    pub server_name: Option<String>,
    pub level: u32,
    /// As the specification spells it, PreferedMaximumLength.
    pub preferred_maximum_length: u32,
    pub resume_handle: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareEnumResponse<'a> {
    pub level: ShareLevel,
    pub entries: &'a [ShareInfo<'a>],
    pub total_entries: u32,
    pub resume_handle: Option<u32>,
    pub error: Win32Error,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGetInfoRequest {
    pub server_name: Option<String>,
    pub net_name: String,
    pub level: u32,
}

impl ShareLevel {
    pub const fn of(level: u32) -> Option<Self> {
        Some(match level {
            0 => Self::Info0,
            1 => Self::Info1,
            2 => Self::Info2,
            501 => Self::Info501,
            502 => Self::Info502,
            1005 => Self::Info1005,
            _ => return None,
        })
    }

    pub const fn number(self) -> u32 {
        match self {
            Self::Info0 => 0,
            Self::Info1 => 1,
            Self::Info2 => 2,
            Self::Info501 => 501,
            Self::Info502 => 502,
            Self::Info1005 => 1005,
        }
    }
}

/// Whether the unions have an arm for a level, answered or not: it is a pointer then, and nothing
/// otherwise.
const fn has_arm(level: u32) -> bool {
    matches!(level, 0..=2 | 501..=503 | 1004..=1007 | 1501)
}

impl<'a> ShareInfo<'a> {
    /// About the bytes it takes in a response of that level.
    pub fn length(&self, level: ShareLevel) -> u32 {
        let (words, texts): (u32, &[&str]) = match level {
            ShareLevel::Info0 => (1, &[self.name]),
            ShareLevel::Info1 => (3, &[self.name, self.remark]),
            ShareLevel::Info2 => (8, &[self.name, self.remark]),
            ShareLevel::Info501 => (4, &[self.name, self.remark]),
            ShareLevel::Info502 => (10, &[self.name, self.remark]),
            ShareLevel::Info1005 => (1, &[]),
        };
        let characters = |text: &&str| length_u32(text.encode_utf16().count() + 1);
        words * 4 + texts.iter().map(characters).sum::<u32>() * 2
    }

    /// The fixed part. The directory and the limits are the server's own business: no path, no
    /// password, no limit, no security descriptor, as to a user who is no administrator.
    fn fixed(&self, level: ShareLevel, writer: &mut NdrWriter<'a>) {
        if level == ShareLevel::Info1005 {
            writer.u32(0);
            return;
        }
        writer.string_pointer(self.name);
        if level == ShareLevel::Info0 {
            return;
        }
        writer.u32(self.share_type.0).string_pointer(self.remark);
        match level {
            ShareLevel::Info501 => {
                // Flags: manual caching, nothing special.
                writer.u32(0);
            }
            ShareLevel::Info2 | ShareLevel::Info502 => {
                // Permissions (share-level security only), uses allowed, uses now, path, password.
                writer
                    .u32(0)
                    .u32(UNLIMITED)
                    .u32(0)
                    .string_pointer("")
                    .null();
                if level == ShareLevel::Info502 {
                    writer.u32(0).null();
                }
            }
            _ => {}
        }
    }
}

impl ShareEnumRequest {
    pub fn decode(stub: &[u8]) -> Result<Self, WireError> {
        let mut reader = NdrReader::new(stub);
        let server_name = reader.unique_string("ServerName")?;
        let level = reader.u32("Level")?;
        if reader.u32("ShareInfo")? != level {
            return Err(WireError::new("ShareInfo", 0));
        }
        if has_arm(level) && reader.pointer("Container")? {
            reader.u32("EntriesRead")?;
            // Clients send no entries. An array that is there must be empty.
            if reader.pointer("Buffer")? && reader.u32("Buffer")? != 0 {
                return Err(WireError::new("Buffer", 0));
            }
        }
        Ok(Self {
            server_name,
            level,
            preferred_maximum_length: reader.u32("PreferedMaximumLength")?,
            resume_handle: reader.unique_u32("ResumeHandle")?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer
            .unique_string(self.server_name.as_deref())
            .u32(self.level)
            .u32(self.level);
        if has_arm(self.level) {
            writer.pointer().u32(0).null();
        }
        writer
            .u32(self.preferred_maximum_length)
            .unique_u32(self.resume_handle)
            .finish()
    }

    /// An answer without entries.
    pub fn encode_failure(&self, error: Win32Error) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer.u32(self.level).u32(self.level);
        if has_arm(self.level) {
            writer.null();
        }
        writer
            .u32(0)
            .unique_u32(self.resume_handle)
            .u32(error.0)
            .finish()
    }
}

impl ShareEnumResponse<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let level = self.level.number();
        let count = length_u32(self.entries.len());
        let mut writer = NdrWriter::default();
        writer.u32(level).u32(level).pointer().u32(count);
        if self.entries.is_empty() {
            writer.null();
        } else {
            writer.pointer().u32(count);
            for entry in self.entries {
                entry.fixed(self.level, &mut writer);
            }
            writer.referents();
        }
        writer
            .u32(self.total_entries)
            .unique_u32(self.resume_handle)
            .u32(self.error.0)
            .finish()
    }
}

impl ShareGetInfoRequest {
    pub fn decode(stub: &[u8]) -> Result<Self, WireError> {
        let mut reader = NdrReader::new(stub);
        Ok(Self {
            server_name: reader.unique_string("ServerName")?,
            net_name: reader.string("NetName")?,
            level: reader.u32("Level")?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        NdrWriter::default()
            .unique_string(self.server_name.as_deref())
            .string(&self.net_name)
            .u32(self.level)
            .finish()
    }

    /// What is told of `share`.
    pub fn encode_answer(level: ShareLevel, share: &ShareInfo<'_>) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer.u32(level.number()).pointer();
        share.fixed(level, &mut writer);
        writer.referents().u32(Win32Error::SUCCESS.0).finish()
    }

    pub fn encode_failure(&self, error: Win32Error) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer.u32(self.level);
        if has_arm(self.level) {
            writer.null();
        }
        writer.u32(error.0).finish()
    }
}
