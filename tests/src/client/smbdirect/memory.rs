//! Memory the server may reach by RDMA. A test that wants a bad descriptor changes a good one, or
//! keeps that of withdrawn memory.

use proto::smb2::BufferDescriptorV1;

use super::super::is_invalidated;
use super::super::rdma::{self, Slab};
use super::{SmbDirect, local};
use crate::client::{Access, ClientError, ExposedMemory, RdmaTransport};

impl SmbDirect {
    fn exposed(&self, memory: ExposedMemory) -> Result<&Slab, ClientError> {
        self.exposed
            .get(memory.key)
            .and_then(Option::as_ref)
            .ok_or_else(|| ClientError::Local("this memory was withdrawn".into()))
    }
}

impl RdmaTransport for SmbDirect {
    fn expose(&mut self, contents: &[u8], access: Access) -> Result<ExposedMemory, ClientError> {
        let access = match access {
            Access::RemoteRead => rdma::Access::RemoteReadWrite,
            Access::RemoteWrite => rdma::Access::RemoteWrite,
        };
        let mut slab = Slab::new(&self.domain, contents.len().max(1), access).map_err(local)?;
        if !slab.copy_in(0, contents) {
            return Err(ClientError::Local("too little memory".into()));
        }
        let (offset, token) = slab.region().remote(0);
        self.exposed.push(Some(slab));
        Ok(ExposedMemory {
            key: self.exposed.len() - 1,
            descriptor: BufferDescriptorV1 {
                offset,
                token,
                length: contents.len() as u32,
            },
        })
    }

    fn contents(&mut self, memory: ExposedMemory) -> Result<Vec<u8>, ClientError> {
        let mut contents = vec![0; memory.descriptor.length as usize];
        self.copy_out(memory, &mut contents)?;
        Ok(contents)
    }

    fn copy_out(&mut self, memory: ExposedMemory, into: &mut [u8]) -> Result<(), ClientError> {
        if self.exposed(memory)?.copy_out(0, into) {
            Ok(())
        } else {
            Err(ClientError::Local("the memory is shorter than that".into()))
        }
    }

    fn withdraw(&mut self, memory: ExposedMemory) -> Result<bool, ClientError> {
        let invalidated = is_invalidated(self.exposed(memory)?.region());
        if let Some(slab) = self.exposed.get_mut(memory.key) {
            *slab = None;
        }
        Ok(invalidated)
    }
}
