//! What the first file of a VMDK says by itself: its descriptor, and its header where it is a sparse extent.
//!
//! No other file is touched here; [`extents`](super::extents) opens what the descriptor lists.

use std::path::Path;

use transload_block::{Error, Result};

use super::descriptor::{CID_NONE, Descriptor, ParentId, ParentLink};
use super::error::Fault;
use super::extent_line::{ExtentAccess, ExtentKind, ExtentLine};
use super::hosted::{self, Hosted};
use super::layout::{DESCRIPTOR_MAX, SECTOR};
use super::probe::{Front, front};
use crate::{ContentId, ExtentInfo, ImageInfo, Source};

/// How much of a file is looked at to say what it is.
const HEAD: u64 = 64 << 10;

/// What the first file of a VMDK says, before any other is opened.
#[derive(Debug)]
pub(crate) struct Image {
    pub descriptor: Descriptor,
    /// The header, when the file is itself a sparse extent.
    pub hosted: Option<Hosted>,
    /// Which extent the file itself is.
    pub own: Option<usize>,
}

impl Image {
    /// Reads the header and descriptor of the VMDK in `source`.
    pub(crate) fn read(source: &Source) -> Result<Self> {
        let bytes = source.bytes();
        let mut head = vec![0; usize::try_from(bytes.size().min(HEAD)).expect("at most the head")];
        bytes.read_at(&mut head, 0)?;
        match front(&head, Some(bytes.size())) {
            Some(Front::Hosted) => Self::read_hosted(source),
            Some(Front::Cowd | Front::SeSparse) => Err(bare(source)),
            Some(Front::Descriptor) => Self::read_descriptor(source),
            None => Err(Fault::Magic { what: "VMDK" }.into()),
        }
    }

    fn read_hosted(source: &Source) -> Result<Self> {
        let bytes = &**source.bytes();
        let hosted = hosted::read_header(bytes)?;
        let Some(mut descriptor) = hosted::embedded_descriptor(bytes, &hosted.header)? else {
            return Err(bare(source));
        };
        let capacity = hosted.header.capacity;
        if descriptor.extents.is_empty() {
            descriptor.warnings.push("descriptor: it names no extents; the header's capacity is used".to_owned());
            descriptor.extents.push(ExtentLine {
                access: ExtentAccess::ReadWrite,
                sectors: capacity,
                kind: ExtentKind::Sparse,
                name: Some(file_name(source)),
                offset: 0,
            });
        }
        // A header of capacity 0 is there for its descriptor alone.
        let own = if capacity == 0 { None } else { own_extent(&descriptor.extents, &file_name(source)) };
        Ok(Self { descriptor, hosted: Some(hosted), own })
    }

    fn read_descriptor(source: &Source) -> Result<Self> {
        let bytes = source.bytes();
        let length = bytes.size();
        if length > DESCRIPTOR_MAX {
            return Err(Error::from(Fault::DescriptorTooLong { bytes: length, most: DESCRIPTOR_MAX })
                .with_remedy("if it is a raw disk that begins with a descriptor's text, say so with -f raw"));
        }
        let mut text = vec![0; usize::try_from(length).expect("at most a megabyte")];
        bytes.read_at(&mut text, 0)?;
        let descriptor = Descriptor::parse(&text)?;
        if descriptor.extents.is_empty() {
            return Err(Fault::NoExtents.into());
        }
        Ok(Self { descriptor, hosted: None, own: None })
    }

    /// Why the image cannot be read though it is sound: what it is made of is no file, or may not be read.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = Fault> {
        let disk = self.descriptor.create_type.as_deref().filter(|kind| is_device_type(kind));
        let disk = disk.map(|kind| Fault::DeviceDisk(kind.to_owned()));
        disk.into_iter().chain(self.descriptor.extents.iter().enumerate().filter_map(|(index, extent)| {
            let (index, name) = (index + 1, extent.name.clone().unwrap_or_default());
            match extent.kind {
                ExtentKind::VmfsRdm => Some(Fault::Device { index, name, problem: "a raw device mapping (VMFSRDM)" }),
                ExtentKind::VmfsRaw => Some(Fault::Device { index, name, problem: "a raw device (VMFSRAW)" }),
                _ if is_device_name(&name) => Some(Fault::Device { index, name, problem: "a device of the host" }),
                ExtentKind::Zero => None,
                _ if extent.access == ExtentAccess::None => Some(Fault::NoAccess { index, name }),
                _ => None,
            }
        }))
    }

    /// What the first file says of the image.
    pub(super) fn info(&self, source: &Source) -> Result<ImageInfo> {
        let descriptor = &self.descriptor;
        let header = self.hosted.as_ref().map(|hosted| &hosted.header);
        let own = header.filter(|_| self.own.is_some());
        let mut warnings = descriptor.warnings.clone();
        if let Some(path) = &descriptor.change_track_path {
            warnings.push(format!("changed blocks are tracked in {path:?}, which is not read"));
        }
        Ok(ImageInfo {
            format: super::FORMAT.name.to_owned(),
            variant: Some(self.variant()),
            virtual_size: descriptor.sectors()? * SECTOR,
            file_size: Some(source.bytes().size()),
            allocated_size: source.allocated_size(),
            cluster_size: own.map(super::header::HostedHeader::grain_bytes),
            compression: own.filter(|header| header.compressed).map(|_| "zlib".to_owned()),
            backing_file: descriptor.parent()?.map(|link| parent_shown(&link)),
            extents: descriptor.extents.iter().map(extent_info).collect(),
            dirty: header.is_some_and(|header| header.unclean),
            details: self.details(),
            warnings,
            ..ImageInfo::default()
        })
    }

    /// `createType`, or what a disk without one must be.
    fn variant(&self) -> String {
        match (&self.descriptor.create_type, &self.hosted) {
            (Some(kind), _) => kind.clone(),
            (None, Some(hosted)) if hosted.header.compressed => "streamOptimized".to_owned(),
            (None, Some(_)) => "monolithicSparse".to_owned(),
            (None, None) => "custom".to_owned(),
        }
    }

    fn details(&self) -> std::collections::BTreeMap<String, String> {
        let descriptor = &self.descriptor;
        let ddb = |name: &str| descriptor.ddb.get(name).cloned();
        let parent = descriptor.parent_cid.filter(|cid| *cid != CID_NONE);
        let entries = [
            ("cid", descriptor.cid.map(|cid| format!("{cid:08x}"))),
            ("parent-cid", parent.map(|cid| format!("{cid:08x}"))),
            ("adapter-type", ddb("adaptertype")),
            ("hw-version", ddb("virtualhwversion")),
            ("tools-version", ddb("toolsversion")),
            ("long-content-id", ddb("longcontentid")),
            ("thin-provisioned", ddb("thinprovisioned")),
            ("uuid", ddb("uuid.image").or_else(|| ddb("uuid"))),
            (
                "parent-uuid",
                descriptor.uuid("uuid.parent").filter(|id| *id != [0; 16]).and_then(|_| ddb("uuid.parent")),
            ),
            ("encoding", Some(descriptor.encoding.clone())),
            ("descriptor-version", descriptor.version.map(|version| version.to_string())),
            ("sparse-version", self.hosted.as_ref().map(|hosted| hosted.header.version.to_string())),
        ];
        entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// By what a child may know this disk.
    pub(super) fn content_ids(&self) -> Vec<ContentId> {
        let cid = self.descriptor.cid.filter(|cid| *cid != CID_NONE).map(ContentId::VmdkCid);
        let image = self.descriptor.uuid("uuid.image").filter(|id| *id != [0; 16]);
        let modification = self.descriptor.uuid("uuid.modification");
        let state =
            image.zip(modification).map(|(image, modification)| ContentId::ModifiedUuid { image, modification });
        cid.into_iter().chain(image.map(ContentId::Uuid)).chain(state).collect()
    }
}

/// Which of the extents the file called `name`, a sparse extent with this descriptor embedded, is itself.
///
/// The only one is, whatever its name: files are renamed. Of several it is the one of that name, or else the first.
fn own_extent(extents: &[ExtentLine], name: &str) -> Option<usize> {
    let sparse = |extent: &ExtentLine| extent.kind == ExtentKind::Sparse;
    let named = |extent: &ExtentLine| extent.name.as_deref().is_some_and(|own| base_name(own) == name);
    match extents {
        [only] => sparse(only).then_some(0),
        several => {
            let by_name = several.iter().position(|extent| sparse(extent) && named(extent));
            by_name.or_else(|| several.iter().position(sparse))
        }
    }
}

/// The refusal of an extent that has no descriptor, with the name that the descriptor would usually have.
fn bare(source: &Source) -> Error {
    let remedy = match descriptor_name(&file_name(source)) {
        Some(name) => format!("open the descriptor that lists it, usually {name}"),
        None => "open the descriptor that lists it; if this is the whole disk, write one with this file as its extent"
            .to_owned(),
    };
    Error::from(Fault::BareExtent).with_remedy(remedy)
}

/// The name of the descriptor whose extent is called `name`: `disk-s001.vmdk`, `disk-delta.vmdk`, `disk-flat.vmdk`.
fn descriptor_name(name: &str) -> Option<String> {
    let (stem, ending) = name.rsplit_once('.')?;
    let (disk, suffix) = stem.rsplit_once('-')?;
    let numbered = |first: char| {
        let digits = suffix.strip_prefix(first).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let known = matches!(suffix, "flat" | "delta" | "sesparse") || numbered('s') || numbered('f');
    known.then(|| format!("{disk}.{ending}"))
}

fn file_name(source: &Source) -> String {
    source.path().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn extent_info(extent: &ExtentLine) -> ExtentInfo {
    ExtentInfo {
        kind: extent.kind.as_str().to_owned(),
        size: extent.sectors.saturating_mul(SECTOR),
        file: extent.name.clone().filter(|_| extent.kind != ExtentKind::Zero),
    }
}

/// A `createType` that means a disk of the host.
fn is_device_type(kind: &str) -> bool {
    [
        "fullDevice",
        "partitionedDevice",
        "vmfsRaw",
        "vmfsRDM",
        "vmfsRDMP",
        "vmfsRawDeviceMap",
        "vmfsPassthroughRawDeviceMap",
    ]
    .iter()
    .any(|known| known.eq_ignore_ascii_case(kind))
}

/// A name that means a device of the host, on Windows, Linux, macOS or ESXi.
fn is_device_name(name: &str) -> bool {
    ["\\\\.\\", "\\\\?\\", "//./", "/dev/", "/vmfs/devices/"].iter().any(|prefix| name.starts_with(prefix))
}

/// What stands behind the last separator of a path of any system.
pub(super) fn base_name(path: &str) -> &str {
    let base = path.rsplit(['/', '\\']).next().unwrap_or(path);
    match base.split_once(':') {
        Some((drive, rest)) if drive.len() == 1 => rest,
        _ => base,
    }
}

fn parent_shown(link: &ParentLink) -> String {
    match (&link.hint, link.id) {
        (Some(hint), _) => hint.clone(),
        (None, Some(ParentId::Cid(cid))) => ContentId::VmdkCid(cid).to_string(),
        (None, Some(ParentId::Uuid(uuid))) => ContentId::Uuid(uuid).to_string(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_bare_extents() {
        assert_eq!(descriptor_name("disk-s001.vmdk").as_deref(), Some("disk.vmdk"));
        assert_eq!(descriptor_name("a-b-000001-delta.vmdk").as_deref(), Some("a-b-000001.vmdk"));
        assert_eq!(descriptor_name("disk-sesparse.vmdk").as_deref(), Some("disk.vmdk"));
        assert_eq!(descriptor_name("disk.vmdk"), None);
        assert_eq!(descriptor_name("my-server.vmdk"), None);
    }
}
