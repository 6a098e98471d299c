//! Disk image formats: detect, open, create, check and resize them, each behind one row of [`FORMATS`].
//!
//! ```text
//! Source ──► detect() ──► Format ──► open() ──► Opened { device, layers }      reading, with the backing chain
//!                            │
//!                            ├─► Format::create ──► ImageWrite                  random writing
//!                            ├─► Format::sink   ──► BlockSink                   writing from front to back
//!                            └─► Format::stream ──► BlockStream                 reading from front to back
//! ```
//!
//! A driver describes only its own layer. References to other files (backing files, extents, external data files) are
//! opened by the [`ReferenceGate`] alone, and joined by `transload_block::Chain` alone. What moves the bytes is
//! `transload-convert`.

pub mod bochs;
pub mod cloop;
pub mod codec;
pub mod dmg;
pub mod ewf;
pub mod gcp;
pub mod parallels;
#[doc(hidden)]
pub mod properties;
pub mod qcow1;
pub mod qcow2;
pub mod qed;
pub mod raw;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
pub mod wrapped;

mod check;
mod format;
mod gate;
mod ids;
mod info;
mod kept;
mod known;
mod mapped;
mod open;
mod options;
mod place;
mod preallocation;
mod probe;
mod source;
mod target;

pub use check::{CheckReport, Finding, FindingKind};
pub use format::{
    CheckRequest, CreateFn, CreateRequest, DescribeFn, FORMATS, Format, Measure, MeasureRequest, OpenFn, OpenRequest,
    ResizeRequest, SinkFn, SinkOutput, SinkRequest, StreamFn, StreamRequest, Variant,
};
pub use gate::{FileIdentity, ReferenceGate};
pub use ids::IdSource;
pub use info::{BitmapInfo, ExtentInfo, ImageInfo, SnapshotInfo};
pub use open::{Access, ContentId, Layer, OpenSettings, Opened, ParentReference, open, open_path};
pub use options::{OptionKind, OptionSpec, OptionValues, parse_size};
pub use probe::{Detection, Match, ProbeWindow, detect, detect_window};
pub use source::Source;
pub use target::{ImageWrite, TargetFiles};
