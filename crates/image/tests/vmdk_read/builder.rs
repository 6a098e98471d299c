//! Builds VMDK extents byte by byte, from the specification and not with the library's own structures.

/// Writes numbers and bytes at places of a growing file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes(pub Vec<u8>);

impl Bytes {
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[at..end].copy_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// A hosted sparse extent to build. All places are in sectors.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    pub capacity: u64,
    pub grain: u64,
    pub gtes: u32,
    pub version: u32,
    pub flags: u32,
    pub descriptor: Option<String>,
    /// Grains that are stored, each full of one byte.
    pub data: Vec<(u64, u8)>,
    /// Grains whose entry is 1.
    pub zeroed: Vec<u64>,
}

/// Where a built extent has its structures, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub file: Bytes,
    pub directory: usize,
    pub redundant: usize,
    pub first_table: usize,
}

impl Hosted {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            grain: 8,
            gtes: 512,
            version: 1,
            flags: 3,
            descriptor: None,
            data: Vec::new(),
            zeroed: Vec::new(),
        }
    }

    /// With the descriptor of a whole disk.
    pub(crate) fn monolithic(capacity: u64, parent: &str) -> Self {
        let descriptor = descriptor("monolithicSparse", parent, &[&format!("RW {capacity} SPARSE \"x.vmdk\"")]);
        Self { descriptor: Some(descriptor), ..Self::new(capacity) }
    }

    pub(crate) fn build(&self) -> Built {
        let tables = self.capacity.div_ceil(self.grain).div_ceil(self.gtes.into()).max(1);
        let table_sectors = (u64::from(self.gtes) * 4).div_ceil(512);
        let directory_sectors = (tables * 4).div_ceil(512);
        let redundant = 21;
        let directory = redundant + directory_sectors + tables * table_sectors;
        let overhead = directory + directory_sectors + tables * table_sectors;
        let first_grain = overhead.next_multiple_of(self.grain);
        let mut file = Bytes::default();
        file.put(0, b"KDMV");
        file.u32(4, self.version);
        file.u32(8, self.flags);
        file.u64(12, self.capacity);
        file.u64(20, self.grain);
        if let Some(text) = &self.descriptor {
            file.u64(28, 1);
            file.u64(36, 20);
            file.put(512, text.as_bytes());
        }
        file.u32(44, self.gtes);
        file.u64(48, redundant);
        file.u64(56, directory);
        file.u64(64, overhead);
        file.put(73, b"\n \r\n");
        for start in [redundant, directory] {
            for table in 0..tables {
                let place = start + directory_sectors + table * table_sectors;
                file.u32((start * 512 + table * 4) as usize, place as u32);
                file.put((place * 512) as usize, &vec![0; self.gtes as usize * 4]);
            }
            let entry = |grain: u64| {
                let (table, index) = (grain / u64::from(self.gtes), grain % u64::from(self.gtes));
                ((start + directory_sectors + table * table_sectors) * 512 + index * 4) as usize
            };
            for (number, (grain, _)) in self.data.iter().enumerate() {
                file.u32(entry(*grain), (first_grain + number as u64 * self.grain) as u32);
            }
            for grain in &self.zeroed {
                file.u32(entry(*grain), 1);
            }
        }
        for (number, (_, byte)) in self.data.iter().enumerate() {
            let place = ((first_grain + number as u64 * self.grain) * 512) as usize;
            file.put(place, &vec![*byte; (self.grain * 512) as usize]);
        }
        Built {
            file,
            directory: (directory * 512) as usize,
            redundant: (redundant * 512) as usize,
            first_table: ((directory + directory_sectors) * 512) as usize,
        }
    }
}

/// A descriptor of `kind` with these extent lines; `parent` is more lines of the header.
pub(crate) fn descriptor(kind: &str, parent: &str, extents: &[&str]) -> String {
    let parent_cid = if parent.to_ascii_lowercase().contains("parentcid") { "" } else { "parentCID=ffffffff\n" };
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\n{parent_cid}{parent}createType=\"{kind}\"\n\n{}\n\n\
         ddb.adapterType = \"lsilogic\"\n",
        extents.join("\n")
    )
}

/// A COWD extent of `capacity` sectors with grains of `grain` sectors, some of them full of one byte.
pub(crate) fn cowd(capacity: u32, grain: u32, data: &[(u32, u8)]) -> Vec<u8> {
    let tables = capacity.div_ceil(grain).div_ceil(4096);
    let directory_sectors = (tables * 4).div_ceil(512);
    let first_grain = 4 + directory_sectors + tables * 32;
    let mut file = Bytes::default();
    file.put(0, b"COWD");
    for (index, value) in [1, 3, capacity, grain, 4, tables, first_grain].into_iter().enumerate() {
        file.u32(4 + index * 4, value);
    }
    file.put(2047, &[0]);
    for table in 0..tables {
        // Only tables that are used are there.
        if data.iter().any(|(number, _)| number / 4096 == table) {
            let place = 4 + directory_sectors + table * 32;
            file.u32((4 * 512 + table * 4) as usize, place);
            file.put((place * 512) as usize, &[0; 4096 * 4]);
        }
    }
    for (number, (index, byte)) in data.iter().enumerate() {
        let place = first_grain + number as u32 * grain;
        let table = 4 + directory_sectors + index / 4096 * 32;
        file.u32((table * 512 + index % 4096 * 4) as usize, place);
        file.put((place * 512) as usize, &vec![*byte; (grain * 512) as usize]);
    }
    file.0
}

/// What a grain of a seSparse extent is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeGrain {
    Unmapped,
    Zero,
    /// Stored as this grain of the file, full of one byte.
    Stored(u64, u8),
}

/// A seSparse extent of `capacity` sectors.
pub(crate) fn sesparse(capacity: u64, grains: &[(u64, SeGrain)]) -> Bytes {
    let tables = capacity.div_ceil(8).div_ceil(4096);
    let directory_sectors = (tables * 8).div_ceil(512);
    let (volatile, directory) = (1, 8);
    let tables_at = directory + directory_sectors;
    let grains_at = (tables_at + tables * 64).next_multiple_of(8);
    let mut file = Bytes::default();
    file.u64(0, 0xcafe_babe);
    file.u64(8, 0x2_0000_0001);
    file.u64(16, capacity);
    file.u64(24, 8);
    file.u64(32, 64);
    file.u64(80, volatile);
    file.u64(88, 1);
    file.u64(128, directory);
    file.u64(136, directory_sectors);
    file.u64(144, tables_at);
    file.u64(152, tables * 64);
    file.u64(192, grains_at);
    file.put(volatile as usize * 512, &[0; 512]);
    file.u64(volatile as usize * 512, 0xcafe_cafe);
    file.put((directory * 512) as usize, &vec![0; (directory_sectors * 512) as usize]);
    file.put((tables_at * 512) as usize, &vec![0; (tables * 64 * 512) as usize]);
    for (grain, what) in grains {
        // Tables in the file stand in the reverse order of the disk's, which their numbers allow.
        let table = tables - 1 - grain / 4096;
        file.u64((directory * 512 + grain / 4096 * 8) as usize, 0x1000_0000_0000_0000 | table);
        let entry = match *what {
            SeGrain::Unmapped => 1 << 60,
            SeGrain::Zero => 2 << 60,
            SeGrain::Stored(number, byte) => {
                file.put(((grains_at + number * 8) * 512) as usize, &[byte; 4096]);
                3 << 60 | (number & 0xfff) << 48 | number >> 12
            }
        };
        file.u64(((tables_at + table * 64) * 512 + grain % 4096 * 8) as usize, entry);
    }
    file
}

/// A streamOptimized file to build, grains in the order given: sector of the disk, and the bytes stored.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub capacity: u64,
    pub lines: Vec<String>,
    pub grains: Vec<(u64, Vec<u8>)>,
    /// What the marker of each grain says of its length, other than the truth.
    pub claimed: Option<u32>,
    pub progress: bool,
    pub footer: bool,
}

impl Stream {
    pub(crate) fn new(capacity: u64, grains: &[(u64, &[u8])]) -> Self {
        Self {
            capacity,
            lines: vec![format!("RW {capacity} SPARSE \"s.vmdk\"")],
            grains: grains.iter().map(|(lba, plain)| (*lba, zlib(plain))).collect(),
            claimed: None,
            progress: false,
            footer: true,
        }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let lines: Vec<_> = self.lines.iter().map(String::as_str).collect();
        let mut file = Bytes::default();
        file.put(0, &header(self.capacity, if self.footer { u64::MAX } else { 21 }));
        file.put(512, descriptor("streamOptimized", "", &lines).as_bytes());
        // One table is enough for what is built here.
        file.put(64 * 512 - 1, &[0]);
        let mut entries = vec![0u32; 512];
        for (lba, stored) in &self.grains {
            let at = file.0.len();
            if let Some(entry) = entries.get_mut((lba / 128) as usize) {
                *entry = (at / 512) as u32;
            }
            file.u64(at, *lba);
            file.u32(at + 8, self.claimed.unwrap_or(stored.len() as u32));
            file.put(at + 12, stored);
            file.pad();
            if self.progress {
                file.marker(0, 4, &[]);
            }
        }
        let table: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        if self.footer {
            let at = file.marker(4, 1, &table);
            let directory = ((at / 512) as u32).to_le_bytes();
            let mut sector = vec![0; 512];
            sector[..4].copy_from_slice(&directory);
            let at = file.marker(1, 2, &sector);
            let footer = header(self.capacity, (at / 512) as u64);
            file.marker(1, 3, &footer);
        } else {
            file.u32(21 * 512, 22);
            file.put(22 * 512, &table);
        }
        file.marker(0, 0, &[]);
        file.0
    }
}

impl Bytes {
    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// Appends a marker and what it announces, and answers where that begins.
    fn marker(&mut self, sectors: u64, kind: u32, content: &[u8]) -> usize {
        let at = self.0.len();
        self.u64(at, sectors);
        self.u32(at + 12, kind);
        self.put(at + 511, &[0]);
        self.put(at + 512, content);
        self.pad();
        at + 512
    }
}

/// The header of a streamOptimized file whose descriptor is in sector 1 and whose grains begin at sector 64.
fn header(capacity: u64, directory: u64) -> Vec<u8> {
    let mut header = Bytes::default();
    header.put(0, b"KDMV");
    header.u32(4, 3);
    header.u32(8, 0x3_0001);
    header.u64(12, capacity);
    header.u64(20, 128);
    header.u64(28, 1);
    header.u64(36, 20);
    header.u32(44, 512);
    header.u64(56, directory);
    header.u64(64, 64);
    header.put(73, b"\n \r\n\x01");
    header.put(511, &[0]);
    header.0
}

/// A zlib stream of stored blocks: what it holds is plain to see.
pub(crate) fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = plain.chunks(0xffff);
    let last = blocks.len().saturating_sub(1);
    if plain.is_empty() {
        stream.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    for (index, block) in blocks.enumerate() {
        let length = block.len() as u16;
        stream.push(u8::from(index == last));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for byte in plain {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend_from_slice(&(b << 16 | a).to_be_bytes());
    stream
}
