//! The files of a disk, opened through the gate, as one.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockRead, Concat, Error, ErrorKind, Result};

use super::refuse_relatives;
use super::sections::{self, Media, Segment};
use crate::mapped::corrupt;
use crate::{Access, ReferenceGate, Source};

/// The most files. They are all open at once.
const SEGMENTS_MAX: usize = 4096;

/// A disk: its files behind each other, and the tables of all of them.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) media: Media,
    pub(super) file: Arc<dyn BlockRead>,
    /// Ascending by chunk, without gaps.
    pub(super) groups: Vec<Group>,
    pub(super) md5: Option<[u8; 16]>,
    /// The files that were opened, and their lengths.
    pub(super) names: Vec<(String, u64)>,
    pub(super) allocated_size: Option<u64>,
    pub(super) warnings: Vec<String>,
}

/// A table. Places are in the joined files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The number of its first chunk.
    pub(super) first: u64,
    /// How many chunks it has, at least one.
    pub(super) chunks: u64,
    pub(super) entries_at: u64,
    pub(super) base: u64,
    pub(super) data_end: u64,
}

impl Set {
    /// What the file in `source` says for itself.
    pub(super) fn first(source: &Source) -> Result<Self> {
        let file = Arc::clone(source.bytes());
        refuse_relatives(&*file)?;
        match sections::number(&*file)? {
            1 => {}
            number => {
                let what = format!("this is file {number} of an Expert Witness image in several files");
                return Err(Error::new(ErrorKind::InvalidInput, what).with_remedy("give the first one"));
            }
        }
        let segment = Segment::read(&*file)?;
        let media = segment.media.ok_or_else(|| corrupt("EWF sections: there is no volume".to_owned()))?;
        let name = source.path().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
        let mut set = Self {
            media,
            names: vec![(name.to_owned(), file.size())],
            allocated_size: source.allocated_size(),
            file,
            groups: Vec::new(),
            md5: None,
            warnings: Vec::new(),
        };
        set.add(segment, 0)?;
        Ok(set)
    }

    /// Opens the file in `source` and all that follow it.
    pub(super) fn open(source: &Source, gate: &ReferenceGate) -> Result<Self> {
        let mut set = Self::first(source)?;
        let mut files = vec![Arc::clone(source.bytes())];
        let mut start = set.file.size();
        let mut goes_on = Segment::read(&*set.file)?.goes_on;
        while goes_on {
            let number = files.len() + 1;
            if number > SEGMENTS_MAX {
                let what = format!("EWF: more than {SEGMENTS_MAX} files");
                return Err(Error::new(ErrorKind::TooLarge, what));
            }
            let name = segment_name(&set.names[0].0, number).ok_or_else(|| {
                let what = format!(
                    "EWF: file {number} of the image is missing: the first one has no name that it could follow"
                );
                Error::new(ErrorKind::InvalidInput, what).with_remedy("name the first file with the ending .E01")
            })?;
            let next = gate.open(source, &name, Access::ReadOnly)?;
            let file = Arc::clone(next.bytes());
            let segment = Segment::read(&*file).and_then(|segment| set.belongs(&*file, number, segment));
            let segment = segment.map_err(|error| error.context(next.display_name()))?;
            goes_on = segment.goes_on;
            set.add(segment, start)?;
            start = start.saturating_add(file.size());
            set.allocated_size =
                set.allocated_size.zip(next.allocated_size()).map(|(sum, more)| sum.saturating_add(more));
            set.names.push((name, file.size()));
            files.push(file);
        }
        set.file = Arc::new(Concat::new(files)?);
        let (wanted, found) = (set.media.size.div_ceil(set.media.chunk), set.chunks());
        if found < wanted {
            return Err(corrupt(format!("EWF tables: the disk has {wanted} chunks, they list {found}")));
        }
        Ok(set)
    }

    /// Makes sure that a file is the one that comes next.
    fn belongs(&self, file: &dyn BlockRead, number: usize, segment: Segment) -> Result<Segment> {
        let found = sections::number(file)?;
        if usize::from(found) != number {
            return Err(corrupt(format!(
                "EWF file: it is number {found} of its image, where number {number} is to be"
            )));
        }
        match segment.media {
            Some(media) if !media.is_of(&self.media) => {
                Err(corrupt("EWF file: it belongs to another image than the first file".to_owned()))
            }
            _ => Ok(segment),
        }
    }

    /// Adds the tables of a file that begins at `start` of the joined files.
    fn add(&mut self, segment: Segment, start: u64) -> Result<()> {
        for table in segment.sound_tables()? {
            let first = self.chunks();
            if table.entries > 0 {
                self.groups.push(Group {
                    first,
                    chunks: table.entries,
                    entries_at: start + table.entries_at,
                    base: start + table.base,
                    data_end: start + table.data_end,
                });
            }
        }
        self.warnings.extend(segment.warnings);
        self.md5 = segment.md5.or(self.md5);
        Ok(())
    }

    /// The chunks that all tables list.
    pub(super) fn chunks(&self) -> u64 {
        self.groups.last().map_or(0, |last| last.first + last.chunks)
    }
}

/// The name of file `number` of an image whose first file is called `first`: its ending counts `01` to `99`, then `AA` to
/// `ZZ`, and then the letter in front goes on.
pub(super) fn segment_name(first: &str, number: usize) -> Option<String> {
    let (stem, ending) = first.rsplit_once('.')?;
    let [letter @ (b'A'..=b'Z' | b'a'..=b'z'), b'0', b'1'] = ending.as_bytes() else { return None };
    if number <= 99 {
        return Some(format!("{stem}.{}{number:02}", char::from(*letter)));
    }
    let number = number - 100;
    let base = if letter.is_ascii_uppercase() { b'A' } else { b'a' };
    let of = |start: u8, more: usize| {
        let letter = u8::try_from(more).ok().and_then(|more| start.checked_add(more))?;
        (letter <= base + 25).then(|| char::from(letter))
    };
    let letters = [of(*letter, number / 676)?, of(base, number / 26 % 26)?, of(base, number % 26)?];
    Some(format!("{stem}.{}", letters.iter().collect::<String>()))
}
