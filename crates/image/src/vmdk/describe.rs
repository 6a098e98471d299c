//! The descriptor's text for a new image, line by line as VMware's own tools write it.
//!
//! The text is what OpenStack's format inspector lets through: every line is blank, a comment, `key=value`, `ddb.…` or an
//! extent; the database's keys come as open-vmdk orders them. It says `encoding="UTF-8"` and is ASCII unless a file name
//! that readers need is not.

use std::fmt::Write as _;

use transload_block::{Error, ErrorKind, Result};

use super::options::CreateOptions;
use crate::IdSource;

/// `parentCID` of an image without a parent.
pub(crate) const NO_PARENT_CID: u32 = 0xffff_ffff;

/// The identifiers of an image's content: they change when the content does, and a child remembers the CID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentIdentity {
    /// Never `ffffffff` (no parent) nor `fffffffe` (VMware's mark of a new, empty disk).
    pub(crate) cid: u32,
    /// 32 hexadecimal digits, the last eight of which are the CID.
    pub(crate) long_content_id: String,
}

impl ContentIdentity {
    /// The identifiers for `purpose` out of `ids`.
    pub(crate) fn derive(ids: &IdSource, purpose: &str) -> Self {
        let bytes = ids.bytes(purpose);
        let (prefix, tail) = bytes.split_at(12);
        let mut cid = tail.iter().fold(0, |cid, byte| cid << 8 | u32::from(*byte));
        if cid >= 0xffff_fffe {
            // Two values of four thousand million are taken; any others will do in their place.
            cid -= 2;
        }
        let mut long_content_id = String::with_capacity(32);
        for byte in prefix {
            let _ = write!(long_content_id, "{byte:02x}");
        }
        let _ = write!(long_content_id, "{cid:08x}");
        Self { cid, long_content_id }
    }
}

/// One line of the extent description.
#[derive(Clone, Debug)]
pub(crate) struct ExtentLine {
    /// Sectors of the disk that the file holds.
    pub(crate) sectors: u64,
    /// `SPARSE`, `FLAT` or `VMFS`.
    pub(crate) kind: &'static str,
    /// The file's name, sound for the descriptor.
    pub(crate) file: String,
    /// The first sector in the file, which FLAT extents of hosted products spell out.
    pub(crate) offset: Option<u64>,
}

/// What a new image hangs from.
#[derive(Clone, Debug)]
pub(crate) struct ParentLine {
    pub(crate) cid: u32,
    pub(crate) file: String,
}

/// Everything the text is made of.
#[derive(Debug)]
pub(crate) struct Description<'a> {
    pub(crate) create_type: &'static str,
    pub(crate) capacity: u64,
    pub(crate) identity: &'a ContentIdentity,
    pub(crate) parent: Option<&'a ParentLine>,
    pub(crate) extents: &'a [ExtentLine],
    pub(crate) options: &'a CreateOptions,
}

impl Description<'_> {
    /// The text, with a line feed behind every line.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\n");
        let parent_cid = self.parent.map_or(NO_PARENT_CID, |parent| parent.cid);
        let _ = writeln!(text, "CID={:08x}\nparentCID={parent_cid:08x}", self.identity.cid);
        let _ = writeln!(text, "createType=\"{}\"", self.create_type);
        if let Some(parent) = self.parent {
            let _ = writeln!(text, "parentFileNameHint=\"{}\"", parent.file);
        }
        text.push_str("\n# Extent description\n");
        for extent in self.extents {
            let _ = write!(text, "RW {} {} \"{}\"", extent.sectors, extent.kind, extent.file);
            match extent.offset {
                Some(offset) => {
                    let _ = writeln!(text, " {offset}");
                }
                None => text.push('\n'),
            }
        }
        let (cylinders, heads, sectors) = geometry(self.capacity, &self.options.adapter_type);
        let _ = write!(
            text,
            "\n# The Disk Data Base\n#DDB\n\n\
             ddb.longContentID = \"{}\"\n\
             ddb.virtualHWVersion = \"{}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"{sectors}\"\n\
             ddb.adapterType = \"{}\"\n\
             ddb.toolsVersion = \"{}\"\n",
            self.identity.long_content_id,
            self.options.hardware_version,
            self.options.adapter_type,
            self.options.tools_version,
        );
        text
    }
}

/// Cylinders, heads and sectors that a BIOS may show the guest. An ATA disk has 16 heads and at most 16 383 cylinders
/// however large it is; the SCSI adapters translate to 255 heads.
fn geometry(capacity: u64, adapter_type: &str) -> (u64, u64, u64) {
    let (heads, most) = if adapter_type == "ide" { (16, 16_383) } else { (255, 65_535) };
    (capacity.div_ceil(heads * 63).min(most), heads, 63)
}

/// Takes over a file name that readers will look up, unless the descriptor cannot hold it.
///
/// # Errors
/// `InvalidInput` for a quote or a control character, which the format has no way to write.
pub(crate) fn referable_name(name: &str) -> Result<String> {
    if name.is_empty() || name.contains(|character: char| character == '"' || character.is_control()) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("VMDK descriptor: file name {name:?} is empty or holds a quote or a control character"),
        )
        .with_remedy("choose another name for the target"));
    }
    Ok(name.to_owned())
}

/// The name that a file with an embedded descriptor gives itself. Nobody looks it up, and importers insist on ASCII
/// without a slash (OpenStack), so what does not fit becomes an underscore.
pub(crate) fn own_name(name: &str) -> String {
    let base = name.rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or("disk.vmdk");
    let sound =
        |character: char| (character.is_ascii_graphic() || character == ' ') && !matches!(character, '"' | '\\');
    base.chars().map(|character| if sound(character) { character } else { '_' }).take(200).collect()
}
