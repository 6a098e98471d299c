//! DMG: Apple's Universal Disk Image Format (UDIF), read only.
//!
//! Apple has published no specification; the format is known from the programs that read it. A trailer (`koly`) at the end of
//! the file says where a property list or a resource fork is. In it are tables (`mish`), most often one for each partition,
//! of chunks of sectors that are stored or packed one by one.
//!
//! ```text
//! trailer.rs ──► tables.rs ──► open.rs ──► device.rs ──► unpack.rs ──► adc.rs, lzfse.rs (entropy.rs, lzvn.rs), libraries
//! ```
//!
//! What is not read is refused by name: images in several segments, and encrypted ones, which are another container.

mod adc;
mod check;
mod device;
mod entropy;
mod lzfse;
mod lzvn;
mod open;
mod tables;
mod trailer;
mod unpack;
mod window;

use std::sync::Arc;

use transload_block::Memory;

use crate::mapped::{row, variant};
use crate::{
    Access, CheckRequest, Format, Match, OpenRequest, OptionValues, ProbeWindow, ReferenceGate, Source, Variant,
    properties,
};

/// The row of UDIF in the table of formats.
pub const FORMAT: Format = Format {
    check: Some(check::check),
    ..row(("dmg", &["udif"], "Apple disk image (DMG)"), &["dmg"], VARIANTS, probe, open::describe, open::open)
};

/// By the names that `hdiutil` has for them.
const VARIANTS: &[Variant] = &[
    variant("UDRO", "stored, zeroes left out"),
    variant("UDZO", "packed with zlib"),
    variant("UDBZ", "packed with bzip2"),
    variant("ULFO", "packed with LZFSE"),
    variant("ULMO", "packed with LZMA"),
    variant("UDCO", "packed with ADC"),
];

/// What an encrypted image begins with: a container of its own, of version 2.
pub(super) const ENCRYPTED: &[u8] = b"encrcdsa\0\0\0\x02";

/// Whether the file ends in a UDIF trailer of version 4, the only one there is.
pub(crate) fn has_trailer(window: &ProbeWindow<'_>) -> bool {
    window.last(trailer::TRAILER).is_some_and(|trailer| trailer.starts_with(b"koly\0\0\0\x04\0\0\x02\0"))
}

fn probe(window: &ProbeWindow<'_>) -> Match {
    if has_trailer(window) || window.head_has(0, ENCRYPTED) { Match::Yes } else { Match::No }
}

/// Opens any bytes as a UDIF image, reads it and checks it: status is true of what is read, and what can be opened can be
/// described and checked.
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
    let Ok(layer) = open::open(request) else { return };
    assert_eq!(layer.info.virtual_size, layer.device.size());
    properties::device(&*layer.device);
    // A table may name the same bytes a million times: what a check reads is in proportion to the disk.
    if layer.device.size() <= 64 << 20 {
        let request = CheckRequest { source, gate: &ReferenceGate::Deny, repair: false };
        check::check(request).expect("what can be opened can be checked");
    }
}

/// Unpacks any bytes with the codec that the first byte names, into as much room as the second and third say.
#[doc(hidden)]
pub fn fuzz_unpack(bytes: &[u8]) {
    let Some(([method, low, high], stored)) = bytes.split_first_chunk() else { return };
    let method =
        [tables::Method::Adc, tables::Method::Lzfse, tables::Method::Bzip2, tables::Method::Lzma, tables::Method::Zlib]
            [usize::from(*method) % 5];
    let mut unit = vec![0; usize::from(u16::from_le_bytes([*low, *high]))];
    if let Err(error) = unpack::unpack(method, stored, &mut unit) {
        use transload_block::ErrorKind;
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{error}");
    }
}
