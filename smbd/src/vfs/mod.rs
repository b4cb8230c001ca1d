//! Files beneath a share's directory.

/// An open file, directory or pipe of this machine.
#[derive(Debug)]
pub struct OpenFile {}
