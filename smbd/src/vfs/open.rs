//! Opening and creating (MS-FSA 2.1.5.1), without what other opens of the file allow: share modes
//! are the broker's, asked between [`open`] and [`Opened::truncate`].
//!
//! Runs on a pool thread as the session's user. A new file is made with O_EXCL, an existing one
//! found first by an O_PATH descriptor, judged, and opened again by that descriptor's magic link:
//! what was judged is what is opened, whatever became of its name.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use proto::smb2::access::CreateAction;
use proto::smb2::{
    AccessMask, CreateDisposition, CreateOptions, FileAttributes, FileTime, NtStatus,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::access::{self, CHANGES};
use super::errno::status_of;
use super::file::File;
use super::metadata::{Metadata, SETTABLE, StoredAttributes, proc_path};
use super::name::SharePath;
use super::share::{Found, Location, Share};

/// What a CREATE asks for.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    pub path: SharePath,
    /// Generic rights replaced by what they stand for; MAXIMUM_ALLOWED may be among them.
    pub desired: AccessMask,
    pub disposition: CreateDisposition,
    pub options: CreateOptions,
    /// For a file that is made, overwritten or superseded.
    pub attributes: FileAttributes,
    /// SMB2_CREATE_ALLOCATION_SIZE, or 0.
    pub allocation_size: u64,
    /// What the tree connect allows at most.
    pub ceiling: AccessMask,
    /// The client wants to know what it might have had (SMB2_CREATE_QUERY_MAXIMAL_ACCESS).
    pub wants_maximal: bool,
}

/// A file that is open, and still as it was.
#[derive(Debug)]
pub struct Opened {
    pub file: File,
    pub granted: AccessMask,
    /// Complete only if the request wanted it.
    pub maximal: AccessMask,
    pub action: CreateAction,
    /// What it is, before [`Opened::truncate`].
    pub metadata: Metadata,
    attributes: FileAttributes,
    allocation_size: u64,
}

/// Opens or makes a file or directory.
pub fn open(share: &Arc<Share>, request: &OpenRequest) -> Result<Opened, NtStatus> {
    for _ in 0..RACES {
        match share.find(&request.path)? {
            Found::Existing(found, path) => return open_existing(share, request, found, path),
            Found::Missing(location) => match create(share, request, location) {
                // Somebody made it meanwhile, or a link of that name leads nowhere.
                Err(NtStatus::OBJECT_NAME_COLLISION)
                    if request.disposition != CreateDisposition::Create => {}
                outcome => return outcome,
            },
        }
    }
    Err(NtStatus::OBJECT_NAME_NOT_FOUND)
}

impl Opened {
    /// Whether [`Opened::truncate`] changes nothing.
    pub fn is_unchanged(&self) -> bool {
        self.action == CreateAction::Opened
    }

    /// Ends the opening: what FILE_OVERWRITE and FILE_SUPERSEDE change, once the share mode is
    /// granted. Returns what the file is then.
    pub fn truncate(&self) -> Result<Metadata, NtStatus> {
        if matches!(
            self.action,
            CreateAction::Overwritten | CreateAction::Superseded
        ) {
            self.file.set_end_of_file(0)?;
            store_new_attributes(&self.file, self.attributes)?;
        }
        let reserves = self.allocation_size > 0 && !self.file.is_directory();
        if self.action != CreateAction::Opened && reserves {
            self.file.set_allocation(self.allocation_size)?;
        }
        self.file.metadata()
    }
}

const RACES: usize = 4;

fn open_existing(
    share: &Arc<Share>,
    request: &OpenRequest,
    found: OwnedFd,
    path: SharePath,
) -> Result<Opened, NtStatus> {
    let metadata = Metadata::of(found.as_fd())?;
    let is_directory = metadata.is_directory();
    if request.disposition == CreateDisposition::Create {
        return Err(NtStatus::OBJECT_NAME_COLLISION);
    }
    if request.options.contains(CreateOptions::DIRECTORY_FILE) && !is_directory {
        return Err(NtStatus::NOT_A_DIRECTORY);
    }
    if request.options.contains(CreateOptions::NON_DIRECTORY_FILE) && is_directory {
        return Err(NtStatus::FILE_IS_A_DIRECTORY);
    }
    if !is_directory && metadata.kind != FileType::RegularFile {
        // A device, socket or pipe of this machine is no file of a share.
        return Err(NtStatus::ACCESS_DENIED);
    }
    let action = match request.disposition {
        CreateDisposition::Overwrite | CreateDisposition::OverwriteIf => CreateAction::Overwritten,
        CreateDisposition::Supersede => CreateAction::Superseded,
        _ => CreateAction::Opened,
    };
    let overwrites = action != CreateAction::Opened;
    if overwrites && is_directory {
        return Err(NtStatus::FILE_IS_A_DIRECTORY);
    }
    if overwrites && !keeps_attributes(&metadata, request.attributes) {
        return Err(NtStatus::ACCESS_DENIED);
    }

    let mut needed = request.desired - AccessMask::MAXIMUM_ALLOWED;
    if overwrites {
        needed |= AccessMask::WRITE_DATA;
    }
    let asks_for_all = request.desired.contains(AccessMask::MAXIMUM_ALLOWED);
    let with_delete = request.wants_maximal || asks_for_all || needed.contains(AccessMask::DELETE);
    let maximal =
        access::maximal(share, &path, found.as_fd(), &metadata, with_delete) & request.ceiling;
    if !maximal.contains(needed) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    let mut granted = request.desired - AccessMask::MAXIMUM_ALLOWED;
    if asks_for_all {
        granted |= maximal;
    }
    check_delete_on_close(request, granted)?;

    let flags = data_flags(granted | (needed & AccessMask::WRITE_DATA), is_directory);
    let descriptor = match flags {
        Some(flags) => openat(
            CWD,
            proc_path(found.as_fd()),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(status_of)?,
        None => found,
    };
    let hide_dot_files = share.options().hide_dot_files;
    let shown = Metadata {
        attributes: metadata.attributes_of(path.name(), hide_dot_files),
        ..metadata
    };
    let opened = Opened {
        file: File::new(Arc::clone(share), descriptor, &metadata, path),
        granted,
        maximal,
        action,
        metadata: shown,
        attributes: request.attributes,
        allocation_size: request.allocation_size,
    };
    if request.options.contains(CreateOptions::DELETE_ON_CLOSE) {
        opened.file.check_deletable(false)?;
    }
    Ok(opened)
}

fn create(
    share: &Arc<Share>,
    request: &OpenRequest,
    location: Location,
) -> Result<Opened, NtStatus> {
    if matches!(
        request.disposition,
        CreateDisposition::Open | CreateDisposition::Overwrite
    ) {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    }
    let needed = request.desired - AccessMask::MAXIMUM_ALLOWED;
    // Making a file is a change, whatever is asked of it then (MS-SMB2 3.3.5.9).
    if !request.ceiling.contains(needed) || !request.ceiling.intersects(CHANGES) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    let read_only = request.attributes.contains(FileAttributes::READONLY);
    if read_only && request.options.contains(CreateOptions::DELETE_ON_CLOSE) {
        return Err(NtStatus::CANNOT_DELETE);
    }
    // Who makes a file may do everything with it through this open.
    let maximal = AccessMask::FILE_ALL_ACCESS & request.ceiling;
    let granted = if request.desired.contains(AccessMask::MAXIMUM_ALLOWED) {
        needed | maximal
    } else {
        needed
    };
    check_delete_on_close(request, granted)?;
    let is_directory = request.options.contains(CreateOptions::DIRECTORY_FILE);
    let descriptor = if is_directory {
        create_directory(share, &location, granted)?
    } else {
        create_file(share, &location)?
    };
    let metadata = Metadata::of(descriptor.as_fd())?;
    let opened = Opened {
        file: File::new(Arc::clone(share), descriptor, &metadata, location.path),
        granted,
        maximal,
        action: CreateAction::Created,
        metadata,
        attributes: request.attributes,
        allocation_size: request.allocation_size,
    };
    store_new_attributes(&opened.file, request.attributes)?;
    Ok(opened)
}

/// MS-SMB2 3.3.5.9: FILE_DELETE_ON_CLOSE takes the right to delete. What was asked for is not what
/// was granted: of MAXIMUM_ALLOWED a read-only share or directory leaves no DELETE.
fn check_delete_on_close(request: &OpenRequest, granted: AccessMask) -> Result<(), NtStatus> {
    let deletes = request.options.contains(CreateOptions::DELETE_ON_CLOSE);
    match deletes && !granted.contains(AccessMask::DELETE) {
        true => Err(NtStatus::ACCESS_DENIED),
        false => Ok(()),
    }
}

fn create_file(share: &Share, location: &Location) -> Result<OwnedFd, NtStatus> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(0o666 & share.options().create_mask);
    openat(&location.parent, &location.name, flags, mode).map_err(create_status)
}

fn create_directory(
    share: &Share,
    location: &Location,
    granted: AccessMask,
) -> Result<OwnedFd, NtStatus> {
    let mode = Mode::from_bits_truncate(0o777 & share.options().directory_mask);
    mkdirat(&location.parent, &location.name, mode).map_err(create_status)?;
    let flags = data_flags(granted, true).unwrap_or(OFlags::PATH);
    openat(
        &location.parent,
        &location.name,
        flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(status_of)
}

/// How a file is opened for these rights; `None`: as O_PATH, for its metadata only.
fn data_flags(granted: AccessMask, is_directory: bool) -> Option<OFlags> {
    let reads = granted.intersects(AccessMask::READ_DATA | AccessMask::EXECUTE);
    let writes = granted.intersects(AccessMask::WRITE_DATA | AccessMask::APPEND_DATA);
    match (is_directory, reads, writes) {
        (true, ..) => granted
            .contains(AccessMask::READ_DATA)
            .then_some(OFlags::RDONLY | OFlags::DIRECTORY),
        (false, true, true) => Some(OFlags::RDWR),
        (false, true, false) => Some(OFlags::RDONLY),
        (false, false, true) => Some(OFlags::WRONLY),
        (false, false, false) => None,
    }
}

/// MS-FSA 2.1.5.1.2: HIDDEN and SYSTEM of a file must be asked for to overwrite it; READONLY
/// forbids it.
fn keeps_attributes(metadata: &Metadata, wanted: FileAttributes) -> bool {
    let sticky = FileAttributes::HIDDEN | FileAttributes::SYSTEM;
    wanted.contains(metadata.attributes & sticky)
        && !metadata.attributes.contains(FileAttributes::READONLY)
}

/// A new file has what was asked for and ARCHIVE (MS-FSA 2.1.5.1.1).
fn store_new_attributes(file: &File, wanted: FileAttributes) -> Result<(), NtStatus> {
    let mut attributes = wanted & SETTABLE;
    attributes.set(FileAttributes::ARCHIVE, !file.is_directory());
    let now = StoredAttributes {
        attributes,
        creation_time: FileTime::UNCHANGED,
    };
    if now.is_default(file.is_directory()) && StoredAttributes::of(file.as_fd()).is_none() {
        return Ok(());
    }
    now.store(file.as_fd())
}

/// ENOTDIR and ENOENT are about the directory here.
fn create_status(errno: Errno) -> NtStatus {
    match errno {
        Errno::NOENT | Errno::NOTDIR => NtStatus::OBJECT_PATH_NOT_FOUND,
        // O_NOFOLLOW met a symbolic link.
        Errno::LOOP => NtStatus::OBJECT_NAME_COLLISION,
        other => status_of(other),
    }
}
