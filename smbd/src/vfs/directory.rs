//! Reading directories (MS-FSA 2.1.5.6.3): one scan per open, in portions of what a response
//! holds. Names come from getdents a buffer at a time, never a whole directory; `.` and `..`
//! first. What a client could not open is not listed: names it cannot write, links that lead
//! out of the share or nowhere, devices.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use proto::smb2::info::directory::{
    DirectoryAttributes, DirectoryClass, DirectoryEntry, DirectoryWriter, Pushed,
};
use proto::smb2::{FileAttributes, NtStatus, utf16};
use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, seek};

use super::errno::status_of;
use super::file::File;
use super::metadata::Metadata;
use super::name;
use super::pattern::Pattern;
use super::share::{ENTRIES_SIZE, Found};

/// Where an open's enumeration is (Open.EnumerationLocation, Open.EnumerationSearchPattern).
#[derive(Debug)]
pub struct Scan {
    directory: OwnedFd,
    pattern: Pattern,
    /// Names read from the kernel and not answered yet.
    pending: VecDeque<String>,
    at_end: bool,
    /// Something matched: the end is NO_MORE_FILES then, else NO_SUCH_FILE.
    found_any: bool,
}

impl Scan {
    /// Starts an enumeration. Blocks; as the user.
    pub fn start(file: &File, pattern: Pattern) -> Result<Scan, NtStatus> {
        let mut scan = Scan {
            directory: file.reopen_directory()?,
            pattern,
            pending: VecDeque::new(),
            at_end: false,
            found_any: false,
        };
        scan.restart()?;
        Ok(scan)
    }

    /// Begins again, with the same pattern.
    pub fn restart(&mut self) -> Result<(), NtStatus> {
        seek(&self.directory, SeekFrom::Start(0)).map_err(status_of)?;
        self.pending = [".", ".."].map(String::from).into();
        self.at_end = false;
        self.found_any = false;
        Ok(())
    }

    /// The next entries, as many as fit in `limit` bytes; one if `single`. Blocks; as the user.
    pub fn read(
        &mut self,
        file: &File,
        class: DirectoryClass,
        limit: usize,
        single: bool,
    ) -> Result<Vec<u8>, NtStatus> {
        if limit < class.fixed_size() {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let mut output = Vec::with_capacity(limit.min(ENTRIES_SIZE));
        let mut writer = DirectoryWriter::new(class, &mut output, limit);
        while let Some(name) = self.next_name(file)? {
            let Some(metadata) = self.metadata(file, &name) else {
                continue;
            };
            let attributes = metadata.attributes_of(&name, file.share().options().hide_dot_files);
            let wire_name = utf16::encode(&name);
            match writer.push(&entry(&metadata, attributes, &wire_name)) {
                Pushed::Written => self.found_any = true,
                Pushed::Full => {
                    self.pending.push_front(name);
                    break;
                }
                Pushed::NeverFits => {
                    self.pending.push_front(name);
                    return Err(NtStatus::BUFFER_OVERFLOW);
                }
            }
            if single {
                break;
            }
        }
        match (writer.is_empty(), self.found_any) {
            (false, _) => Ok(output),
            (true, true) => Err(NtStatus::NO_MORE_FILES),
            (true, false) => Err(NtStatus::NO_SUCH_FILE),
        }
    }

    /// The next name that matches.
    fn next_name(&mut self, file: &File) -> Result<Option<String>, NtStatus> {
        if self.pattern.is_literal() && !self.at_end {
            self.look_up_literal(file)?;
        }
        loop {
            while let Some(name) = self.pending.pop_front() {
                if self.pattern.matches(&name) {
                    return Ok(Some(name));
                }
            }
            if self.at_end {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// A pattern without wildcards is one file: looked up, not searched for.
    fn look_up_literal(&mut self, file: &File) -> Result<(), NtStatus> {
        self.at_end = true;
        let Some(text) = self.pattern.literal().map(str::to_owned) else {
            return Ok(());
        };
        if text == "." || text == ".." {
            return Ok(());
        }
        self.pending.clear();
        if name::is_valid(&text)
            && let Ok(Found::Existing(_, path)) = file.share().find(&file.path().join(&text))
        {
            self.pending.push_back(path.name().to_owned());
        }
        Ok(())
    }

    /// Reads one buffer of entries.
    fn fill(&mut self) -> Result<(), NtStatus> {
        let mut buffer = [MaybeUninit::uninit(); ENTRIES_SIZE];
        let mut entries = RawDir::new(&self.directory, &mut buffer);
        loop {
            match entries.next() {
                None => self.at_end = true,
                Some(entry) => {
                    if let Ok(name) = entry.map_err(status_of)?.file_name().to_str()
                        && name != "."
                        && name != ".."
                        && name::is_valid(name)
                    {
                        self.pending.push_back(name.to_owned());
                    }
                }
            }
            if self.at_end || entries.is_buffer_empty() {
                return Ok(());
            }
        }
    }

    /// What a name leads to; `None` if it is not to be listed, or gone meanwhile.
    fn metadata(&self, file: &File, name: &str) -> Option<Metadata> {
        if name == ".." && file.path().is_root() {
            // What is above the share is nobody's business.
            return Metadata::of(self.directory.as_fd()).ok();
        }
        let metadata = Metadata::of_entry(self.directory.as_fd(), name).ok()?;
        let metadata = if metadata.kind == FileType::Symlink {
            let target = file
                .share()
                .open_beneath(&file.path().join(name), OFlags::PATH)
                .ok()?;
            Metadata::of(target.as_fd()).ok()?
        } else {
            metadata
        };
        matches!(metadata.kind, FileType::RegularFile | FileType::Directory).then_some(metadata)
    }
}

/// Whether a directory has no entries but `.` and `..`. Blocks; as the user.
pub fn is_empty(file: &File) -> Result<bool, NtStatus> {
    let directory = file.reopen_directory()?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(status_of)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn entry<'a>(
    metadata: &Metadata,
    attributes: FileAttributes,
    name: &'a [u8],
) -> DirectoryEntry<'a> {
    DirectoryEntry {
        file_index: 0,
        attributes: DirectoryAttributes {
            creation_time: metadata.creation_time,
            last_access_time: metadata.last_access_time,
            last_write_time: metadata.last_write_time,
            change_time: metadata.change_time,
            end_of_file: metadata.end_of_file,
            allocation_size: metadata.allocation_size,
            file_attributes: attributes,
        },
        ea_size: 0,
        reparse_tag: 0,
        file_id: metadata.key.inode.into(),
        name,
    }
}
