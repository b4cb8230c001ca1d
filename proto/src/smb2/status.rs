//! NTSTATUS values an SMB2 server answers with or a client must know (MS-ERREF 2.3).
//! Handlers return them; the mapping from errno belongs to the handlers, never here.

use std::fmt;

/// An NTSTATUS value. Any 32 bits are allowed; known ones print their name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtStatus(pub u32);

/// The two top bits of an NTSTATUS (MS-ERREF 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Success,
    Informational,
    Warning,
    Error,
}

impl NtStatus {
    pub const fn severity(self) -> Severity {
        match self.0 >> 30 {
            0 => Severity::Success,
            1 => Severity::Informational,
            2 => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// Error severity only: a warning such as `BUFFER_OVERFLOW` still carries its ordinary body.
    pub const fn is_error(self) -> bool {
        matches!(self.severity(), Severity::Error)
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "NTSTATUS {:#010x}", self.0),
        }
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NtStatus {}

macro_rules! statuses {
    ($($name:ident = $value:literal,)*) => {
        impl NtStatus {
            $(pub const $name: Self = Self($value);)*

            /// The specification's name, `STATUS_` included.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(concat!("STATUS_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0x0000_0000,
    PENDING = 0x0000_0103,
    OPLOCK_BREAK_IN_PROGRESS = 0x0000_0108,
    NOTIFY_CLEANUP = 0x0000_010B,
    NOTIFY_ENUM_DIR = 0x0000_010C,
    BUFFER_OVERFLOW = 0x8000_0005,
    NO_MORE_FILES = 0x8000_0006,
    NO_MORE_EAS = 0x8000_0012,
    INVALID_EA_NAME = 0x8000_0013,
    EA_LIST_INCONSISTENT = 0x8000_0014,
    INVALID_EA_FLAG = 0x8000_0015,
    NO_MORE_ENTRIES = 0x8000_001A,
    STOPPED_ON_SYMLINK = 0x8000_002D,
    UNSUCCESSFUL = 0xC000_0001,
    NOT_IMPLEMENTED = 0xC000_0002,
    INVALID_INFO_CLASS = 0xC000_0003,
    INFO_LENGTH_MISMATCH = 0xC000_0004,
    INVALID_HANDLE = 0xC000_0008,
    INVALID_PARAMETER = 0xC000_000D,
    NO_SUCH_DEVICE = 0xC000_000E,
    NO_SUCH_FILE = 0xC000_000F,
    INVALID_DEVICE_REQUEST = 0xC000_0010,
    END_OF_FILE = 0xC000_0011,
    MORE_PROCESSING_REQUIRED = 0xC000_0016,
    NO_MEMORY = 0xC000_0017,
    INVALID_VIEW_SIZE = 0xC000_001F,
    ACCESS_DENIED = 0xC000_0022,
    BUFFER_TOO_SMALL = 0xC000_0023,
    OBJECT_TYPE_MISMATCH = 0xC000_0024,
    OBJECT_NAME_INVALID = 0xC000_0033,
    OBJECT_NAME_NOT_FOUND = 0xC000_0034,
    OBJECT_NAME_COLLISION = 0xC000_0035,
    OBJECT_PATH_INVALID = 0xC000_0039,
    OBJECT_PATH_NOT_FOUND = 0xC000_003A,
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B,
    DATA_ERROR = 0xC000_003E,
    CRC_ERROR = 0xC000_003F,
    SHARING_VIOLATION = 0xC000_0043,
    QUOTA_EXCEEDED = 0xC000_0044,
    EAS_NOT_SUPPORTED = 0xC000_004F,
    EA_TOO_LARGE = 0xC000_0050,
    NONEXISTENT_EA_ENTRY = 0xC000_0051,
    NO_EAS_ON_FILE = 0xC000_0052,
    EA_CORRUPT_ERROR = 0xC000_0053,
    FILE_LOCK_CONFLICT = 0xC000_0054,
    LOCK_NOT_GRANTED = 0xC000_0055,
    DELETE_PENDING = 0xC000_0056,
    INVALID_OWNER = 0xC000_005A,
    NO_SUCH_LOGON_SESSION = 0xC000_005F,
    PRIVILEGE_NOT_HELD = 0xC000_0061,
    NO_SUCH_USER = 0xC000_0064,
    WRONG_PASSWORD = 0xC000_006A,
    LOGON_FAILURE = 0xC000_006D,
    ACCOUNT_RESTRICTION = 0xC000_006E,
    INVALID_LOGON_HOURS = 0xC000_006F,
    PASSWORD_EXPIRED = 0xC000_0071,
    ACCOUNT_DISABLED = 0xC000_0072,
    NONE_MAPPED = 0xC000_0073,
    INVALID_ACL = 0xC000_0077,
    INVALID_SID = 0xC000_0078,
    INVALID_SECURITY_DESCR = 0xC000_0079,
    RANGE_NOT_LOCKED = 0xC000_007E,
    DISK_FULL = 0xC000_007F,
    FILE_INVALID = 0xC000_0098,
    INSUFFICIENT_RESOURCES = 0xC000_009A,
    MEDIA_WRITE_PROTECTED = 0xC000_00A2,
    BAD_IMPERSONATION_LEVEL = 0xC000_00A5,
    INSTANCE_NOT_AVAILABLE = 0xC000_00AB,
    PIPE_NOT_AVAILABLE = 0xC000_00AC,
    INVALID_PIPE_STATE = 0xC000_00AD,
    PIPE_BUSY = 0xC000_00AE,
    ILLEGAL_FUNCTION = 0xC000_00AF,
    PIPE_DISCONNECTED = 0xC000_00B0,
    PIPE_CLOSING = 0xC000_00B1,
    IO_TIMEOUT = 0xC000_00B5,
    FILE_FORCED_CLOSED = 0xC000_00B6,
    FILE_IS_A_DIRECTORY = 0xC000_00BA,
    NOT_SUPPORTED = 0xC000_00BB,
    INVALID_NETWORK_RESPONSE = 0xC000_00C3,
    NETWORK_NAME_DELETED = 0xC000_00C9,
    NETWORK_ACCESS_DENIED = 0xC000_00CA,
    BAD_DEVICE_TYPE = 0xC000_00CB,
    BAD_NETWORK_NAME = 0xC000_00CC,
    TOO_MANY_SESSIONS = 0xC000_00CE,
    SHARING_PAUSED = 0xC000_00CF,
    REQUEST_NOT_ACCEPTED = 0xC000_00D0,
    REQUEST_OUT_OF_SEQUENCE = 0xC000_042A,
    NOT_SAME_DEVICE = 0xC000_00D4,
    FILE_RENAMED = 0xC000_00D5,
    PIPE_EMPTY = 0xC000_00D9,
    OPLOCK_NOT_GRANTED = 0xC000_00E2,
    INVALID_OPLOCK_PROTOCOL = 0xC000_00E3,
    INTERNAL_ERROR = 0xC000_00E5,
    INVALID_USER_BUFFER = 0xC000_00E8,
    UNEXPECTED_IO_ERROR = 0xC000_00E9,
    DIRECTORY_NOT_EMPTY = 0xC000_0101,
    NOT_A_DIRECTORY = 0xC000_0103,
    NAME_TOO_LONG = 0xC000_0106,
    FILES_OPEN = 0xC000_0107,
    TOO_MANY_OPENED_FILES = 0xC000_011F,
    CANCELLED = 0xC000_0120,
    CANNOT_DELETE = 0xC000_0121,
    FILE_DELETED = 0xC000_0123,
    FILE_CLOSED = 0xC000_0128,
    TIME_DIFFERENCE_AT_DC = 0xC000_0133,
    INVALID_LEVEL = 0xC000_0148,
    PIPE_BROKEN = 0xC000_014B,
    LOGON_TYPE_NOT_GRANTED = 0xC000_015B,
    INVALID_DEVICE_STATE = 0xC000_0184,
    IO_DEVICE_ERROR = 0xC000_0185,
    ACCOUNT_EXPIRED = 0xC000_0193,
    FS_DRIVER_REQUIRED = 0xC000_019C,
    INVALID_LOCK_RANGE = 0xC000_01A1,
    USER_SESSION_DELETED = 0xC000_0203,
    INSUFF_SERVER_RESOURCES = 0xC000_0205,
    INVALID_BUFFER_SIZE = 0xC000_0206,
    CONNECTION_DISCONNECTED = 0xC000_020C,
    CONNECTION_RESET = 0xC000_020D,
    PASSWORD_MUST_CHANGE = 0xC000_0224,
    NOT_FOUND = 0xC000_0225,
    RETRY = 0xC000_022D,
    ACCOUNT_LOCKED_OUT = 0xC000_0234,
    CONNECTION_REFUSED = 0xC000_0236,
    REQUEST_ABORTED = 0xC000_0240,
    USER_MAPPED_FILE = 0xC000_0243,
    PATH_NOT_COVERED = 0xC000_0257,
    TOO_MANY_LINKS = 0xC000_0265,
    VOLUME_DISMOUNTED = 0xC000_026E,
    NOT_A_REPARSE_POINT = 0xC000_0275,
    IO_REPARSE_TAG_INVALID = 0xC000_0276,
    IO_REPARSE_TAG_MISMATCH = 0xC000_0277,
    IO_REPARSE_DATA_INVALID = 0xC000_0278,
    IO_REPARSE_TAG_NOT_HANDLED = 0xC000_0279,
    REPARSE_POINT_NOT_RESOLVED = 0xC000_0280,
    DIRECTORY_IS_A_REPARSE_POINT = 0xC000_0281,
    NETWORK_SESSION_EXPIRED = 0xC000_035C,
    DOWNGRADE_DETECTED = 0xC000_0388,
    NTLM_BLOCKED = 0xC000_0418,
    SERVER_UNAVAILABLE = 0xC000_0466,
    FILE_NOT_AVAILABLE = 0xC000_0467,
    CANNOT_BREAK_OPLOCK = 0xC000_0909,
    INVALID_SIGNATURE = 0xC000_A000,
    AUTH_TAG_MISMATCH = 0xC000_A002,
    HASH_NOT_SUPPORTED = 0xC000_A100,
    HASH_NOT_PRESENT = 0xC000_A101,
    SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP = 0xC05D_0000,
    SMB_BAD_CLUSTER_DIALECT = 0xC05D_0001,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_print_their_name_and_others_their_bits() {
        assert_eq!(NtStatus(0xC000_0022).to_string(), "STATUS_ACCESS_DENIED");
        assert_eq!(NtStatus(0xC123_4567).to_string(), "NTSTATUS 0xc1234567");
        assert_eq!(NtStatus(0xC123_4567).name(), None);
    }

    #[test]
    fn severity_is_the_two_top_bits() {
        assert_eq!(NtStatus::PENDING.severity(), Severity::Success);
        assert_eq!(NtStatus(0x4000_0000).severity(), Severity::Informational);
        assert_eq!(NtStatus::BUFFER_OVERFLOW.severity(), Severity::Warning);
        assert!(!NtStatus::BUFFER_OVERFLOW.is_error());
        assert!(NtStatus::LOGON_FAILURE.is_error());
    }
}
