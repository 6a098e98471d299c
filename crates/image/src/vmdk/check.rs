//! Checks a VMDK: that it opens, and that the tables of its sparse extents are sound, extent by extent.
//!
//! ```text
//! open as a reader would ──► hosted sparse: tables, copies, double use, lost space   (check/hosted.rs, repairs)
//!                            streamOptimized: every grain inflated, every marker       (check/stream.rs)
//!                            COWD, seSparse: every table entry through the reader
//! ```
//!
//! What the reader refuses is an error of the check itself. Repair touches no guest data: it restores one copy of the
//! tables from the other, cuts off unused space at the end and clears the mark of an open extent.

mod hosted;
mod stream;

use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, Error, ErrorKind, Result, Storage};

use super::extent_line::{ExtentKind, ExtentLine};
use super::extents;
use super::image::Image;
use super::layout::SPARSE_MAGIC;
use super::read::VmdkDevice;
use crate::{Access, CheckReport, CheckRequest, Finding, FindingKind, Source};

/// Memory for tables while the reader goes through them.
const CACHE_BYTES: usize = 8 << 20;

/// Checks the image, and repairs it if asked.
///
/// # Errors
/// What opening answers for an image that cannot be read at all; `ReadOnly` when a repair has nothing to write to.
#[expect(clippy::needless_pass_by_value, reason = "the table of formats hands requests over")]
pub(crate) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    let image = Image::read(&request.source)?;
    // Extents that claim more than a disk can have go no further.
    image.descriptor.sectors()?;
    let mut report = CheckReport::default();
    for (index, line) in image.descriptor.extents.iter().enumerate().filter(|(_, line)| line.sectors > 0) {
        if matches!(line.kind, ExtentKind::Sparse) {
            let file = ExtentFile::open(&request, &image, index, line)?;
            let mut name = String::new();
            if image.descriptor.extents.len() > 1 {
                name = format!("extent {} ({}): ", index + 1, line.name.as_deref().unwrap_or_default());
            }
            let mut findings = Findings { report: &mut report, name };
            if is_hosted(&*file.bytes)? {
                check_hosted(&file, line.sectors, &mut findings)?;
            }
        }
    }
    // The reader's own rules: sizes of flat files, overlaps, directories, everything of the kinds that only it knows.
    walk_device(&request, &image, &mut report)?;
    Ok(report)
}

fn is_hosted(file: &dyn BlockRead) -> Result<bool> {
    let mut magic = [0; 4];
    if file.size() < 4 {
        return Ok(false);
    }
    file.read_at(&mut magic, 0)?;
    Ok(magic == SPARSE_MAGIC)
}

fn check_hosted(file: &ExtentFile, sectors: u64, findings: &mut Findings<'_>) -> Result<()> {
    let found = super::hosted::read_header(&*file.bytes)?;
    let (grain, capacity) = (found.header.grain_sectors, found.header.capacity);
    if capacity.next_multiple_of(grain) > sectors.next_multiple_of(grain) {
        let message = format!(
            "the header's capacity is {capacity} sectors and the descriptor's {sectors}: readers differ in which they take"
        );
        findings.corruption(&message, false);
    }
    if found.header.compressed {
        if !found.header.markers {
            return Err(Error::new(ErrorKind::Unsupported, "VMDK: checking compressed grains without markers"));
        }
        return stream::check(&*file.bytes, &found, sectors, findings);
    }
    hosted::check(file, &found.header, sectors, findings)
}

/// Goes over the whole disk through the reader, which looks at every table.
fn walk_device(request: &CheckRequest<'_>, image: &Image, report: &mut CheckReport) -> Result<()> {
    let counts = image.descriptor.extents.iter().all(|line| line.kind == ExtentKind::Sparse);
    let parts = match extents::open(image, &request.source, request.gate, CACHE_BYTES) {
        Ok(opened) => opened.parts,
        // What was found already says it better.
        Err(error) if error.kind() == ErrorKind::Corrupt && report.corruptions > 0 => return Ok(()),
        Err(error) => return Err(error),
    };
    if counts {
        return Ok(());
    }
    let device = VmdkDevice::new(parts);
    let unit = u64::from(device.limits().granularity);
    report.total_units = device.size().div_ceil(unit);
    report.image_end_offset = report.image_end_offset.max(request.source.bytes().size());
    let mut at = 0;
    while at < device.size() {
        match device.block_status(at..device.size()) {
            Ok(extent) => {
                if extent.status == BlockStatus::Data {
                    report.allocated_units += extent.length.div_ceil(unit);
                }
                at = extent.end();
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                report.add(Finding { kind: FindingKind::Corruption, message: error.to_string(), fixed: false });
                at += unit;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The file of a sparse extent.
struct ExtentFile {
    bytes: Arc<dyn BlockRead>,
    /// For writing, when the image is to be repaired.
    storage: Option<Arc<dyn Storage>>,
}

impl ExtentFile {
    fn open(request: &CheckRequest<'_>, image: &Image, index: usize, line: &ExtentLine) -> Result<Self> {
        let access = if request.repair { Access::ReadWrite } else { Access::ReadOnly };
        let source: Source = if image.own == Some(index) {
            request.source.clone()
        } else {
            request.gate.open(&request.source, line.name.as_deref().unwrap_or_default(), access)?
        };
        let storage = if request.repair { Some(Arc::clone(source.storage()?)) } else { None };
        Ok(Self { bytes: Arc::clone(source.bytes()), storage })
    }
}

/// Where findings go, with the extent's name before them.
struct Findings<'a> {
    report: &'a mut CheckReport,
    name: String,
}

impl Findings<'_> {
    fn corruption(&mut self, message: &str, fixed: bool) {
        self.add(FindingKind::Corruption, message, fixed);
    }

    fn leak(&mut self, message: &str, fixed: bool) {
        self.add(FindingKind::Leak, message, fixed);
    }

    fn add(&mut self, kind: FindingKind, message: &str, fixed: bool) {
        let message = format!("{}{message}", self.name);
        self.report.add(Finding { kind, message, fixed });
    }
}
