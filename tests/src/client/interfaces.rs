//! FSCTL_QUERY_NETWORK_INTERFACE_INFO: where else the server says it can be reached.

use proto::smb2::fsctl::{CtlCode, NetworkInterface};
use proto::smb2::ioctl::{IoctlRequest, IoctlResponse};
use proto::smb2::{Command, FileId};

use super::{ClientError, Connection, Tree};

const LONGEST_ANSWER: u32 = 64 << 10;

impl Connection {
    /// Asks for the server's interfaces (MS-SMB2 3.2.4.20.10).
    pub fn interfaces(&mut self, tree: Tree) -> Result<Vec<NetworkInterface>, ClientError> {
        let longest = LONGEST_ANSWER.min(self.negotiated().max_transact_size);
        let mut body = Vec::new();
        IoctlRequest {
            ctl_code: CtlCode::QUERY_NETWORK_INTERFACE_INFO,
            file_id: FileId::RELATED,
            max_input_response: 0,
            max_output_response: longest,
            flags: IoctlRequest::IS_FSCTL,
            input: &[],
            output: &[],
        }
        .encode(&mut body);
        let header = self.payload_header(Command::Ioctl, tree, longest);
        let reply = self.exchange(header, &body)?.check()?;
        let response = IoctlResponse::decode(&reply.element).map_err(ClientError::protocol)?;
        if response.output.is_empty() {
            return Ok(Vec::new());
        }
        NetworkInterface::decode_list(response.output).map_err(ClientError::protocol)
    }
}
