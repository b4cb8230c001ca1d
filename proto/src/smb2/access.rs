//! Access rights, sharing, dispositions, options and file attributes: the words of CREATE and of
//! the information classes. Unknown bits are kept; which are allowed is the handlers' decision.

use bitflags::bitflags;

bitflags! {
    /// MS-SMB2 2.2.13.1: names follow the file form; a directory reads 0x1, 0x2, 0x4, 0x20, 0x40
    /// as list, add file, add subdirectory, traverse and delete child.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct AccessMask: u32 {
        const READ_DATA = 0x0000_0001;
        const WRITE_DATA = 0x0000_0002;
        const APPEND_DATA = 0x0000_0004;
        const READ_EA = 0x0000_0008;
        const WRITE_EA = 0x0000_0010;
        const EXECUTE = 0x0000_0020;
        const DELETE_CHILD = 0x0000_0040;
        const READ_ATTRIBUTES = 0x0000_0080;
        const WRITE_ATTRIBUTES = 0x0000_0100;
        const DELETE = 0x0001_0000;
        const READ_CONTROL = 0x0002_0000;
        const WRITE_DAC = 0x0004_0000;
        const WRITE_OWNER = 0x0008_0000;
        const SYNCHRONIZE = 0x0010_0000;
        const ACCESS_SYSTEM_SECURITY = 0x0100_0000;
        const MAXIMUM_ALLOWED = 0x0200_0000;
        const GENERIC_ALL = 0x1000_0000;
        const GENERIC_EXECUTE = 0x2000_0000;
        const GENERIC_WRITE = 0x4000_0000;
        const GENERIC_READ = 0x8000_0000;

        /// What GENERIC_READ stands for on a file (MS-SMB2 2.2.13.1.1, MS-DTYP 2.4.3).
        const FILE_GENERIC_READ = 0x0012_0089;
        /// What GENERIC_WRITE stands for on a file.
        const FILE_GENERIC_WRITE = 0x0012_0116;
        /// What GENERIC_EXECUTE stands for on a file.
        const FILE_GENERIC_EXECUTE = 0x0012_00A0;
        /// What GENERIC_ALL stands for on a file.
        const FILE_ALL_ACCESS = 0x001F_01FF;
    }
}

impl AccessMask {
    /// Opens without any of these conflict with no other, whatever it shares (MS-FSA 2.1.5.1.2.2).
    pub const CONCERNS_SHARING: AccessMask = AccessMask::READ_DATA
        .union(AccessMask::EXECUTE)
        .union(AccessMask::WRITE_DATA)
        .union(AccessMask::APPEND_DATA)
        .union(AccessMask::DELETE);

    /// Replaces the four generic rights by the specific ones they stand for on files.
    pub fn map_generic(self) -> Self {
        let mut mapped = self;
        for (generic, specific) in [
            (Self::GENERIC_READ, Self::FILE_GENERIC_READ),
            (Self::GENERIC_WRITE, Self::FILE_GENERIC_WRITE),
            (Self::GENERIC_EXECUTE, Self::FILE_GENERIC_EXECUTE),
            (Self::GENERIC_ALL, Self::FILE_ALL_ACCESS),
        ] {
            if self.contains(generic) {
                mapped.remove(generic);
                mapped.insert(specific);
            }
        }
        mapped
    }
}

bitflags! {
    /// MS-SMB2 2.2.13, ShareAccess.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct ShareAccess: u32 {
        const READ = 0x1;
        const WRITE = 0x2;
        const DELETE = 0x4;
    }

    /// MS-SMB2 2.2.13, CreateOptions.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct CreateOptions: u32 {
        const DIRECTORY_FILE = 0x0000_0001;
        const WRITE_THROUGH = 0x0000_0002;
        const SEQUENTIAL_ONLY = 0x0000_0004;
        const NO_INTERMEDIATE_BUFFERING = 0x0000_0008;
        const SYNCHRONOUS_IO_ALERT = 0x0000_0010;
        const SYNCHRONOUS_IO_NONALERT = 0x0000_0020;
        const NON_DIRECTORY_FILE = 0x0000_0040;
        const COMPLETE_IF_OPLOCKED = 0x0000_0100;
        const NO_EA_KNOWLEDGE = 0x0000_0200;
        const OPEN_REMOTE_INSTANCE = 0x0000_0400;
        const RANDOM_ACCESS = 0x0000_0800;
        const DELETE_ON_CLOSE = 0x0000_1000;
        const OPEN_BY_FILE_ID = 0x0000_2000;
        const OPEN_FOR_BACKUP_INTENT = 0x0000_4000;
        const NO_COMPRESSION = 0x0000_8000;
        const OPEN_REQUIRING_OPLOCK = 0x0001_0000;
        const DISALLOW_EXCLUSIVE = 0x0002_0000;
        const RESERVE_OPFILTER = 0x0010_0000;
        const OPEN_REPARSE_POINT = 0x0020_0000;
        const OPEN_NO_RECALL = 0x0040_0000;
        const OPEN_FOR_FREE_SPACE_QUERY = 0x0080_0000;
    }

    /// MS-FSCC 2.6.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct FileAttributes: u32 {
        const READONLY = 0x0000_0001;
        const HIDDEN = 0x0000_0002;
        const SYSTEM = 0x0000_0004;
        const DIRECTORY = 0x0000_0010;
        const ARCHIVE = 0x0000_0020;
        const NORMAL = 0x0000_0080;
        const TEMPORARY = 0x0000_0100;
        const SPARSE_FILE = 0x0000_0200;
        const REPARSE_POINT = 0x0000_0400;
        const COMPRESSED = 0x0000_0800;
        const OFFLINE = 0x0000_1000;
        const NOT_CONTENT_INDEXED = 0x0000_2000;
        const ENCRYPTED = 0x0000_4000;
        const INTEGRITY_STREAM = 0x0000_8000;
        const NO_SCRUB_DATA = 0x0002_0000;
        const RECALL_ON_OPEN = 0x0004_0000;
        const PINNED = 0x0008_0000;
        const UNPINNED = 0x0010_0000;
        const RECALL_ON_DATA_ACCESS = 0x0040_0000;
    }
}

wire_enum! {
    /// MS-SMB2 2.2.13, CreateDisposition.
    pub enum CreateDisposition: u32 {
        Supersede = 0,
        Open = 1,
        Create = 2,
        OpenIf = 3,
        Overwrite = 4,
        OverwriteIf = 5,
    }
}

wire_enum! {
    /// MS-SMB2 2.2.14, CreateAction.
    pub enum CreateAction: u32 {
        Superseded = 0,
        Opened = 1,
        Created = 2,
        Overwritten = 3,
    }
}

wire_enum! {
    /// MS-SMB2 2.2.13, ImpersonationLevel.
    pub enum ImpersonationLevel: u32 {
        Anonymous = 0,
        Identification = 1,
        Impersonation = 2,
        Delegate = 3,
    }
}

wire_enum! {
    /// MS-SMB2 2.2.13, RequestedOplockLevel, and what CREATE and the breaks answer.
    pub enum OplockLevel: u8 {
        None = 0x00,
        LevelTwo = 0x01,
        Exclusive = 0x08,
        Batch = 0x09,
        Lease = 0xFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_rights_become_the_specific_ones_of_a_file() {
        let mapped = (AccessMask::GENERIC_READ | AccessMask::DELETE).map_generic();
        assert_eq!(mapped.bits(), 0x0013_0089);
        let mapped = AccessMask::GENERIC_ALL.map_generic();
        assert_eq!(mapped.bits(), 0x001F_01FF);
        let untouched = AccessMask::MAXIMUM_ALLOWED | AccessMask::READ_DATA;
        assert_eq!(untouched.map_generic(), untouched);
    }

    #[test]
    fn an_unknown_enumeration_value_is_handed_back() {
        assert_eq!(
            CreateDisposition::try_from(5),
            Ok(CreateDisposition::OverwriteIf)
        );
        assert_eq!(CreateDisposition::try_from(6), Err(6));
        assert_eq!(OplockLevel::try_from(0xFF), Ok(OplockLevel::Lease));
        assert_eq!(u8::from(OplockLevel::Batch), 9);
    }
}
