//! Builds UDIF images.

use std::io::Write;

use transload_block::Codec;
use transload_image::codec;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Zero,
    Raw,
    Ignore,
    Adc,
    Zlib,
    Bzip2,
    Lzfse,
    Lzma,
}

pub(crate) const PACKED: [Method; 5] = [Method::Adc, Method::Zlib, Method::Bzip2, Method::Lzfse, Method::Lzma];

impl Method {
    fn number(self) -> u32 {
        match self {
            Self::Zero => 0,
            Self::Raw => 1,
            Self::Ignore => 2,
            Self::Adc => 0x8000_0004,
            Self::Zlib => 0x8000_0005,
            Self::Bzip2 => 0x8000_0006,
            Self::Lzfse => 0x8000_0007,
            Self::Lzma => 0x8000_0008,
        }
    }

    pub(crate) fn pack(self, plain: &[u8]) -> Vec<u8> {
        let mut stored = Vec::new();
        match self {
            Self::Zero | Self::Ignore => {}
            Self::Raw => stored = plain.to_vec(),
            Self::Adc => stored = adc(plain),
            Self::Zlib => {
                let mut encoder = codec::Encoder::new(Codec::Zlib, codec::Level::BALANCED).expect("the test's own");
                assert!(encoder.encode(plain, 2 * plain.len() + 1000, &mut stored).expect("the test's own"));
            }
            Self::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(stored, bzip2::Compression::best());
                encoder.write_all(plain).expect("the test's own");
                stored = encoder.finish().expect("the test's own");
            }
            Self::Lzfse => {
                lzfse_rust::encode_bytes(plain, &mut stored).expect("the test's own");
            }
            Self::Lzma => {
                let mut encoder = liblzma::write::XzEncoder::new(stored, 6);
                encoder.write_all(plain).expect("the test's own");
                stored = encoder.finish().expect("the test's own");
            }
        }
        stored
    }
}

/// Literals, and runs of one byte as copies of the byte before them.
fn adc(plain: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let mut at = 0;
    while at < plain.len() {
        let run = |from: usize| plain[from..].iter().take_while(|byte| **byte == plain[from - 1]).count().min(67);
        let length = if at > 0 { run(at) } else { 0 };
        if length >= 18 {
            stored.extend([0x40 | u8::try_from(length - 4).expect("the test's own"), 0, 0]);
            at += length;
        } else if length >= 3 {
            stored.extend([u8::try_from(length - 3).expect("the test's own") << 2, 0]);
            at += length;
        } else {
            let literals = (1..128.min(plain.len() - at)).find(|length| run(at + length) >= 3);
            let literals = literals.unwrap_or(128.min(plain.len() - at));
            stored.push(0x7f + u8::try_from(literals).expect("the test's own"));
            stored.extend_from_slice(&plain[at..at + literals]);
            at += literals;
        }
    }
    stored
}

/// A chunk as its table has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: u32,
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// An image before it is put together, for tests to change.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) data: Vec<u8>,
    /// Where the table begins on the disk, its entries and its checksum.
    pub(crate) tables: Vec<(u64, Vec<Entry>, u32)>,
    pub(crate) sectors: u64,
    pub(crate) resource_fork: bool,
    /// Bytes in front of the data fork.
    pub(crate) offset: usize,
}

impl Image {
    /// An image of `disk`, whose chunks of `sectors` sectors are packed with `methods` in turn; zeroes are left out.
    pub(crate) fn new(disk: &[u8], sectors: usize, methods: &[Method]) -> Self {
        let mut image = Self {
            data: Vec::new(),
            tables: Vec::new(),
            sectors: disk.len() as u64 / 512,
            resource_fork: false,
            offset: 0,
        };
        image.add(disk, 0, sectors, methods);
        image
    }

    /// Adds a table for the part of a disk that begins at sector `first`.
    pub(crate) fn add(&mut self, part: &[u8], first: u64, sectors: usize, methods: &[Method]) {
        let mut entries = Vec::new();
        let mut hasher = crc32fast::Hasher::new();
        for (index, plain) in part.chunks(sectors * 512).enumerate() {
            let zero = plain.iter().all(|byte| *byte == 0);
            let method = match methods[index % methods.len()] {
                _ if zero && index % 2 == 0 => Method::Ignore,
                _ if zero => Method::Zero,
                method => method,
            };
            if method != Method::Ignore {
                hasher.update(plain);
            }
            let stored = method.pack(plain);
            entries.push(Entry {
                kind: method.number(),
                sector: (index * sectors) as u64,
                sectors: plain.len() as u64 / 512,
                offset: self.data.len() as u64,
                length: stored.len() as u64,
            });
            self.data.extend(stored);
        }
        let end = part.len() as u64 / 512;
        entries.push(Entry { kind: 0x7fff_fffe, sector: end, sectors: 0, offset: self.data.len() as u64, length: 0 });
        entries.push(Entry { kind: u32::MAX, sector: end, sectors: 0, offset: self.data.len() as u64, length: 0 });
        self.tables.push((first, entries, hasher.finalize()));
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let tables: Vec<_> = self.tables.iter().map(|(first, entries, sum)| mish(*first, entries, *sum)).collect();
        let resources = if self.resource_fork { fork(&tables) } else { property_list(&tables).into_bytes() };
        let mut file = vec![0xa5; self.offset];
        file.extend_from_slice(&self.data);
        let place = file.len() as u64;
        file.extend_from_slice(&resources);
        let mut trailer = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| trailer[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"koly\0\0\0\x04\0\0\x02\0\0\0\0\x01");
        put(24, &(self.offset as u64).to_be_bytes());
        put(32, &(self.data.len() as u64).to_be_bytes());
        put(if self.resource_fork { 40 } else { 216 }, &place.to_be_bytes());
        put(if self.resource_fork { 48 } else { 224 }, &(resources.len() as u64).to_be_bytes());
        put(56, &[0, 0, 0, 1, 0, 0, 0, 1]);
        put(80, &[0, 0, 0, 2, 0, 0, 0, 32]);
        put(88, &crc32fast::hash(&self.data).to_be_bytes());
        put(352, &[0, 0, 0, 2, 0, 0, 0, 32]);
        let sums: Vec<_> = self.tables.iter().flat_map(|(_, _, sum)| sum.to_be_bytes()).collect();
        put(360, &crc32fast::hash(&sums).to_be_bytes());
        put(488, &1_u32.to_be_bytes());
        put(492, &self.sectors.to_be_bytes());
        file.extend(trailer);
        file
    }
}

fn mish(first: u64, entries: &[Entry], sum: u32) -> Vec<u8> {
    let sectors: u64 = entries.iter().map(|entry| entry.sectors).sum();
    let mut table = b"mish\0\0\0\x01".to_vec();
    table.extend(first.to_be_bytes());
    table.extend(sectors.to_be_bytes());
    table.extend(0_u64.to_be_bytes());
    table.extend(2056_u32.to_be_bytes());
    table.resize(64, 0);
    table.extend([0, 0, 0, 2, 0, 0, 0, 32]);
    table.extend(sum.to_be_bytes());
    table.resize(200, 0);
    table.extend(u32::try_from(entries.len()).expect("the test's own").to_be_bytes());
    for entry in entries {
        table.extend(entry.kind.to_be_bytes());
        table.extend([0; 4]);
        for number in [entry.sector, entry.sectors, entry.offset, entry.length] {
            table.extend(number.to_be_bytes());
        }
    }
    table
}

pub(crate) const DOCTYPE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple \
    Computer//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n";

fn property_list(tables: &[Vec<u8>]) -> String {
    let mut text = format!(
        "{DOCTYPE}<plist version=\"1.0\">\n<dict>\n<key>resource-fork</key>\n<dict>\n<key>blkx</key>\n<array>\n"
    );
    for (index, table) in tables.iter().enumerate() {
        text += &format!(
            "<dict><key>Attributes</key><string>0x0050</string><key>CFName</key><string>part {index}</string><key>Data</key>\n\
             <data>\n{}</data><key>ID</key><string>{index}</string><key>Name</key><string>part (Apple_HFS : {index})</string></dict>\n",
            base64(table)
        );
    }
    text + "</array>\n<key>plst</key><array/>\n</dict>\n</dict>\n</plist>\n"
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (index, three) in bytes.chunks(3).enumerate() {
        if index % 13 == 0 && index > 0 {
            text += "\n\t\t";
        }
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = usize::try_from(word >> (18 - 6 * digit) & 63).expect("the test's own");
            text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text + "\n"
}

/// A resource fork with a `plst` and the `blkx` resources.
fn fork(tables: &[Vec<u8>]) -> Vec<u8> {
    let be16 = |number: usize| u16::try_from(number).expect("the test's own").to_be_bytes();
    let be32 = |number: usize| u32::try_from(number).expect("the test's own").to_be_bytes();
    let mut data = Vec::new();
    let mut places = Vec::new();
    for table in tables {
        places.push(data.len());
        data.extend(be32(table.len()));
        data.extend_from_slice(table);
    }
    places.push(data.len());
    data.extend(be32(2));
    data.extend(b"xx");
    // Two types, the one that is looked for second.
    let mut types = be16(1).to_vec();
    types.extend(b"plst");
    types.extend(be16(0));
    types.extend(be16(18));
    types.extend(b"blkx");
    types.extend(be16(tables.len() - 1));
    types.extend(be16(30));
    let mut references = |id: usize, name: u16, place: usize| {
        types.extend(be16(id));
        types.extend(name.to_be_bytes());
        types.extend(be32(place | 0x5000_0000));
        types.extend([0; 4]);
    };
    references(0, u16::MAX, places[tables.len()]);
    for (index, place) in places.iter().take(tables.len()).enumerate() {
        references(index, 0, *place);
    }
    let mut map = vec![0; 24];
    map.extend(be16(28));
    map.extend(be16(28 + types.len()));
    map.extend(types);
    map.extend(b"\x09some part");
    let mut fork = be32(256).to_vec();
    fork.extend(be32(256 + data.len()));
    fork.extend(be32(data.len()));
    fork.extend(be32(map.len()));
    fork.resize(256, 0);
    [fork, data, map].concat()
}
