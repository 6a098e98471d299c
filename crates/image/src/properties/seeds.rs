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

/// Packed chunks of every method, with the method and the room in front.
pub(super) fn chunks() -> Vec<Vec<u8>> {
    let plain = b"A chunk of a disk image, a chunk of a disk image, and what is left.";
    let room = u16::try_from(plain.len()).unwrap_or(0).to_le_bytes();
    // Literals, a copy of 23 bytes from 25 back, and the rest, in each method's own words.
    let adc = [&[0x98][..], &plain[..25], &[0x53, 0, 24], &[0x80 | 18], &plain[48..]].concat();
    let raw = [b"bvx-", &u32::from(u16::from_le_bytes(room)).to_le_bytes()[..], plain, b"bvx$"].concat();
    let short =
        [&[0xe0, 9][..], &plain[..25], &[0x07, 25, 0, 0xf0, 4, 0xe3], &plain[48..51], &[6, 0, 0, 0, 0, 0, 0, 0]]
            .concat();
    let length = u32::try_from(short.len()).unwrap_or(0).to_le_bytes();
    let short = [b"bvxn", &51_u32.to_le_bytes()[..], &length, &short, b"bvx$"].concat();
    let packed = [(0, adc), (1, raw), (1, short), (2, deflated(plain, pack_bzip2)), (3, deflated(plain, pack_xz))];
    packed.into_iter().map(|(method, bytes)| [&[method][..], &room, &bytes].concat()).collect()
}

fn deflated(plain: &[u8], pack: fn(&[u8]) -> std::io::Result<Vec<u8>>) -> Vec<u8> {
    pack(plain).unwrap_or_default()
}

fn pack_bzip2(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

fn pack_xz(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Apple disk images: one with a property list, one with a resource fork.
pub(super) fn apple() -> Vec<Vec<u8>> {
    let mut table = b"mish\0\0\0\x01".to_vec();
    table.resize(200, 0);
    table[16..24].copy_from_slice(&6_u64.to_be_bytes());
    table[64..72].copy_from_slice(&[0, 0, 0, 2, 0, 0, 0, 32]);
    table.extend(4_u32.to_be_bytes());
    for (method, start, sectors, place, length) in
        [(1_u32, 0_u64, 1_u64, 0_u64, 512_u64), (0, 1, 2, 0, 0), (2, 3, 3, 0, 0), (u32::MAX, 6, 0, 0, 0)]
    {
        table.extend(method.to_be_bytes());
        table.extend([0; 4]);
        table.extend([start, sectors, place, length].iter().flat_map(|number| number.to_be_bytes()));
    }
    let text = format!(
        "<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>{}</data></dict></array>\
         </dict></dict></plist>",
        base64(&table)
    );
    let length = u32::try_from(table.len()).unwrap_or(0);
    let mut fork = [16, 20 + length, 4 + length, 50].map(u32::to_be_bytes).concat();
    fork.extend(length.to_be_bytes());
    fork.extend_from_slice(&table);
    fork.resize(fork.len() + 24, 0);
    fork.extend([0, 28, 0, 50, 0, 0]);
    fork.extend(b"blkx\0\0\0\x0a\0\0\xff\xff\0\0\0\0\0\0\0\0");
    fork.resize(fork.len() + 4, 0);
    [(216, text.into_bytes()), (40, fork)].map(|(field, resources)| apple_file(field, &resources)).to_vec()
}

/// A file whose trailer has the place of `resources` at `field`.
fn apple_file(field: usize, resources: &[u8]) -> Vec<u8> {
    let mut trailer = vec![0; 512];
    trailer[..12].copy_from_slice(b"koly\0\0\0\x04\0\0\x02\0");
    trailer[field..field + 8].copy_from_slice(&512_u64.to_be_bytes());
    trailer[field + 8..field + 16].copy_from_slice(&(resources.len() as u64).to_be_bytes());
    trailer[492..500].copy_from_slice(&6_u64.to_be_bytes());
    [&[7; 512][..], resources, &trailer].concat()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digits = word.to_be_bytes();
        let six = [
            digits[1] >> 2,
            digits[1] << 4 & 0x30 | digits[2] >> 4,
            digits[2] << 2 & 0x3c | digits[3] >> 6,
            digits[3] & 63,
        ];
        text.extend(six.iter().take(three.len() + 1).map(|value| char::from(DIGITS[usize::from(*value)])));
    }
    text
}

/// Descriptions of Parallels bundles.
pub(super) fn bundles() -> Vec<Vec<u8>> {
    let text = "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\"><Disk_Parameters>\
        <Disk_size>8</Disk_size><Padding>0</Padding><Encryption><Engine>{00000000-0000-0000-0000-000000000000}</Engine>\
        </Encryption></Disk_Parameters><StorageData><Storage><Start>0</Start><End>8</End><Blocksize>8</Blocksize>\
        <Image><GUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}</GUID><Type>Compressed</Type><File>a&amp;b.hds</File></Image>\
        <Image><GUID>{11111111-6958-40ff-92a7-860e329aab41}</GUID><Type>Plain</Type><File>c</File></Image></Storage>\
        </StorageData><Snapshots><Shot><GUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}</GUID>\
        <ParentGUID>{11111111-6958-40ff-92a7-860e329aab41}</ParentGUID></Shot><Shot>\
        <GUID>{11111111-6958-40ff-92a7-860e329aab41}</GUID><ParentGUID>{00000000-0000-0000-0000-000000000000}</ParentGUID>\
        </Shot></Snapshots></Parallels_disk_image>";
    vec![text.into()]
}

/// Evidence files of two chunks, one of which is deflated, as EnCase and as SMART write them.
pub(super) fn evidence() -> Vec<Vec<u8>> {
    let mut packed = Vec::new();
    let encoder = crate::codec::Encoder::new(transload_block::Codec::Zlib, crate::codec::Level::BALANCED);
    let done = encoder.and_then(|mut encoder| encoder.encode(&[5; 1024], 1024, &mut packed));
    let stored = [&[7; 512][..], &checksum(&[7; 512])].concat();
    let data = if done.is_ok() { [packed.clone(), stored].concat() } else { Vec::new() };
    let second = u32::try_from(packed.len()).unwrap_or(0);
    [false, true].map(|old| evidence_file(old, &data, second)).to_vec()
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crate::codec::adler32(bytes).to_le_bytes()
}

fn evidence_file(old: bool, data: &[u8], second: u32) -> Vec<u8> {
    let mut file = b"EVF\x09\x0d\x0a\xff\0\x01\x01\0\0\0".to_vec();
    let section = |file: &mut Vec<u8>, kind: &[u8], payload: &[u8]| {
        let mut head = kind.to_vec();
        head.resize(16, 0);
        head.extend((file.len() as u64 + 76 + payload.len() as u64).to_le_bytes());
        head.extend((76 + payload.len() as u64).to_le_bytes());
        head.resize(72, 0);
        head.extend(checksum(&head));
        file.extend(head);
        file.extend_from_slice(payload);
    };
    let mut volume = [1, 2, 2, 512, 3, 0].map(u32::to_le_bytes).concat();
    volume.resize(if old { 90 } else { 1048 }, 0);
    volume.extend(checksum(&volume));
    section(&mut file, b"volume", &volume);
    let start = u32::try_from(file.len()).unwrap_or(0) + 76;
    if !old {
        section(&mut file, b"sectors", data);
    }
    let first = if old { start + 24 + 8 } else { start };
    let mut table = [2, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    table.extend(checksum(&table));
    let entries = [first | 1 << 31, first + second].map(u32::to_le_bytes).concat();
    table.extend_from_slice(&entries);
    table.extend_from_slice(if old { data } else { &[] });
    table.extend(if old { Vec::new() } else { checksum(&entries).to_vec() });
    section(&mut file, b"table", &table);
    section(&mut file, b"done", &[]);
    file
}
