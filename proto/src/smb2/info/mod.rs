//! Information classes (MS-FSCC 2.4, 2.5) that QUERY_INFO, SET_INFO and QUERY_DIRECTORY carry.
//! Structures both ways; which class a server supports and what it needs is the handlers'.

pub mod directory;
pub mod ea;
pub mod file;
pub mod file_system;
pub mod list;

#[cfg(test)]
mod tests;

wire_enum! {
    /// MS-SMB2 2.2.37, InfoType.
    pub enum InfoType: u8 {
        File = 1,
        FileSystem = 2,
        Security = 3,
        Quota = 4,
    }
}

wire_enum! {
    /// MS-FSCC 2.4, file information classes.
    pub enum FileInfoClass: u8 {
        Directory = 1,
        FullDirectory = 2,
        BothDirectory = 3,
        Basic = 4,
        Standard = 5,
        Internal = 6,
        Ea = 7,
        Access = 8,
        Name = 9,
        Rename = 10,
        Link = 11,
        Names = 12,
        Disposition = 13,
        Position = 14,
        FullEa = 15,
        Mode = 16,
        Alignment = 17,
        All = 18,
        Allocation = 19,
        EndOfFile = 20,
        AlternateName = 21,
        Stream = 22,
        Pipe = 23,
        PipeLocal = 24,
        PipeRemote = 25,
        Compression = 28,
        ObjectId = 29,
        Quota = 32,
        ReparsePoint = 33,
        NetworkOpen = 34,
        AttributeTag = 35,
        IdBothDirectory = 37,
        IdFullDirectory = 38,
        ValidDataLength = 39,
        ShortName = 40,
        HardLink = 46,
        NormalizedName = 48,
        StandardLink = 54,
        Id = 59,
        IdExtdDirectory = 60,
        IdExtdBothDirectory = 63,
        DispositionEx = 64,
        RenameEx = 65,
        Posix = 100,
    }
}

wire_enum! {
    /// MS-FSCC 2.5, file system information classes.
    pub enum FsInfoClass: u8 {
        Volume = 1,
        Label = 2,
        Size = 3,
        Device = 4,
        Attribute = 5,
        Control = 6,
        FullSize = 7,
        ObjectId = 8,
        DriverPath = 9,
        VolumeFlags = 10,
        SectorSize = 11,
        Posix = 100,
    }
}
