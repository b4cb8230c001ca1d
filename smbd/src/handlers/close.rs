//! CLOSE (MS-SMB2 3.3.5.10), and what every end of an open has in common: the broker is told, and
//! the last open of a delete-pending file deletes it.

use std::rc::Rc;
use std::sync::Arc;

use proto::smb2::NtStatus;
use proto::smb2::close::{CloseFlags, CloseRequest, CloseResponse};

use super::{Context, Response, malformed};
use crate::child::Child;
use crate::messaging::Closing;
use crate::state::{Open, OpenFile};
use crate::sys::pool::RunAs;

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    let request = CloseRequest::decode(request).map_err(malformed)?;
    let open = cx.open(request.file_id)?;
    let answer = if request.flags.contains(CloseFlags::POSTQUERY_ATTRIB) {
        attributes(&open, cx).await
    } else {
        CloseResponse::default()
    };
    release(&cx.child, cx.session()?.opens.remove(open.id)?).await;
    let mut body = Vec::new();
    answer.encode(&mut body);
    Ok(Response::of(body))
}

/// Ends an open that is in no table any more.
pub async fn release(child: &Rc<Child>, open: Rc<Open>) {
    let disk = match &open.file {
        OpenFile::Disk(disk) => disk,
        OpenFile::Pipe(pipe) => return pipe.pipe.close(),
    };
    let Closing::Delete(duty) = child.broker.close(disk.grant).await else {
        return;
    };
    let file = Arc::clone(&disk.file);
    let identity = Arc::clone(&open.tree.identity);
    // The last descriptor of a big file takes its time to close: on the pool, not here.
    drop(open);
    let delete = move || file.delete().map_err(|status| (status, file.to_string()));
    match child.pool.run(RunAs::User(identity), delete).await {
        Ok(Err((NtStatus::OBJECT_NAME_NOT_FOUND, _))) | Ok(Ok(())) => {}
        Ok(Err((status, file))) => {
            tracing::warn!(%status, file, "a file its client deleted is still there");
        }
        Err(_) => {}
    }
    drop(duty);
}

/// All zero where the file can't be asked: a close never fails for it.
async fn attributes(open: &Open, cx: &Context) -> CloseResponse {
    let Ok(disk) = open.disk() else {
        return CloseResponse::default();
    };
    let file = Arc::clone(&disk.file);
    match cx.as_user(move || file.metadata()).await {
        Ok(metadata) => CloseResponse {
            flags: CloseFlags::POSTQUERY_ATTRIB,
            creation_time: metadata.creation_time,
            last_access_time: metadata.last_access_time,
            last_write_time: metadata.last_write_time,
            change_time: metadata.change_time,
            allocation_size: metadata.allocation_size,
            end_of_file: metadata.end_of_file,
            file_attributes: metadata.attributes,
        },
        Err(_) => CloseResponse::default(),
    }
}
