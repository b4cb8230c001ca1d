//! NetrSessionEnum (MS-SRVS 3.1.4.5): decoded as far as a refusal needs.

use crate::rpc::Win32Error;
use crate::rpc::ndr::{NdrReader, NdrWriter};
use crate::wire::WireError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnumRequest {
    pub server_name: Option<String>,
    pub client_name: Option<String>,
    pub user_name: Option<String>,
    pub level: u32,
}

impl SessionEnumRequest {
    pub fn decode(stub: &[u8]) -> Result<Self, WireError> {
        let mut reader = NdrReader::new(stub);
        Ok(Self {
            server_name: reader.unique_string("ServerName")?,
            client_name: reader.unique_string("ClientName")?,
            user_name: reader.unique_string("UserName")?,
            level: reader.u32("Level")?,
        })
    }

    /// An answer without entries. The container is the same at every level.
    pub fn encode_failure(&self, error: Win32Error) -> Vec<u8> {
        let mut writer = NdrWriter::default();
        writer.u32(self.level).u32(self.level);
        if matches!(self.level, 0 | 1 | 2 | 10 | 502) {
            writer.pointer().u32(0).null();
        }
        // TotalEntries, ResumeHandle.
        writer.u32(0).null().u32(error.0).finish()
    }
}
