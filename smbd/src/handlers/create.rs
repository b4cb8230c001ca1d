//! CREATE (MS-SMB2 3.3.5.9): opens or makes a file or directory.
//!
//! Three steps: the file is opened, unchanged, on the pool as the user; the broker checks its share
//! mode against every child's opens; only then is it truncated, or, where nothing is to be changed,
//! looked at once more: it may have been deleted meanwhile. Where the share says so, the broker gives
//! a file's only open an exclusive or batch oplock; no lease, level II oplock or durable handle is
//! granted, which a server may always answer.

use std::rc::Rc;
use std::sync::Arc;

use futures::future::{Either, select};
use proto::control::broker::{OpenMode, Oplock, ShareDenied};
use proto::smb2::access::{CreateAction, ImpersonationLevel, OplockLevel};
use proto::smb2::create::{CreateRequest, CreateResponse};
use proto::smb2::create_context::{
    CreateContext, MaximalAccessResponse, OnDiskIdResponse, RequestedContext, name,
};
use proto::smb2::query_info::SecurityInformation;
use proto::smb2::{AccessMask, CreateDisposition, CreateOptions, FileTime, NtStatus, ShareAccess};

use super::{Context, READ_ONLY, Response, malformed};
use crate::messaging::Grant;
use crate::state::{DiskOpen, NotAdded, Open, OpenFile};
use crate::vfs::{self, Metadata, OpenRequest, Opened, security_descriptor};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = CreateRequest::decode(request).map_err(malformed)?;
    if cx.tree()?.is_pipe() {
        let desired = desired_access(request.desired_access)?;
        return super::named_pipe::create(&request, desired, cx);
    }
    let asked = Asked::of(&request, cx)?;
    for _ in 0..RACES {
        match open(&asked, cx).await {
            // The name led to a file that was being deleted: by now it leads elsewhere or nowhere.
            Ok(opened) if opened.metadata.links == 0 => {
                super::close::release(&cx.child, remove(cx, &opened.open)?).await
            }
            Ok(opened) => return Ok(opened.answer(&asked, cx)),
            Err(NtStatus::ACCESS_DENIED) if asked.changes() && cx.tree()?.read_only => {
                return Err(cx.refuse(READ_ONLY, NtStatus::ACCESS_DENIED));
            }
            Err(status) => return Err(status),
        }
    }
    Err(NtStatus::DELETE_PENDING)
}

const RACES: usize = 3;
/// CreateOptions a server of ours can't honour (MS-SMB2 3.3.5.9).
const UNSUPPORTED: CreateOptions =
    CreateOptions::OPEN_BY_FILE_ID.union(CreateOptions::RESERVE_OPFILTER);
/// The bits of DesiredAccess that mean something (MS-SMB2 2.2.13.1).
const KNOWN_RIGHTS: AccessMask = AccessMask::FILE_ALL_ACCESS
    .union(AccessMask::ACCESS_SYSTEM_SECURITY)
    .union(AccessMask::MAXIMUM_ALLOWED)
    .union(AccessMask::GENERIC_ALL)
    .union(AccessMask::GENERIC_EXECUTE)
    .union(AccessMask::GENERIC_READ)
    .union(AccessMask::GENERIC_WRITE);

/// A request, checked, and owned by this task.
struct Asked {
    request: OpenRequest,
    share_access: ShareAccess,
    /// SecD, for a file that is made.
    security: Option<Vec<u8>>,
    /// MxAc, with the time it came with.
    maximal_access: Option<Option<FileTime>>,
    on_disk_id: bool,
    oplock: Oplock,
}

/// A file that is open, granted and in the session's table.
struct Done {
    open: Rc<Open>,
    metadata: Metadata,
    action: CreateAction,
    maximal: AccessMask,
    oplock: OplockLevel,
}

impl Asked {
    fn of(request: &CreateRequest<'_>, cx: &Context) -> Result<Asked, NtStatus> {
        let tree = cx.tree()?;
        ImpersonationLevel::try_from(request.impersonation_level)
            .map_err(|_| NtStatus::BAD_IMPERSONATION_LEVEL)?;
        let disposition = CreateDisposition::try_from(request.create_disposition)
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let options = request.create_options;
        check_options(options, disposition)?;
        if request.share_access.bits() & !ShareAccess::all().bits() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let desired = desired_access(request.desired_access)?;
        if options.contains(CreateOptions::DELETE_ON_CLOSE)
            && !desired.intersects(AccessMask::DELETE | AccessMask::MAXIMUM_ALLOWED)
        {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut asked = Asked {
            request: OpenRequest {
                path: cx.share_path(request.name)?,
                desired,
                disposition,
                options,
                attributes: request.file_attributes,
                allocation_size: 0,
                ceiling: tree.maximal_access,
                wants_maximal: false,
            },
            share_access: request.share_access,
            security: None,
            maximal_access: None,
            on_disk_id: false,
            oplock: match OplockLevel::try_from(request.requested_oplock_level) {
                Ok(OplockLevel::Exclusive) => Oplock::Exclusive,
                Ok(OplockLevel::Batch) => Oplock::Batch,
                _ => Oplock::None,
            },
        };
        for context in request.contexts.iter() {
            let context = context
                .and_then(|context| context.requested())
                .map_err(malformed)?;
            asked.heed(context)?;
        }
        asked.request.wants_maximal = asked.maximal_access.is_some();
        Ok(asked)
    }

    /// Whether it would change anything, or be able to.
    fn changes(&self) -> bool {
        self.request.desired.intersects(vfs::access::CHANGES)
            || self.request.disposition != CreateDisposition::Open
    }

    fn heed(&mut self, context: RequestedContext<'_>) -> Result<(), NtStatus> {
        match context {
            RequestedContext::AllocationSize(size) => self.request.allocation_size = size,
            RequestedContext::MaximalAccess(time) => self.maximal_access = Some(time),
            RequestedContext::QueryOnDiskId => self.on_disk_id = true,
            RequestedContext::SecurityDescriptor(bytes) => self.security = Some(bytes.to_vec()),
            RequestedContext::ExtendedAttributes([]) => {}
            RequestedContext::ExtendedAttributes(_) => return Err(NtStatus::EAS_NOT_SUPPORTED),
            // There are no earlier versions of any file (MS-SMB2 3.3.5.9.4).
            RequestedContext::Timewarp(FileTime(0)) => {}
            RequestedContext::Timewarp(_) => return Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            // No handle was ever durable, so none can be taken up again (3.3.5.9.7, 3.3.5.9.12).
            RequestedContext::DurableReconnect(_) | RequestedContext::DurableReconnectV2(_) => {
                return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
            }
            RequestedContext::Lease(_)
            | RequestedContext::Durable
            | RequestedContext::DurableV2(_)
            | RequestedContext::Unknown => {}
        }
        Ok(())
    }
}

/// MS-SMB2 3.3.5.9, on CreateOptions.
fn check_options(options: CreateOptions, disposition: CreateDisposition) -> Result<(), NtStatus> {
    let directory = options.contains(CreateOptions::DIRECTORY_FILE);
    let overwrites = matches!(
        disposition,
        CreateDisposition::Supersede
            | CreateDisposition::Overwrite
            | CreateDisposition::OverwriteIf
    );
    let invalid = options.bits() & 0xFF00_0000 != 0
        || (directory && options.contains(CreateOptions::NON_DIRECTORY_FILE))
        || (directory && overwrites);
    if invalid {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if options.intersects(UNSUPPORTED) {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    Ok(())
}

/// The rights asked for, generic ones mapped (MS-SMB2 3.3.5.9; MS-FSA 2.1.5.1).
fn desired_access(raw: AccessMask) -> Result<AccessMask, NtStatus> {
    if raw.is_empty() || raw.bits() & !KNOWN_RIGHTS.bits() != 0 {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if raw.contains(AccessMask::ACCESS_SYSTEM_SECURITY) {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    Ok(raw.map_generic())
}

async fn open(asked: &Asked, cx: &Context) -> Result<Done, NtStatus> {
    let share = Arc::clone(cx.tree()?.share()?);
    let request = asked.request.clone();
    let opened = cx.as_user(move || vfs::open(&share, &request)).await?;
    let grant = share_mode(asked, &opened, cx).await?;
    let at_once = match opened.is_unchanged() {
        true => opened.file.metadata_at_once(&opened.metadata),
        false => None,
    };
    let finished = match at_once {
        Some(metadata) => metadata.map(|metadata| (opened, metadata)),
        None => {
            let security = asked.security.clone();
            cx.as_user(move || match finish(&opened, security) {
                Ok(metadata) => Ok((opened, metadata)),
                Err(status) => {
                    // Nobody was told of it, and what was there before is not lost with it.
                    if opened.action == CreateAction::Created {
                        let _ = opened.file.delete();
                    }
                    Err(status)
                }
            })
            .await
        }
    };
    let (opened, metadata) = match finished {
        Ok(finished) => finished,
        Err(status) => {
            cx.child.oplocks.end(grant.open);
            cx.child.broker.close(grant.open).await;
            return Err(status);
        }
    };
    let (action, maximal) = (opened.action, opened.maximal);
    let level = match grant.oplock {
        Oplock::None => OplockLevel::None,
        Oplock::Exclusive => OplockLevel::Exclusive,
        Oplock::Batch => OplockLevel::Batch,
    };
    let disk = DiskOpen {
        file: Arc::new(opened.file),
        granted: opened.granted,
        options: asked.request.options,
        grant: grant.open,
        position: Default::default(),
        scan: Default::default(),
        locks: Default::default(),
    };
    let tree = Rc::clone(cx.tree()?);
    let sequence = cx.header.channel_sequence();
    let opens = &cx.session()?.opens;
    match opens.insert(tree, OpenFile::Disk(disk), sequence) {
        Ok(open) => {
            let oplock = match level {
                OplockLevel::None => level,
                _ if cx.child.oplocks.grant(grant.open, cx.session()?, open.id) => level,
                _ => {
                    cx.child.broker.release_oplock(grant.open);
                    OplockLevel::None
                }
            };
            Ok(Done {
                open,
                metadata,
                action,
                maximal,
                oplock,
            })
        }
        Err(NotAdded { status, open }) => {
            super::close::release(&cx.child, open).await;
            Err(status)
        }
    }
}

/// Asks the broker whether the file may be open like this, beside all other opens.
async fn share_mode(asked: &Asked, opened: &Opened, cx: &Context) -> Result<Grant, NtStatus> {
    let mut access = opened.granted;
    if matches!(
        opened.action,
        CreateAction::Overwritten | CreateAction::Superseded
    ) {
        access |= AccessMask::WRITE_DATA;
    }
    let mode = OpenMode {
        access: access.bits(),
        share: asked.share_access.bits(),
        delete_on_close: asked
            .request
            .options
            .contains(CreateOptions::DELETE_ON_CLOSE),
        oplock: match cx.tree()?.share()?.options().oplocks && !opened.file.is_directory() {
            true => asked.oplock,
            false => Oplock::None,
        },
    };
    // It may have to wait for another client to give up an oplock.
    let answer = std::pin::pin!(cx.child.broker.open(opened.file.key(), mode));
    let cancelled = std::pin::pin!(cx.progress.cancelled());
    let answer = match select(answer, cancelled).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => return Err(NtStatus::CANCELLED),
    };
    answer.map_err(|denied| match denied {
        ShareDenied::SharingViolation => NtStatus::SHARING_VIOLATION,
        ShareDenied::DeletePending => NtStatus::DELETE_PENDING,
        ShareDenied::TooManyOpens => NtStatus::INSUFFICIENT_RESOURCES,
    })
}

/// What changes the file, now that it may. On a pool thread, as the user.
fn finish(opened: &Opened, security: Option<Vec<u8>>) -> Result<Metadata, NtStatus> {
    let metadata = opened.truncate()?;
    let Some(security) = security.filter(|_| opened.action == CreateAction::Created) else {
        return Ok(metadata);
    };
    let wanted = security_descriptor::decode(&security, SecurityInformation::DACL, &metadata)?;
    if let Some(mode) = wanted {
        opened.file.set_mode(mode)?;
    }
    opened.file.metadata()
}

fn remove(cx: &Context, open: &Open) -> Result<Rc<Open>, NtStatus> {
    cx.session()?.opens.remove(open.id)
}

impl Done {
    fn answer(&self, asked: &Asked, cx: &Context) -> Response {
        cx.chain_file.set(Some(self.open.id));
        cx.chain_metadata.set(Some((self.open.id, self.metadata)));
        let metadata = &self.metadata;
        let mut maximal = Vec::new();
        let mut on_disk = Vec::new();
        let mut contexts = Vec::new();
        // MS-SMB2 3.3.5.9.5: with a time, only answered if the file is another since.
        if asked
            .maximal_access
            .is_some_and(|time| time != Some(metadata.last_write_time))
        {
            MaximalAccessResponse {
                query_status: NtStatus::SUCCESS,
                maximal_access: self.maximal,
            }
            .encode(&mut maximal);
            contexts.push(CreateContext {
                name: name::MAXIMAL_ACCESS,
                data: &maximal,
            });
        }
        if asked.on_disk_id {
            OnDiskIdResponse {
                disk_file_id: metadata.key.inode,
                volume_id: metadata.key.device,
            }
            .encode(&mut on_disk);
            contexts.push(CreateContext {
                name: name::QUERY_ON_DISK_ID,
                data: &on_disk,
            });
        }
        let mut body = Vec::new();
        CreateResponse {
            oplock_level: self.oplock,
            flags: 0,
            create_action: self.action,
            creation_time: metadata.creation_time,
            last_access_time: metadata.last_access_time,
            last_write_time: metadata.last_write_time,
            change_time: metadata.change_time,
            allocation_size: metadata.allocation_size,
            end_of_file: metadata.end_of_file,
            file_attributes: metadata.attributes,
            file_id: self.open.id,
        }
        .encode(&contexts, &mut body);
        Response::of(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        use CreateDisposition::{Create, OverwriteIf};
        let (directory, file) = (
            CreateOptions::DIRECTORY_FILE,
            CreateOptions::NON_DIRECTORY_FILE,
        );
        assert_eq!(check_options(directory, Create), Ok(()));
        assert_eq!(check_options(file, OverwriteIf), Ok(()));
        for (options, disposition, status) in [
            (directory | file, Create, NtStatus::INVALID_PARAMETER),
            (directory, OverwriteIf, NtStatus::INVALID_PARAMETER),
            (
                CreateOptions::from_bits_retain(1 << 24),
                Create,
                NtStatus::INVALID_PARAMETER,
            ),
            (
                CreateOptions::OPEN_BY_FILE_ID,
                Create,
                NtStatus::NOT_SUPPORTED,
            ),
        ] {
            assert_eq!(check_options(options, disposition), Err(status));
        }
    }

    #[test]
    fn rights_are_mapped_and_unknown_ones_denied() {
        assert_eq!(
            desired_access(AccessMask::GENERIC_READ),
            Ok(AccessMask::FILE_GENERIC_READ)
        );
        for wrong in [AccessMask::empty(), AccessMask::from_bits_retain(1 << 27)] {
            assert_eq!(desired_access(wrong), Err(NtStatus::ACCESS_DENIED));
        }
        assert_eq!(
            desired_access(AccessMask::ACCESS_SYSTEM_SECURITY),
            Err(NtStatus::PRIVILEGE_NOT_HELD)
        );
    }
}
