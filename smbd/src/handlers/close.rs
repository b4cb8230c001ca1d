//! CLOSE (MS-SMB2 3.3.5.10), and what every end of an open has in common: the broker is told, and
//! the last open of a delete-pending file deletes it.

use std::rc::Rc;
use std::sync::Arc;

use proto::smb2::NtStatus;
use proto::smb2::close::{CloseFlags, CloseRequest, CloseResponse};

use super::{Context, Response, malformed};
use crate::child::Child;
use crate::messaging::{Closing, DeleteDuty};
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
    let open = cx.session()?.opens.remove(open.id)?;
    let released = release(&cx.child, Rc::clone(&open));
    if waits_for_broker(&open, cx) {
        released.await;
    } else {
        cx.child.spawn_detached(released);
    }
    let mut body = Vec::new();
    answer.encode(&mut body);
    Ok(Response::of(body))
}

/// Whether the answer comes after the broker's: where it ends sharing modes or locks, which another
/// process' client may count on then, and where it may delete the file. All else it ends is a share
/// in who closes last: a file another process has just marked is deleted a moment after the answer.
fn waits_for_broker(open: &Open, cx: &Context) -> bool {
    open.disk().is_ok_and(|disk| {
        cx.child.broker.close_matters(disk.grant) || !disk.locks.borrow().is_empty()
    })
}

/// Ends an open that is in no table any more. The broker is told at once; what waits for its
/// answer is the future's.
pub fn release(child: &Rc<Child>, open: Rc<Open>) -> impl Future<Output = ()> + use<> {
    let closing = match &open.file {
        OpenFile::Disk(disk) => {
            child.oplocks.end(disk.grant);
            Some(child.broker.close(disk.grant))
        }
        OpenFile::Pipe(pipe) => {
            pipe.pipe.close();
            None
        }
    };
    let child = Rc::clone(child);
    async move {
        if let Some(closing) = closing
            && let Closing::Delete(duty) = closing.await
        {
            delete(&child, open, duty).await;
        }
    }
}

async fn delete(child: &Child, open: Rc<Open>, duty: DeleteDuty) {
    let OpenFile::Disk(disk) = &open.file else {
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
    match cx.metadata(open).await {
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
