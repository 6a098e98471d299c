//! The repository format of restic, version 1 and 2: how documents, packs, trees and keys are laid out.
//!
//! The specification is restic's `doc/design.rst` ("References"). What stands here turns bytes into types and back; it opens
//! no files. Everything that is encrypted carries its own authentication, and everything but the configuration is called by
//! the SHA-256 of its bytes, so that whatever comes back from a store is checked before it is believed.

pub(crate) mod config;
pub(crate) mod crypto;
pub(crate) mod document;
pub(crate) mod id;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod node;
pub(crate) mod pack;
pub(crate) mod polynomial;
pub(crate) mod quoting;
pub(crate) mod snapshot;
pub(crate) mod time;
