//! What a client does to files of a share, as the requests it takes: one after the other, except for stat, which is
//! one message of three requests, as kernel clients send it.

use proto::smb2::close::{CloseFlags, CloseRequest};
use proto::smb2::create::CreateRequest;
use proto::smb2::create_context::CreateContexts;
use proto::smb2::info::file::FileRenameInfo;
use proto::smb2::info::list::EntryList;
use proto::smb2::info::{FileInfoClass, InfoType};
use proto::smb2::query_directory::{
    QueryDirectoryFlags, QueryDirectoryRequest, QueryDirectoryResponse,
};
use proto::smb2::query_info::{QueryInfoFlags, QueryInfoRequest};
use proto::smb2::set_info::SetInfoRequest;
use proto::smb2::{
    AccessMask, Command, CreateDisposition, CreateOptions, FileAttributes, FileId, HeaderFlags,
    NtStatus, ShareAccess,
};
use tests::client::{ClientError, Connection, OpenOptions, Tree};

pub const FILE_SIZE: usize = 4096;
const LISTING_SIZE: u32 = 65536;
const STAT_SIZE: u32 = 1024;

/// A share that is connected to.
pub struct Folder {
    pub connection: Connection,
    pub tree: Tree,
}

impl Folder {
    /// CREATE, WRITE, CLOSE.
    pub fn create(&mut self, name: &str) -> Result<(), ClientError> {
        let options = OpenOptions {
            disposition: CreateDisposition::Create,
            ..OpenOptions::read_write()
        };
        let file = self.connection.open(self.tree, name, options)?;
        self.connection
            .write(self.tree, file, 0, &[0x5a; FILE_SIZE])?;
        self.connection.close(self.tree, file)
    }

    /// CREATE, READ, CLOSE.
    pub fn open_and_read(&mut self, name: &str) -> Result<(), ClientError> {
        let file = self.connection.open(self.tree, name, OpenOptions::read())?;
        let data = self.connection.read(self.tree, file, 0, FILE_SIZE as u32)?;
        if data.len() != FILE_SIZE {
            return Err(ClientError::Protocol(format!("{} bytes", data.len())));
        }
        self.connection.close(self.tree, file)
    }

    /// CREATE, QUERY_INFO of everything and CLOSE in one message.
    pub fn stat(&mut self, name: &str) -> Result<(), ClientError> {
        let options = OpenOptions {
            access: AccessMask::READ_ATTRIBUTES,
            ..OpenOptions::read()
        };
        let mut query = Vec::new();
        QueryInfoRequest {
            info_type: InfoType::File.into(),
            file_info_class: FileInfoClass::All.into(),
            output_buffer_length: STAT_SIZE,
            additional_information: 0,
            flags: QueryInfoFlags::empty(),
            file_id: FileId::RELATED,
            input: &[],
        }
        .encode(&mut query);
        let mut chain = Vec::new();
        for (command, body) in [
            (Command::Create, create_body(name, options)),
            (Command::QueryInfo, query),
            (Command::Close, close_body(FileId::RELATED)),
        ] {
            let session = Some(self.tree.session);
            let mut header = self.connection.header(command, session, self.tree.id);
            if !chain.is_empty() {
                header.flags |= HeaderFlags::RELATED_OPERATIONS;
            }
            chain.push((header, body));
        }
        let messages: Vec<_> = chain.iter().map(|(header, _)| header.message_id).collect();
        self.connection.submit_chain(chain)?;
        for message in messages {
            self.connection.wait(message)?.check()?;
        }
        Ok(())
    }

    /// CREATE, SET_INFO, CLOSE.
    pub fn rename(&mut self, name: &str, new_name: &str) -> Result<(), ClientError> {
        let options = OpenOptions {
            access: AccessMask::DELETE | AccessMask::READ_ATTRIBUTES,
            ..OpenOptions::read()
        };
        let file = self.connection.open(self.tree, name, options)?;
        let mut information = Vec::new();
        FileRenameInfo {
            replace_if_exists: 0,
            root_directory: 0,
            name: &utf16(new_name),
        }
        .encode(&mut information);
        let mut body = Vec::new();
        SetInfoRequest {
            info_type: InfoType::File.into(),
            file_info_class: FileInfoClass::Rename.into(),
            additional_information: 0,
            file_id: file,
            buffer: &information,
        }
        .encode(&mut body);
        let session = Some(self.tree.session);
        let header = self
            .connection
            .header(Command::SetInfo, session, self.tree.id);
        self.connection.exchange(header, &body)?.check()?;
        self.connection.close(self.tree, file)
    }

    /// CREATE of what is there, deleted by its CLOSE.
    pub fn delete(&mut self, name: &str) -> Result<(), ClientError> {
        let options = OpenOptions {
            access: AccessMask::DELETE,
            options: CreateOptions::DELETE_ON_CLOSE,
            ..OpenOptions::read()
        };
        self.open_and_close(name, options)
    }

    pub fn make_directory(&mut self, name: &str) -> Result<(), ClientError> {
        let options = OpenOptions {
            disposition: CreateDisposition::Create,
            options: CreateOptions::DIRECTORY_FILE,
            ..OpenOptions::read()
        };
        self.open_and_close(name, options)
    }

    fn open_and_close(&mut self, name: &str, options: OpenOptions) -> Result<(), ClientError> {
        let file = self.connection.open(self.tree, name, options)?;
        self.connection.close(self.tree, file)
    }

    /// Entries of a directory, read to its end.
    pub fn list(&mut self, name: &str) -> Result<u32, ClientError> {
        let options = OpenOptions {
            options: CreateOptions::DIRECTORY_FILE,
            ..OpenOptions::read()
        };
        let directory = self.connection.open(self.tree, name, options)?;
        let mut body = Vec::new();
        QueryDirectoryRequest {
            file_information_class: FileInfoClass::IdBothDirectory.into(),
            flags: QueryDirectoryFlags::empty(),
            file_index: 0,
            file_id: directory,
            pattern: &utf16("*"),
            output_buffer_length: LISTING_SIZE,
        }
        .encode(&mut body);
        let mut entries = 0;
        loop {
            let header =
                self.connection
                    .payload_header(Command::QueryDirectory, self.tree, LISTING_SIZE);
            let reply = self.connection.exchange(header, &body)?;
            if reply.header.status == NtStatus::NO_MORE_FILES {
                break;
            }
            let reply = reply.check()?;
            let response = QueryDirectoryResponse::decode(&reply.element)
                .map_err(|error| ClientError::Protocol(error.to_string()))?;
            entries += EntryList::new(response.output).count() as u32;
        }
        self.connection.close(self.tree, directory)?;
        Ok(entries)
    }
}

fn create_body(name: &str, options: OpenOptions) -> Vec<u8> {
    let mut body = Vec::new();
    CreateRequest {
        requested_oplock_level: 0,
        impersonation_level: 2,
        desired_access: options.access,
        file_attributes: FileAttributes::empty(),
        share_access: ShareAccess::all(),
        create_disposition: options.disposition.into(),
        create_options: options.options,
        name: &utf16(name),
        contexts: CreateContexts(&[]),
    }
    .encode(&[], &mut body);
    body
}

fn close_body(file_id: FileId) -> Vec<u8> {
    let mut body = Vec::new();
    CloseRequest {
        flags: CloseFlags::empty(),
        file_id,
    }
    .encode(&mut body);
    body
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
