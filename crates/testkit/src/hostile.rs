//! Images that lie, made by damaging those of `qemu-img`: for every way in to be tried on.

mod blocks;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use transload_block::{Codec, ErrorKind};
use transload_image::codec::{Encoder, Level};

use crate::disks::{Fill, Sample};
use crate::witness;

/// An image that lies.
#[derive(Clone, Debug)]
pub struct Lie {
    /// What about.
    pub name: String,
    /// The image.
    pub path: PathBuf,
    /// What reading all of it must end in.
    pub kind: ErrorKind,
}

/// Makes all of them, in folders below `folder`.
///
/// # Panics
/// When the operating system or `qemu-img` refuses.
#[must_use]
pub fn lies(folder: &Path) -> Vec<Lie> {
    [
        qcow2_headers(folder),
        chains(folder),
        vmdk_headers(folder),
        streams(folder),
        descriptors(folder),
        blocks::vhd(folder),
        blocks::vhdx(folder),
        blocks::vdi(folder),
    ]
    .concat()
}

/// The file that the images are forbidden to reach; it stands beside their folders.
pub const SECRET: &str = "secret.raw";

fn subfolder(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(&path).expect("a folder in a scratch folder");
    fs::write(folder.join(SECRET), [b's'; 4096]).expect("a file in a scratch folder");
    path
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a file in a scratch folder");
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file that was just made")
}

/// 2 MiB of text, and a hole, converted by `qemu-img`.
fn sound(folder: &Path, format: &str, options: &str, compressed: bool) -> Vec<u8> {
    let (raw, image) = (folder.join("sound.raw"), folder.join("sound.img"));
    Sample { name: "", size: 4 << 20, parts: vec![(0..2 << 20, Fill::Text)] }.save(&raw);
    let mut arguments = vec!["convert", "-q", "-f", "raw", "-O", format];
    arguments.extend((!options.is_empty()).then_some(["-o", options]).into_iter().flatten());
    arguments.extend(compressed.then_some("-c"));
    let paths = [raw.to_string_lossy(), image.to_string_lossy()];
    arguments.extend(paths.iter().map(AsRef::as_ref));
    witness::qemu_img(arguments);
    let bytes = read(&image);
    fs::remove_file(raw).and_then(|()| fs::remove_file(image)).expect("files that were just made");
    bytes
}

fn be64(bytes: &[u8], at: u64) -> u64 {
    let at = index(at);
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("the images are small")
}

/// Bytes to put at a place.
type Patch<'a> = (u64, &'a [u8]);

/// What is lied about, what it ends in, and the bytes to put at places.
type Case = (&'static str, ErrorKind, Vec<(u64, Vec<u8>)>);

fn patched(sound: &[u8], patches: &[Patch<'_>]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for (at, patch) in patches {
        bytes[index(*at)..index(*at) + patch.len()].copy_from_slice(patch);
    }
    bytes
}

fn lie(name: impl Into<String>, path: PathBuf, kind: ErrorKind) -> Lie {
    Lie { name: name.into(), path, kind }
}

/// Headers and tables of a qcow2. The places are those of the specification's header; all numbers are big-endian.
fn qcow2_headers(folder: &Path) -> Vec<Lie> {
    use ErrorKind::{Corrupt, TooLarge, Unsupported};
    let folder = subfolder(folder, "qcow2");
    let plain = sound(&folder, "qcow2", "", false);
    let (l1, l2) = (be64(&plain, 40), be64(&plain, be64(&plain, 40)) & 0x00ff_ffff_ffff_fe00);
    let (refcounts, end) = (be64(&plain, 48), plain.len() as u64);
    let copied = 1_u64 << 63;
    let number = |value: u64| value.to_be_bytes();
    let cases: Vec<Case> = vec![
        ("version 4", Unsupported, vec![(4, vec![0, 0, 0, 4])]),
        ("cluster bits 0", Corrupt, vec![(20, vec![0; 4])]),
        ("cluster bits 63", Corrupt, vec![(20, vec![0, 0, 0, 63])]),
        ("cluster bits of everything", Corrupt, vec![(20, vec![0xff; 4])]),
        ("a disk of 16 EiB", Corrupt, vec![(24, vec![0xff; 8])]),
        ("an L1 table of 32 GiB", Corrupt, vec![(36, vec![0xff; 4])]),
        (
            "a disk of petabytes and an L1 table to match",
            Corrupt,
            vec![(24, number(1 << 60).to_vec()), (36, vec![0x7f, 0xff, 0xff, 0xff])],
        ),
        ("no L1 table", Corrupt, vec![(36, vec![0; 4])]),
        ("an L1 table that is the header", Corrupt, vec![(40, vec![0; 8])]),
        ("an L1 table behind the file", Corrupt, vec![(40, number(1 << 50).to_vec())]),
        ("an L1 table at the end of 64 bits", Corrupt, vec![(40, number(u64::MAX - 0xffff).to_vec())]),
        ("a refcount table that is the L1 table", Corrupt, vec![(48, number(l1).to_vec())]),
        ("a refcount table of no clusters", Corrupt, vec![(56, vec![0; 4])]),
        ("a refcount table of 2^32 clusters", Corrupt, vec![(56, vec![0xff; 4])]),
        ("refcount order 63", Corrupt, vec![(96, vec![0, 0, 0, 63])]),
        ("2^32 snapshots", TooLarge, vec![(60, vec![0xff; 4])]),
        ("a header of 4 GiB", Corrupt, vec![(100, vec![0xff; 4])]),
        ("AES", Unsupported, vec![(32, vec![0, 0, 0, 1])]),
        ("LUKS", Unsupported, vec![(32, vec![0, 0, 0, 2])]),
        ("a feature that nobody knows", Unsupported, vec![(72, number(1 << 50).to_vec())]),
        ("a data file without a name", Unsupported, vec![(72, number(4).to_vec())]),
        (
            "an L2 table that is the L1 table",
            Corrupt,
            vec![(l1, number(l1 | copied).to_vec()), (l1 + 8, number(2).to_vec())],
        ),
        ("an L2 table behind the file", Corrupt, vec![(l1, number(1 << 50 | copied).to_vec())]),
        ("an L2 table at an odd place", Corrupt, vec![(l1, number((l2 + 512) | copied).to_vec())]),
        ("a cluster behind the file", Corrupt, vec![(l2, number(1 << 55 | copied).to_vec())]),
        ("a cluster at an odd place", Corrupt, vec![(l2, number(0x5_0200 | copied).to_vec())]),
        ("a compressed cluster behind the file", Corrupt, vec![(l2, number(1 << 62 | 1 << 50).to_vec())]),
        ("a compressed cluster that is the refcount table", Corrupt, vec![(l2, number(1 << 62 | refcounts).to_vec())]),
        (
            "a compressed cluster half behind the file",
            Corrupt,
            vec![(l2, number(1 << 62 | 0x7f << 54 | (end - 512)).to_vec())],
        ),
    ];
    let mut lies = Vec::new();
    for (number, (name, kind, patches)) in cases.iter().enumerate() {
        let path = folder.join(format!("{number}.qcow2"));
        let patches: Vec<_> = patches.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        write(&path, &patched(&plain, &patches));
        lies.push(lie(format!("qcow2: {name}"), path, *kind));
    }
    for (name, length) in [("nothing behind the magic", 8), ("half a header", 60)] {
        let path = folder.join(format!("{length}.qcow2"));
        write(&path, &plain[..length]);
        lies.push(lie(format!("qcow2: {name}"), path, Corrupt));
    }
    lies.push(petabyte_l1(&folder, &plain));
    lies.extend(inflating(&folder));
    lies
}

/// An L1 table that lies whole in the file, which is one hole, for a disk of more than any format allows.
fn petabyte_l1(folder: &Path, plain: &[u8]) -> Lie {
    let path = folder.join("petabytes.qcow2");
    let entries: u32 = 1 << 31;
    let patches: [Patch<'_>; 3] =
        [(24, &(1_u64 << 60).to_be_bytes()), (36, &entries.to_be_bytes()), (40, &(1_u64 << 32).to_be_bytes())];
    write(&path, &patched(plain, &patches));
    File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 36)).expect("a sparse file");
    lie("qcow2: an L1 table of petabytes in a hole", path, ErrorKind::TooLarge)
}

/// Compressed clusters that hold less than a cluster. More is no lie: what is left over is not looked at.
fn inflating(folder: &Path) -> Vec<Lie> {
    let sound = sound(folder, "qcow2", "", true);
    let l2 = be64(&sound, be64(&sound, 40)) & 0x00ff_ffff_ffff_fe00;
    // Nine bits count sectors, the rest is the place.
    let place = be64(&sound, l2) & ((1 << 54) - 1);
    let short = encoded(Codec::Deflate, 1000);
    let path = folder.join("short.qcow2");
    write(&path, &patched(&sound, &[(place, &short)]));
    let garbage = folder.join("garbage.qcow2");
    write(&garbage, &patched(&sound, &[(place, &[0xff; 64])]));
    vec![
        lie("qcow2: a cluster that inflates to less", path, ErrorKind::Corrupt),
        lie("qcow2: a cluster that does not inflate", garbage, ErrorKind::Corrupt),
    ]
}

/// This many zeroes, compressed.
fn encoded(codec: Codec, zeroes: usize) -> Vec<u8> {
    let mut stored = Vec::new();
    let encoded =
        Encoder::new(codec, Level::MAX).and_then(|mut encoder| encoder.encode(&vec![0; zeroes], 1 << 20, &mut stored));
    assert!(encoded.expect("zeroes are compressed"), "zeroes take more than 1 MiB");
    stored
}

/// Backing files that form loops, go too deep, or lead out of the folder.
fn chains(folder: &Path) -> Vec<Lie> {
    use ErrorKind::{Corrupt, Denied, TooLarge};
    let jail = subfolder(folder, "chains");
    let place = |name: &str| jail.join(name);
    let overlay = |name: &str, backing: &str| {
        let arguments = ["create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", "{}", "1M"];
        let path = place(name);
        witness::qemu_img(
            arguments.map(|argument| if argument == "{}" { path.as_os_str() } else { argument.as_ref() }),
        );
    };
    let mut lies = Vec::new();
    overlay("itself.qcow2", "itself.qcow2");
    lies.push(lie("chain: an image on itself", place("itself.qcow2"), Corrupt));
    overlay("one.qcow2", "two.qcow2");
    overlay("two.qcow2", "three.qcow2");
    overlay("three.qcow2", "one.qcow2");
    lies.push(lie("chain: a loop of three", place("one.qcow2"), Corrupt));
    overlay("linked.qcow2", "symlink.qcow2");
    symlink("linked.qcow2", place("symlink.qcow2")).expect("a symbolic link");
    lies.push(lie("chain: a loop by a symbolic link", place("linked.qcow2"), Corrupt));
    overlay("hard.qcow2", "harder.qcow2");
    fs::hard_link(place("hard.qcow2"), place("harder.qcow2")).expect("a hard link");
    lies.push(lie("chain: a loop by a hard link", place("hard.qcow2"), Corrupt));
    for depth in 0..17 {
        overlay(&format!("deep{depth}.qcow2"), &format!("deep{}.qcow2", depth + 1));
    }
    witness::create(&place("deep17.qcow2"), "qcow2", "", 1 << 20);
    lies.push(lie("chain: seventeen deep", place("deep0.qcow2"), TooLarge));
    let secret = format!("../{SECRET}");
    symlink(&secret, place("out.raw")).expect("a symbolic link");
    witness::must("mkfifo", [place("fifo.raw")]);
    let absolute = folder.join(SECRET).to_string_lossy().into_owned();
    let outside = ["/etc/passwd", &absolute, &secret, "out.raw", "fifo.raw", "/dev/zero", "nbd://127.0.0.1:1/x"];
    let json = "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}";
    for (number, name) in outside.into_iter().chain([json, "file:base.raw", "."]).enumerate() {
        // qemu-img would look at some of these names: they are put into the header behind its back.
        let image = format!("outside{number}.qcow2");
        overlay(&image, "placeholder");
        let mut bytes = read(&place(&image));
        let at = be64(&bytes, 8);
        bytes[16..20].copy_from_slice(&u32::try_from(name.len()).expect("short").to_be_bytes());
        bytes[index(at)..index(at) + name.len()].copy_from_slice(name.as_bytes());
        write(&place(&image), &bytes);
        lies.push(lie(format!("chain: backing file {name}"), place(&image), Denied));
    }
    lies
}

/// Headers and tables of a sparse VMDK. All numbers are little-endian.
fn vmdk_headers(folder: &Path) -> Vec<Lie> {
    use ErrorKind::{Corrupt, TooLarge, Unsupported};
    let folder = subfolder(folder, "vmdk");
    let plain = sound(&folder, "vmdk", "", false);
    let le64 = |at: usize| u64::from_le_bytes(plain[at..at + 8].try_into().expect("8 bytes"));
    let le32 = |at: u64| u32::from_le_bytes(plain[index(at)..index(at) + 4].try_into().expect("4 bytes"));
    let (backup, directory) = (le64(48) * 512, le64(56) * 512);
    let (tables, backups) = (u64::from(le32(directory)) * 512, u64::from(le32(backup)) * 512);
    let grain = |sector: u32| vec![(tables, sector.to_le_bytes().to_vec()), (backups, sector.to_le_bytes().to_vec())];
    let both = |sector: u32| vec![(directory, sector.to_le_bytes().to_vec()), (backup, sector.to_le_bytes().to_vec())];
    let long = |value: u64| value.to_le_bytes().to_vec();
    let cases: Vec<Case> = vec![
        ("version 9", Unsupported, vec![(4, vec![9, 0, 0, 0])]),
        ("a capacity of everything", Corrupt, vec![(12, long(u64::MAX))]),
        ("grains of nothing", Corrupt, vec![(20, long(0))]),
        ("grains of 2^63 sectors", Unsupported, vec![(20, long(1 << 63))]),
        ("grains of three sectors", Corrupt, vec![(20, long(3))]),
        ("tables of nothing", Corrupt, vec![(44, vec![0; 4])]),
        ("tables of 2^32 - 1 entries", Corrupt, vec![(44, vec![0xff; 4])]),
        ("a descriptor of everything", TooLarge, vec![(36, long(u64::MAX))]),
        ("a descriptor behind the file", Corrupt, vec![(28, long(1 << 40))]),
        ("directories behind the file", Corrupt, vec![(56, long(1 << 40)), (48, long(1 << 40))]),
        ("a directory that only a footer knows", Corrupt, vec![(56, long(u64::MAX))]),
        ("tables behind the file", Corrupt, both(u32::MAX)),
        ("a grain behind the file", Corrupt, grain(u32::MAX)),
        ("a grain that is the descriptor", Corrupt, grain(1)),
        ("newlines that an FTP client made", Corrupt, vec![(73, b"\n\n\r\n".to_vec())]),
    ];
    let lies = cases.iter().enumerate().map(|(number, (name, kind, patches))| {
        let path = folder.join(format!("{number}.vmdk"));
        let patches: Vec<_> = patches.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        write(&path, &patched(&plain, &patches));
        lie(format!("vmdk: {name}"), path, *kind)
    });
    lies.collect()
}

/// Grains of a streamOptimized VMDK that inflate to other than a grain.
fn streams(folder: &Path) -> Vec<Lie> {
    let folder = subfolder(folder, "streams");
    let sound = sound(&folder, "vmdk", "subformat=streamOptimized", false);
    let first = {
        let directory = u64::from_le_bytes(sound[56..64].try_into().expect("8 bytes")) * 512;
        let entry = |at: u64| u32::from_le_bytes(sound[index(at)..index(at) + 4].try_into().expect("4 bytes"));
        u64::from(entry(u64::from(entry(directory)) * 512)) * 512
    };
    let with_grain = |name: &str, stored: &[u8], claimed: u32| {
        let path = folder.join(format!("{name}.vmdk"));
        write(&path, &patched(&sound, &[(first + 8, &claimed.to_le_bytes()), (first + 12, stored)]));
        lie(format!("stream: a grain that {name}"), path, ErrorKind::Corrupt)
    };
    let length = |stored: &[u8]| u32::try_from(stored.len()).expect("small");
    let (less, more, bomb) = (encoded(Codec::Zlib, 1000), encoded(Codec::Zlib, 65_537), encoded(Codec::Zlib, 8 << 20));
    let mut lies = vec![
        with_grain("inflates to less", &less, length(&less)),
        with_grain("inflates to a byte more", &more, length(&more)),
        with_grain("inflates to megabytes", &bomb, length(&bomb)),
        with_grain("has no bytes", &[], 0),
        with_grain("claims 4 GiB", &less, u32::MAX),
        with_grain("is no stream", &[0xff; 100], 100),
    ];
    let path = folder.join("another.vmdk");
    write(&path, &patched(&sound, &[(first, &128_u64.to_le_bytes())]));
    lies.push(lie("stream: a grain that says it is another", path, ErrorKind::Corrupt));
    lies
}

/// Descriptors that are too long, or name what is none of their business.
fn descriptors(folder: &Path) -> Vec<Lie> {
    use ErrorKind::{Corrupt, Denied, Io, TooLarge, Unsupported};
    let jail = subfolder(folder, "descriptors");
    write(&jail.join("flat"), &[7; 1024]);
    symlink(format!("../{SECRET}"), jail.join("link")).expect("a symbolic link");
    witness::must("mkfifo", [jail.join("fifo")]);
    let absolute = format!("RW 2 FLAT \"{}\" 0", folder.join(SECRET).display());
    let outside = format!("RW 2 FLAT \"../{SECRET}\" 0");
    let lines: Vec<(&str, ErrorKind)> = vec![
        ("RW 2 FLAT \"/etc/passwd\" 0", Denied),
        (&absolute, Denied),
        (&outside, Denied),
        ("RW 2 FLAT \"json:{\"driver\":\"null-co\"}\" 0", Denied),
        ("RW 2 SPARSE \"nbd://127.0.0.1:1/x\"", Denied),
        ("RW 2 FLAT \"link\" 0", Denied),
        ("RW 2 FLAT \"fifo\" 0", Denied),
        ("RW 2 FLAT \".\" 0", Denied),
        ("RW 2 FLAT \"/dev/mem\" 0", Unsupported),
        ("RW 2 FLAT \"absent\" 0", Io),
        ("RW 18446744073709551615 FLAT \"flat\" 0", Corrupt),
        ("RW 2 FLAT \"flat\" 18446744073709551615", Corrupt),
        ("RW 3 FLAT \"flat\" 0", Corrupt),
        ("RW 18014398509481984 ZERO\nRW 18014398509481984 ZERO", Corrupt),
    ];
    let mut lies = Vec::new();
    for (number, (line, kind)) in lines.into_iter().enumerate() {
        let path = jail.join(format!("{number}.vmdk"));
        write(&path, descriptor(line).as_bytes());
        lies.push(lie(format!("descriptor: {line}"), path, kind));
    }
    let own = jail.join("own.vmdk");
    write(&own, descriptor("RW 1 SPARSE \"own.vmdk\"").as_bytes());
    lies.push(lie("descriptor: an extent that is the descriptor", own, Corrupt));
    let megabytes = jail.join("megabytes.vmdk");
    write(&megabytes, descriptor(&"RW 1 ZERO\n".repeat(1 << 18)).as_bytes());
    lies.push(lie("descriptor: of megabytes", megabytes, TooLarge));
    lies
}

fn descriptor(extents: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"custom\"\n\n{extents}\n\n\
         ddb.adapterType = \"lsilogic\"\n"
    )
}

/// Puts bytes into a file that is there.
///
/// # Panics
/// When the operating system refuses.
pub fn damage(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("a file to damage");
    file.write_all_at(bytes, offset).expect("a file to damage");
}
