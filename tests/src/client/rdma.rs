//! Memory the server may reach: what an RDMA transport exposes for READ and WRITE.

use proto::smb2::BufferDescriptorV1;

use super::ClientError;

/// What the server may do with exposed memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The server reads it: the client's WRITE.
    RemoteRead,
    /// The server writes it: the client's READ.
    RemoteWrite,
}

/// A registered buffer. It stays registered until withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExposedMemory {
    /// Which, for the transport.
    pub key: usize,
    /// How the server names all of it.
    pub descriptor: BufferDescriptorV1,
}

/// A transport over which the server can reach memory of the client.
pub trait RdmaTransport {
    /// Registers a buffer holding `contents`.
    fn expose(&mut self, contents: &[u8], access: Access) -> Result<ExposedMemory, ClientError>;
    /// A copy of what the buffer holds now.
    fn contents(&mut self, memory: ExposedMemory) -> Result<Vec<u8>, ClientError>;
    /// As [`RdmaTransport::contents`], its first bytes into memory the caller has already.
    fn copy_out(&mut self, memory: ExposedMemory, into: &mut [u8]) -> Result<(), ClientError> {
        let contents = self.contents(memory)?;
        let there = contents.get(..into.len());
        into.copy_from_slice(there.ok_or_else(|| ClientError::Local("too short".into()))?);
        Ok(())
    }
    /// Deregisters it; true if the server had already invalidated the token.
    fn withdraw(&mut self, memory: ExposedMemory) -> Result<bool, ClientError>;
}
