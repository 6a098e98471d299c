//! Goes through an archive from member to member, over a device or over bytes that come once.
//!
//! ```text
//! Walk::new(source) ──► next_member() ──► read(buf) … ──► next_member() … ──► None ──► end()
//! ```
//!
//! Whatever the archive says of lengths, no more is read into memory than a header and a name. A member that does not
//! fit its archive is an error when it is met, on a device before its payload is read.

use std::collections::HashSet;
use std::io::{self, Read};

use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::header::{BLOCK, BLOCK_BYTES, Block, Header, pax_records};
use super::member::{MEMBERS_MAX, Member, MemberKind};

/// The most bytes of a long name or of a pax header.
const EXTENSION_MAX: u64 = 64 << 10;

/// Where an archive's bytes come from.
pub trait Forward {
    /// Reads some of the next bytes; 0 at the end.
    ///
    /// # Errors
    /// What the source answers.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Passes over `bytes`, and answers how many there were.
    ///
    /// # Errors
    /// What the source answers.
    fn skip(&mut self, bytes: u64) -> Result<u64>;

    /// The bytes that are left, where that is known.
    fn left(&self) -> Option<u64>;
}

/// An archive on a device, of which only headers are read.
#[derive(Debug)]
pub struct OnDevice<'a> {
    device: &'a dyn BlockRead,
    at: u64,
}

impl<'a> OnDevice<'a> {
    /// From the first byte of `device`.
    #[must_use]
    pub fn new(device: &'a dyn BlockRead) -> Self {
        Self { device, at: 0 }
    }
}

impl Forward for OnDevice<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let left = self.device.size() - self.at;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.device.read_at(&mut buf[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }

    fn skip(&mut self, bytes: u64) -> Result<u64> {
        let count = bytes.min(self.device.size() - self.at);
        self.at += count;
        Ok(count)
    }

    fn left(&self) -> Option<u64> {
        Some(self.device.size() - self.at)
    }
}

/// An archive that comes once, from front to back.
#[derive(Debug)]
pub struct FromReader<R>(pub R);

impl<R: Read> Forward for FromReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.0.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| Error::io("archive: read", error)),
            }
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<u64> {
        let skipped = io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink());
        skipped.map_err(|error| Error::io("archive: read", error))
    }

    fn left(&self) -> Option<u64> {
        None
    }
}

/// How an archive ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveEnd {
    /// Blocks of zeroes behind the last member; two are required.
    pub zero_blocks: u64,
    /// Whether something other than zeroes follows them.
    pub trailing: bool,
}

/// A walk over an archive.
#[derive(Debug)]
pub struct Walk<S> {
    source: S,
    /// Bytes taken from the source.
    at: u64,
    /// Where the next header stands.
    next: u64,
    /// The end of the payload that may be read now.
    payload_end: u64,
    names: HashSet<String>,
    end: Option<ArchiveEnd>,
}

/// What the headers before a member's own say of it.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    pax: bool,
    long_name: bool,
    sparse: bool,
}

impl<S: Forward> Walk<S> {
    /// A walk from the first byte of `source`.
    pub fn new(source: S) -> Self {
        Self { source, at: 0, next: 0, payload_end: 0, names: HashSet::new(), end: None }
    }

    /// How the archive ended, once [`next_member`](Self::next_member) has answered `None`.
    #[must_use]
    pub fn end(&self) -> Option<ArchiveEnd> {
        self.end
    }

    /// The next member, or `None` at the end. What was not read of the one before is passed over.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum, a size that is none or reaches behind the archive, an archive that breaks off, and
    /// two members of one name; `TooLarge` for more than [`MEMBERS_MAX`] members; `Unsupported` for a name that is not
    /// UTF-8; what the source answers.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.pass_to(self.next)?;
        let header_offset = self.at;
        let mut extension = Extension::default();
        loop {
            let block = self.block()?;
            if block.is_none_or(|block| block.iter().all(|byte| *byte == 0)) && header_offset + BLOCK < self.at {
                return Err(broken_off(self.at).context("a name or pax header of no member"));
            }
            let Some(block) = block else { return self.finish(0) };
            if block.iter().all(|byte| *byte == 0) {
                return self.finish(1);
            }
            let at = self.at - BLOCK;
            let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("tar: header at byte {at}: {what}"));
            let header = Header::parse(&block).ok_or_else(|| corrupt("the checksum is wrong"))?;
            let (size, base256) = header.size().ok_or_else(|| corrupt("the size is not a number"))?;
            if matches!(header.kind(), b'x' | b'X' | b'g' | b'L' | b'K') {
                self.extend(&header, size, &mut extension)?;
                continue;
            }
            return self.member(&header, header_offset, size, base256, extension).map(Some);
        }
    }

    /// Reads some of the current member's payload; 0 at its end.
    ///
    /// # Errors
    /// `Corrupt` when the archive breaks off; what the source answers.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.payload_end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buf[..wanted])?;
        if count == 0 {
            return Err(broken_off(self.at));
        }
        self.at += count as u64;
        Ok(count)
    }

    /// Reads the current member's payload, which must not be longer than `most`.
    ///
    /// # Errors
    /// `TooLarge` when it is longer; as [`read`](Self::read).
    pub fn read_all(&mut self, most: u64) -> Result<Vec<u8>> {
        let length = self.payload_end.saturating_sub(self.at);
        if length > most {
            let text = format!("tar: a member of {length} bytes where at most {most} are expected");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        let mut bytes = Vec::new();
        let mut piece = [0; 8192];
        loop {
            match self.read(&mut piece)? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        header_offset: u64,
        size: u64,
        base256: bool,
        extension: Extension,
    ) -> Result<Member> {
        let name = extension.name.unwrap_or_else(|| header.name());
        let name = String::from_utf8(name).map_err(|error| {
            let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Error::new(ErrorKind::Unsupported, format!("tar: the name '{shown}' is not UTF-8"))
        })?;
        let kind = match header.kind() {
            _ if extension.sparse => MemberKind::Sparse,
            // Before POSIX, a folder was a file whose name ends so.
            0 | b'0' | b'7' if name.ends_with('/') => MemberKind::Folder,
            0 | b'0' | b'7' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::SymbolicLink,
            b'5' => MemberKind::Folder,
            b'S' => MemberKind::Sparse,
            other => MemberKind::Other(other),
        };
        let size = extension.size.unwrap_or(size);
        // Links, folders and devices have no payload, whatever their size says.
        let payload = if matches!(kind, MemberKind::File | MemberKind::Sparse) { size } else { 0 };
        self.take_payload(payload, &name)?;
        let member = Member {
            name,
            kind,
            size: payload,
            header_offset,
            offset: self.at,
            dialect: header.dialect(),
            pax: extension.pax,
            base256,
            long_name: extension.long_name,
        };
        if self.names.len() == MEMBERS_MAX {
            let text = format!("tar: more than {MEMBERS_MAX} members");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        if !self.names.insert(member.plain_name().to_owned()) {
            let text = format!("tar: there are two members '{}'", member.name);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        Ok(member)
    }

    /// Sets where a payload of `size` bytes ends and the next header stands.
    fn take_payload(&mut self, size: u64, name: &str) -> Result<()> {
        let end = self.at.checked_add(size);
        let next = end.and_then(|end| end.checked_next_multiple_of(BLOCK));
        let (Some(end), Some(next)) = (end, next) else {
            let text = format!("tar: member '{name}' of {size} bytes at byte {}", self.at);
            return Err(Error::new(ErrorKind::Corrupt, text));
        };
        if let Some(left) = self.source.left().filter(|left| *left < size) {
            let text =
                format!("tar: member '{name}' of {size} bytes begins at byte {}, and {left} bytes follow", self.at);
            return Err(Error::new(ErrorKind::Corrupt, text).with_remedy("fetch the file again: it breaks off"));
        }
        (self.payload_end, self.next) = (end, next);
        Ok(())
    }

    /// Takes in what a header says of the member behind it.
    fn extend(&mut self, header: &Header, size: u64, extension: &mut Extension) -> Result<()> {
        if size > EXTENSION_MAX {
            let text = format!("tar: a name or pax header of {size} bytes, at most {EXTENSION_MAX} are read");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        self.take_payload(size, "(pax or GNU header)")?;
        let mut payload = self.read_all(EXTENSION_MAX)?;
        self.pass_to(self.next)?;
        match header.kind() {
            b'L' => {
                payload.truncate(payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len()));
                (extension.name, extension.long_name) = (Some(payload), true);
                Ok(())
            }
            // The target of a link, which is refused with the link.
            b'K' => Ok(()),
            kind => extension.pax_header(&payload, kind == b'g'),
        }
    }

    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK_BYTES];
        let mut have = 0;
        while have < block.len() {
            match self.source.read(&mut block[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(broken_off(self.at + have as u64)),
                count => have += count,
            }
        }
        self.at += BLOCK;
        Ok(Some(block))
    }

    fn pass_to(&mut self, to: u64) -> Result<()> {
        let distance = to.saturating_sub(self.at);
        let passed = self.source.skip(distance)?;
        self.at += passed;
        // The padding of the last member may be missing: what it is of is whole.
        if passed < distance && self.at < self.payload_end {
            return Err(broken_off(self.at));
        }
        Ok(())
    }

    /// Looks at what follows the end, of which `zero_blocks` were seen.
    fn finish(&mut self, zero_blocks: u64) -> Result<Option<Member>> {
        /// What is looked at behind the end; the rest of a record of any usual size is zeroes within it.
        const LOOK: u64 = 16 << 20;
        let mut end = ArchiveEnd { zero_blocks, trailing: false };
        let mut piece = [0; 8192];
        let (mut seen, mut zeroes) = (0, 0);
        while zero_blocks > 0 && seen < LOOK {
            let count = self.source.read(&mut piece)?;
            if count == 0 {
                break;
            }
            seen += count as u64;
            if piece[..count].iter().any(|byte| *byte != 0) {
                end.trailing = true;
                break;
            }
            zeroes += count as u64;
        }
        end.zero_blocks += zeroes / BLOCK;
        self.end = Some(end);
        Ok(None)
    }
}

impl Extension {
    fn pax_header(&mut self, payload: &[u8], global: bool) -> Result<()> {
        for (key, value) in pax_records(payload)? {
            match key {
                // For all members that follow, these make no sense.
                b"path" | b"size" if global => {
                    return Err(Error::new(ErrorKind::Corrupt, "tar: a global pax header names a path or a size"));
                }
                b"path" => self.name = Some(value.to_vec()),
                b"size" => {
                    let size = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                    self.size =
                        Some(size.ok_or_else(|| {
                            Error::new(ErrorKind::Corrupt, "tar: pax header: the size is not a number")
                        })?);
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        self.pax = true;
        Ok(())
    }
}

fn broken_off(at: u64) -> Error {
    let text = format!("tar: the archive breaks off at byte {at}");
    Error::new(ErrorKind::Corrupt, text).with_remedy("fetch the file again: it breaks off")
}
