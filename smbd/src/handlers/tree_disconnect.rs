//! TREE_DISCONNECT (MS-SMB2 3.3.5.8): a tree connect ends, with the opens made through it.

use proto::smb2::NtStatus;
use proto::smb2::tree_disconnect::{TreeDisconnectRequest, TreeDisconnectResponse};

use super::{Context, Response, close, malformed};

pub async fn handle(request: &[u8], cx: &Context) -> Result<Response, NtStatus> {
    TreeDisconnectRequest::decode(request).map_err(malformed)?;
    let tree = cx.tree()?;
    let session = cx.session()?;
    session.trees.remove(tree.id);
    for open in session.opens.remove_all(Some(tree)) {
        close::release(&cx.child, open).await;
    }
    let mut body = Vec::new();
    TreeDisconnectResponse.encode(&mut body);
    Ok(Response::of(body))
}
