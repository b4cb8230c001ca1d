//! NetrServerGetInfo and NetrRemoteTOD (MS-SRVS 3.1.4.17, 3.1.4.21): what the server is called and
//! what time it has.

use bitflags::bitflags;

use super::PLATFORM_ID_NT;
use crate::rpc::Win32Error;
use crate::rpc::ndr::{NdrReader, NdrWriter};
use crate::smb2::FileTime;
use crate::wire::WireError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerGetInfoRequest {
    pub server_name: Option<String>,
    pub level: u32,
}

/// A level of information about the server that is answered (MS-SRVS 2.2.4.40 to 2.2.4.42).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerLevel {
    Info100,
    Info101,
    Info102,
}

/// What clients are told of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInfo<'a> {
    pub name: &'a str,
    pub version_major: u32,
    pub version_minor: u32,
    pub software: SoftwareType,
    pub comment: &'a str,
}

bitflags! {
    /// Software type flags (MS-SRVS 2.2.2.7).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SoftwareType: u32 {
        const WORKSTATION = 0x0000_0001;
        const SERVER = 0x0000_0002;
        const SERVER_UNIX = 0x0000_0800;
        const NT = 0x0000_1000;
        const SERVER_NT = 0x0000_8000;
    }
}

impl ServerLevel {
    pub const fn of(level: u32) -> Option<Self> {
        Some(match level {
            100 => Self::Info100,
            101 => Self::Info101,
            102 => Self::Info102,
            _ => return None,
        })
    }

    const fn number(self) -> u32 {
        match self {
            Self::Info100 => 100,
            Self::Info101 => 101,
            Self::Info102 => 102,
        }
    }
}

impl ServerGetInfoRequest {
    pub fn decode(stub: &[u8]) -> Result<Self, WireError> {
        let mut reader = NdrReader::new(stub);
        Ok(Self {
            server_name: reader.unique_string("ServerName")?,
            level: reader.u32("Level")?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        NdrWriter::default()
            .unique_string(self.server_name.as_deref())
            .u32(self.level)
            .finish()
    }

    /// The union has an arm for each level of the specification; it is null here.
    pub fn encode_failure(&self, error: Win32Error) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer.u32(self.level);
        if matches!(self.level, 100..=103 | 502 | 503 | 599 | 1005 | 1107 | 1010 | 1016..=1018) {
            writer.null();
        }
        writer.u32(error.0).finish()
    }
}

impl ServerInfo<'_> {
    pub fn encode(&self, level: ServerLevel) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer
            .u32(level.number())
            .pointer()
            .u32(PLATFORM_ID_NT)
            .string_pointer(self.name);
        if level != ServerLevel::Info100 {
            writer
                .u32(self.version_major)
                .u32(self.version_minor)
                .u32(self.software.bits())
                .string_pointer(self.comment);
        }
        if level == ServerLevel::Info102 {
            // Users without limit, minutes until an idle session ends, not hidden, seconds between
            // announcements and their spread, licences, the users' path: Windows' defaults.
            writer
                .u32(u32::MAX)
                .u32(15)
                .u32(0)
                .u32(240)
                .u32(3000)
                .u32(0)
                .string_pointer("C:\\");
        }
        writer.referents().u32(Win32Error::SUCCESS.0).finish()
    }
}

/// NetrRemoteTOD's only parameter.
pub fn decode_remote_tod(stub: &[u8]) -> Result<Option<String>, WireError> {
    NdrReader::new(stub).unique_string("ServerName")
}

/// TIME_OF_DAY_INFO (MS-SRVS 2.2.4.105) of a time, told in UTC.
pub fn encode_remote_tod(now: FileTime, uptime_ms: u32) -> Vec<u8> {
    let (seconds, nanoseconds) = now.to_unix();
    let day = seconds.div_euclid(86_400);
    let second_of_day = seconds.rem_euclid(86_400) as u32;
    let (year, month, day_of_month) = civil_date(day);
    NdrWriter::default()
        .pointer()
        // Seconds since 1970.
        .u32(u32::try_from(seconds).unwrap_or(u32::MAX))
        .u32(uptime_ms)
        .u32(second_of_day / 3600)
        .u32(second_of_day / 60 % 60)
        .u32(second_of_day % 60)
        .u32(nanoseconds / 10_000_000)
        // Minutes west of UTC; then the clock's tick in units of 0.1 ms.
        .u32(0)
        .u32(310)
        .u32(day_of_month)
        .u32(month)
        .u32(year)
        // 1970-01-01 was a Thursday; Sunday is 0.
        .u32((day + 4).rem_euclid(7) as u32)
        .u32(Win32Error::SUCCESS.0)
        .finish()
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar. The year begins
/// in March here, so that the leap day is its last.
fn civil_date(day: i64) -> (u32, u32, u32) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let day = day + 719_468;
    let era = day.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = day.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as u32, month as u32, day_of_month as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar_over_leap_days_and_centuries() {
        for (seconds, date) in [
            (0, (1970, 1, 1)),
            (951_782_399, (2000, 2, 28)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (1_735_689_599, (2024, 12, 31)),
            (4_107_542_400, (2100, 3, 1)),
            (-1, (1969, 12, 31)),
        ] {
            assert_eq!(
                civil_date(i64::div_euclid(seconds, 86_400)),
                date,
                "{seconds}"
            );
        }
    }
}
