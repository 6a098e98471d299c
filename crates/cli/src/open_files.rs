//! The limit of open files: a disk of 3 TiB in pieces of 2 GB has 1537 of them, and 1024 is the usual soft limit.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. The soft one is low for the sake of programs that call `select`, and this is
/// none. Where it cannot be raised, opening one file too many says what to do.
pub(crate) fn allow_many() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
