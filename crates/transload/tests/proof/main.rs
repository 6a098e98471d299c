//! The whole, through the library as its users see it, judged by programs of other makers.
//!
//! | module | what it proves |
//! |---|---|
//! | [`matrix`] | every readable variant to every writable one, at odd sizes, with any content |
//! | [`streams`] | the same from pipes and to pipes, for any number of threads |
//! | [`chains`] | overlays of mixed formats, short backing files, internal snapshots |
//! | [`corpus`] | real images, by the digests that other readers agree on |
//! | [`passing`] | compressed units that go over as they are, before independent readers |
//! | [`regressions`] | what went wrong elsewhere, each by name |
//! | [`hostile`] | images that lie |

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod chains;
mod corpus;
mod hostile;
mod matrix;
mod passing;
mod regressions;
mod streams;
mod support;
