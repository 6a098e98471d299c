//! Small inputs that reach far: what fuzz targets start from, made by our own writers.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::conversion::{OPERATION, ORDERED, RANDOM, image_of};

/// Operations that write in the first and the second unit, zero, flush, open again and read.
const OPERATIONS: &[[u8; OPERATION]] = &[
    [0, 7, 0, 0, 0, 2],
    [0xc0, 0x81, 0, 2, 0xff, 0x0f],
    [16, 0, 16, 0, 0, 1],
    [17, 0, 0, 8, 0, 4],
    [26, 0, 0, 0, 0, 0],
    [22, 0, 0, 0, 0xff, 0xff],
    [31, 0, 0, 0, 0, 0],
    [5, 0x91, 0xff, 0x0f, 9, 9],
    [12, 0, 0, 1, 0, 1],
];

/// Inputs of the conversion oracle: every kind to every kind.
pub(super) fn operations() -> Vec<Vec<u8>> {
    let kinds = 0..u8::try_from(RANDOM.len().max(ORDERED.len())).unwrap_or(u8::MAX);
    kinds.map(|kind| spelled(kind, kind, &[kind.wrapping_mul(20), 1 + kind / 4, 0])).collect()
}

fn spelled(kind: u8, copy: u8, size: &[u8; 3]) -> Vec<u8> {
    [&[kind, copy][..], size, OPERATIONS.as_flattened()].concat()
}

/// Images of every kind that is written, of some tens of kilobytes.
pub(super) fn images() -> Vec<Vec<u8>> {
    [qcow2(), vmdk(), vec![Vec::new(), b"raw".to_vec()]].concat()
}

/// Images of every kind of qcow2 that is written.
pub(super) fn qcow2() -> Vec<Vec<u8>> {
    written("qcow2")
}

/// Images of every kind of VMDK that is written as one file.
pub(super) fn vmdk() -> Vec<Vec<u8>> {
    written("vmdk")
}

fn written(format: &str) -> Vec<Vec<u8>> {
    let number = |index: usize| u8::try_from(index).unwrap_or(0);
    let of = |table: &[(&str, &str)]| -> Vec<u8> {
        let kinds = table.iter().enumerate().filter(|(_, (name, _))| *name == format);
        kinds.map(|(index, _)| number(index)).collect()
    };
    let random = of(RANDOM).into_iter().map(|kind| image_of(&spelled(kind, 0, &[150, 0, 0]), false));
    let ordered = of(ORDERED).into_iter().map(|kind| image_of(&spelled(0, kind, &[150, 0, 0]), true));
    random.chain(ordered).collect()
}

/// Descriptors of VMDKs: those inside our images, and ones with all that a descriptor may have.
pub(super) fn descriptors() -> Vec<Vec<u8>> {
    let inside = vmdk().into_iter().map(|image| image[512..image.len().min(21 * 512)].to_vec());
    let whole = b"# Disk DescriptorFile\r\nversion=1\r\nencoding=\"windows-1252\"\r\nCID=fffffffe\r\nparentCID=12345678\r\n\
        createType=\"custom\"\r\nparentFileNameHint=\"base.vmdk\"\r\n\r\n# Extent description\r\nRW 2048 SPARSE \"a.vmdk\"\r\n\
        RW 4192256 FLAT \"b-flat.vmdk\" 128\r\nRDONLY 1 ZERO\r\nNOACCESS 7 VMFSSPARSE \"c\"\r\n\r\nddb.adapterType = \"ide\"\r\n\
        ddb.uuid.parent=\"01234567-89ab-cdef-0123-456789abcdef\"\r\n";
    inside.chain([whole.to_vec()]).collect()
}

/// Compressed units, with the room in front.
pub(super) fn units() -> Vec<Vec<u8>> {
    use transload_block::Codec;

    let plain: Vec<u8> = (0..2048_u32).map(|index| (index * index / 97).to_le_bytes()[0]).collect();
    let encode = |codec| {
        let mut stored = Vec::new();
        let mut encoder = crate::codec::Encoder::new(codec, crate::codec::Level::default()).ok()?;
        encoder.encode(&plain, 2 * plain.len(), &mut stored).ok()?;
        stored.insert(0, 8);
        Some(stored)
    };
    [Codec::Deflate, Codec::Zlib, Codec::Zstd].into_iter().filter_map(encode).collect()
}

/// Texts of options.
pub(super) fn options() -> Vec<Vec<u8>> {
    let texts: &[&[u8]] =
        &[b"flag=on,number=18446744073709551615,size=1.5G,text=a,,b", b"flag,size=64k", b"text==,,", b"0x10"];
    texts.iter().map(|text| text.to_vec()).collect()
}

/// Names that references have had.
pub(super) fn names() -> Vec<Vec<u8>> {
    let names: &[&[u8]] = &[
        b"base",
        b"./base",
        b"folder/inner",
        b"../outside",
        b"link-out",
        b"link-in",
        b"link-in/.",
        b"folder-link/outside",
        b"/etc/passwd",
        b"json:{\"driver\":\"file\"}",
        b"nbd://localhost",
        b"file:base",
        b"\\base",
        b"C:\\base",
    ];
    names.iter().map(|name| name.to_vec()).collect()
}

/// A folder with what a reference may meet, below the temporary folder, and the same for all runs.
pub(super) fn folder_with_traps() -> std::io::Result<PathBuf> {
    let root = std::env::temp_dir().join(format!("transload-reference-{}", std::process::id()));
    let folder = root.join("images");
    std::fs::create_dir_all(folder.join("folder"))?;
    std::fs::write(folder.join("base"), "base")?;
    std::fs::write(folder.join("folder").join("inner"), "inner")?;
    std::fs::write(root.join("outside"), "outside")?;
    for (name, target) in [("link-out", "../outside"), ("link-in", "base"), ("folder-link", "..")] {
        match symlink(target, folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(folder)
}
