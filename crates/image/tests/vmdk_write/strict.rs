//! A streamOptimized reader that forgives nothing: it demands what the strictest of VMware's, VirtualBox's and
//! OpenStack's readers demands, and knows nothing of the writer.

use transload_block::Codec;
use transload_image::codec;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

/// What a sound stream holds.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) footer: bool,
    pub(crate) sectors: u64,
    /// First sector in the disk and content of every grain.
    pub(crate) grains: Vec<(u64, Vec<u8>)>,
    pub(crate) descriptor: String,
}

/// Reads `file`, or panics at the first broken rule.
pub(crate) fn read(file: &[u8]) -> Stream {
    assert_eq!(file.len() % 512, 0, "whole sectors");
    assert_eq!(&file[..4], b"KDMV");
    assert_eq!((u32_at(file, 4), u32_at(file, 8)), (3, 0x30001), "version and flags");
    let sectors = u64_at(file, 12);
    assert_eq!((u64_at(file, 20), u64_at(file, 28), u64_at(file, 36)), (128, 1, 20), "grain, descriptor");
    assert_eq!((u32_at(file, 44), u64_at(file, 48)), (512, 0), "entries of a table, no second directory");
    let gd = u64_at(file, 56);
    let overhead = u64_at(file, 64);
    assert_eq!(&file[72..77], b"\0\n \r\n");
    assert_eq!(file[77..79], [1, 0], "deflate");
    assert!(file[79..512].iter().all(|byte| *byte == 0));
    let text = &file[512..21 * 512];
    let end = text.iter().position(|byte| *byte == 0).unwrap();
    assert!(text[end..].iter().all(|byte| *byte == 0) && text[..end].is_ascii());
    let descriptor = String::from_utf8(text[..end].to_vec()).unwrap();

    let footer = gd == u64::MAX;
    let mut stream = Stream { footer, sectors, grains: Vec::new(), descriptor };
    let mut at = index(overhead * 512);
    let (mut table, mut places) = (Vec::new(), Vec::new());
    let (mut tables, mut directory, mut directory_place, mut foot) = (Vec::new(), None, 0, false);
    loop {
        let marker = &file[at..at + 512];
        let size = u32_at(marker, 8);
        if size > 0 {
            assert!(!foot && directory.is_none(), "a grain behind the tables");
            let lba = u64_at(marker, 0);
            assert!(lba.is_multiple_of(128) && lba < sectors, "grain at sector {lba}");
            assert!(stream.grains.last().is_none_or(|(last, _)| *last < lba), "grains ascend");
            assert!(size <= 66_036, "{size} bytes exceed VirtualBox's buffer");
            let stop = at + 12 + index(size.into());
            let mut grain = vec![0; 65536];
            let length = codec::decode(Codec::Zlib, &file[at + 12..stop], &mut grain).unwrap();
            assert_eq!(length, 65536, "every grain is a whole one");
            assert!(grain.iter().any(|byte| *byte != 0), "zero grains are left out");
            if footer {
                assert!(table.last().is_none_or(|(last, _): &(u64, u64)| last / 65536 == lba / 65536), "group's table");
            }
            table.push((lba, (at / 512) as u64));
            places.push((lba, (at / 512) as u64));
            stream.grains.push((lba, grain));
            let padded = stop.next_multiple_of(512);
            assert!(file[stop..padded].iter().all(|byte| *byte == 0), "padding");
            at = padded;
            continue;
        }
        assert!(marker[16..].iter().all(|byte| *byte == 0));
        let (count, kind) = (u64_at(marker, 0), u32_at(marker, 12));
        at += 512;
        if kind == 0 {
            assert_eq!(count, 0, "the end is a sector of zeroes");
            break;
        }
        assert!(footer, "no table markers in the front layout");
        let body = &file[at..at + index(count * 512)];
        match kind {
            1 => {
                assert_eq!(count, 4);
                check_table(body, &table);
                assert!(!table.is_empty(), "a table without data");
                tables.push((table[0].0 / 65536, (at / 512) as u64));
                table.clear();
            }
            2 => {
                directory = Some(body.to_vec());
                directory_place = (at / 512) as u64;
            }
            3 => {
                assert_eq!(count, 1);
                let mut expected = file[..512].to_vec();
                expected[56..64].copy_from_slice(&directory_place.to_le_bytes());
                assert_eq!(body, expected, "the footer is the header with the directory's place");
                foot = true;
            }
            other => panic!("marker {other}"),
        }
        at += index(count * 512);
    }
    assert_eq!(at, file.len(), "nothing behind the end of the stream");
    assert_eq!(foot, footer);
    check_directory(file, gd, directory.as_deref(), &tables, &places, sectors);
    stream
}

/// The entries of a table are the places of the group's grains and nothing else.
fn check_table(body: &[u8], grains: &[(u64, u64)]) {
    let mut expected = vec![0; 2048];
    for (lba, place) in grains {
        let slot = index(lba / 128 % 512) * 4;
        expected[slot..slot + 4].copy_from_slice(&u32::try_from(*place).unwrap().to_le_bytes());
    }
    assert_eq!(body, expected, "grain table");
}

fn check_directory(
    file: &[u8],
    gd: u64,
    footer: Option<&[u8]>,
    tables: &[(u64, u64)],
    places: &[(u64, u64)],
    sectors: u64,
) {
    let groups = sectors.div_ceil(65536);
    let bytes = index((groups * 4).div_ceil(512).max(1) * 512);
    let front;
    let directory = if let Some(directory) = footer {
        assert_eq!(directory.len(), bytes);
        let mut expected = vec![0; bytes];
        for (group, place) in tables {
            expected[index(*group) * 4..][..4].copy_from_slice(&u32::try_from(*place).unwrap().to_le_bytes());
        }
        assert_eq!(directory, expected, "grain directory");
        directory
    } else {
        assert_eq!(gd, 21);
        front = &file[21 * 512..21 * 512 + bytes];
        front
    };
    for group in 0..groups {
        let grains: Vec<_> = places.iter().filter(|(lba, _)| lba / 65536 == group).copied().collect();
        let place = u64::from(u32_at(directory, index(group * 4)));
        if place == 0 {
            assert!(grains.is_empty(), "group {group} has data and no table");
        } else {
            check_table(&file[index(place * 512)..][..2048], &grains);
        }
    }
}
