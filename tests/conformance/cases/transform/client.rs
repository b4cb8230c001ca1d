//! Clients with a session and a file, signed or encrypted.

use std::path::PathBuf;

use proto::smb2::FileId;
use proto::smb2::negotiate_context::rdma_transform;
use smbd::security::encryption::Cipher;
use smbd::security::signing::SigningAlgorithm;
use tests::client::{Connection, Offer, OpenOptions, Protection, Session, Tree};
use tests::server::{PASSWORD, USER};

use crate::endpoint::Endpoint;
use crate::scene::Scene;

/// Both transforms, as Windows offers them.
pub const BOTH: &[u16] = &[rdma_transform::ENCRYPTION, rdma_transform::SIGNING];

/// What a client negotiates, and how it protects its session.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub transforms: &'static [u16],
    pub cipher: Option<Cipher>,
    pub signing: SigningAlgorithm,
    pub session: Protection,
}

impl Terms {
    pub const SIGNED: Terms = Terms {
        transforms: BOTH,
        cipher: None,
        signing: SigningAlgorithm::AesGmac,
        session: Protection::Signing,
    };
    pub const ENCRYPTED: Terms = Terms {
        cipher: Some(Cipher::Aes128Gcm),
        session: Protection::Encryption,
        ..Terms::SIGNED
    };

    pub fn offer(&self) -> Offer {
        Offer {
            signing: vec![self.signing],
            ciphers: self.cipher.into_iter().collect(),
            rdma_transforms: self.transforms.to_vec(),
            ..Offer::default()
        }
    }
}

/// A client with a file open.
pub struct Client {
    pub connection: Connection,
    pub session: Session,
    pub tree: Tree,
    pub file: FileId,
    /// The file, as the server's machine has it.
    pub path: PathBuf,
}

impl Client {
    /// A client on these terms, with a new file, or one that `contents` are in already.
    #[track_caller]
    pub fn of<E: Endpoint>(scene: &Scene<E>, terms: Terms, contents: Option<&[u8]>) -> Client {
        let (name, path) = scene.new_file();
        if let Some(contents) = contents {
            std::fs::write(&path, contents).expect("fill the share");
        }
        let mut connection = scene.connect(terms.offer()).expect("negotiate");
        let session = connection.log_on(USER, PASSWORD).expect("log on");
        if terms.session == Protection::Encryption {
            connection.encrypt(session).expect("a cipher");
        }
        let tree = connection.tree_connect(session, "share").expect("connect");
        let options = match contents {
            Some(_) => OpenOptions::read(),
            None => OpenOptions::read_write(),
        };
        let file = connection.open(tree, &name, options).expect("open");
        // Each asks for many credits and uses one: enough for a large payload.
        (0..8).for_each(|_| connection.echo().expect("echo"));
        Client {
            connection,
            session,
            tree,
            file,
            path,
        }
    }

    /// What the server has in the file.
    pub fn stored(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("the file is there")
    }

    /// Ends it in order: the connection is as good as it was.
    #[track_caller]
    pub fn leave(mut self) {
        self.connection.close(self.tree, self.file).expect("close");
        self.connection.log_off(self.session).expect("log off");
    }
}
