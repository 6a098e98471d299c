//! E01: evidence files of EnCase and of programs that write like it (Expert Witness Compression Format), read only.
//!
//! The layout follows Joachim Metz, "Expert Witness Compression Format specification", the working document beside libewf. A
//! disk is cut into chunks, most often of 64 sectors, that are deflated or stored with a checksum. Files of a limited size
//! follow each other: `.E01` to `.E99`, `.EAA` to `.ZZZ`.
//!
//! ```text
//! sections.rs   a file's sections and what is in them        set.rs    the files, and the tables of all of them
//! device.rs     chunks                                       check.rs  their checksums, and the MD5 of the disk
//! ```
//!
//! What is not read is refused by name: the second version (`.Ex01`) and logical evidence (`.L01`, `.Lx01`).

mod check;
mod device;
mod sections;
mod set;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Memory, Result};

use crate::mapped::{info, row, variant};
use crate::{
    Access, CheckRequest, ExtentInfo, Format, ImageInfo, Layer, Match, OpenRequest, OptionValues, ProbeWindow,
    ReferenceGate, Source, Variant, properties,
};
use device::Chunks;
use set::Set;

/// The row of EWF in the table of formats.
pub const FORMAT: Format = Format {
    check: Some(check::check),
    ..row(("ewf", &["e01"], "Expert Witness image (E01)"), &["e01", "s01", "ex01"], VARIANTS, probe, describe, open)
};

const VARIANTS: &[Variant] =
    &[variant("E01", "as EnCase, FTK and linen write it"), variant("S01", "as SMART and the first version write it")];

const SIGNATURES: [&[u8; 8]; 4] =
    [sections::SIGNATURE, b"LVF\x09\x0d\x0a\xff\0", b"EVF2\x0d\x0a\x81\0", b"LEF2\x0d\x0a\x81\0"];

fn probe(window: &ProbeWindow<'_>) -> Match {
    if SIGNATURES.iter().any(|signature| window.head_has(0, *signature)) { Match::Yes } else { Match::No }
}

/// Refuses what has a signature of the family and is not read.
fn refuse_relatives(file: &dyn BlockRead) -> Result<()> {
    let mut head = [0; 8];
    let length = head.len().min(usize::try_from(file.size()).unwrap_or(8));
    file.read_at(&mut head[..length], 0)?;
    let what = match &head {
        b"LVF\x09\x0d\x0a\xff\0" | b"LEF2\x0d\x0a\x81\0" => "logical evidence, which holds files and no disk",
        b"EVF2\x0d\x0a\x81\0" => "the second version of the format (Ex01)",
        _ => return Ok(()),
    };
    let error = Error::new(ErrorKind::Unsupported, format!("this is {what}"));
    Err(error.with_remedy("export it as E01 or raw with the program that made it"))
}

impl Set {
    fn info(&self, source: &Source) -> ImageInfo {
        let old = self.media.old;
        let mut info = ImageInfo {
            variant: Some(if old { "S01" } else { "E01" }.to_owned()),
            compression: Some("zlib".to_owned()),
            warnings: self.warnings.clone(),
            ..info(&FORMAT, source, self.media.size, self.media.chunk)
        };
        info.details.insert("sector-size".to_owned(), self.media.sector.to_string());
        if let Some(md5) = self.md5 {
            info.details.insert("md5".to_owned(), md5.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        info
    }
}

/// What the first file says. It is alone in knowing where the disk's tables are; how large the disk is, it says itself.
fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Set::first(source)?.info(source))
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    if request.access == Access::ReadWrite {
        let error = Error::new(ErrorKind::Unsupported, format!("{} is only read: it is evidence", FORMAT.title));
        return Err(error.with_remedy("convert it to another format"));
    }
    let OpenRequest { source, gate, cache_bytes, .. } = request;
    let set = Set::open(&source, gate)?;
    let mut info = set.info(&source);
    info.file_size = Some(set.file.size());
    if set.names.len() > 1 {
        info.allocated_size = set.allocated_size;
        info.extents = set
            .names
            .iter()
            .map(|(name, size)| ExtentInfo { kind: "SEGMENT".to_owned(), size: *size, file: Some(name.clone()) })
            .collect();
    }
    let device = Arc::new(Chunks::new(set, cache_bytes));
    Ok(Layer { format: &FORMAT, source, device, writer: None, info, parent: None, content_ids: Vec::new() })
}

/// Opens any bytes as an E01 without further files, reads it and checks it.
#[doc(hidden)]
pub fn fuzz_open(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let request = OpenRequest {
        source: source.clone(),
        gate: &ReferenceGate::Deny,
        options: &OptionValues::default(),
        access: Access::ReadOnly,
        cache_bytes: 64 << 10,
    };
    let Ok(layer) = open(request) else { return };
    assert_eq!(describe(&source).expect("what can be opened can be described").virtual_size, layer.device.size());
    properties::device(&*layer.device);
    if layer.device.size() <= 64 << 20 {
        let request = CheckRequest { source, gate: &ReferenceGate::Deny, repair: false };
        check::check(request).expect("what can be opened can be checked");
    }
}
