//! A stream of a disk that is held to what was said of it: its size where that is known, and the most that is taken.

use transload::block::{BlockStream, Error, ErrorKind, Result, StreamUnit};

/// A stream that ends where it should.
#[derive(Debug)]
pub(crate) struct Bounded {
    stream: Box<dyn BlockStream>,
    /// What was declared of a stream that does not say it itself.
    declared: Option<u64>,
    /// The most bytes that its disk may have.
    most: u64,
    /// The byte behind the last unit.
    end: u64,
}

impl Bounded {
    /// Holds `stream` to at most `most` bytes, and to `declared` where it does not know its size.
    ///
    /// # Errors
    /// `TooLarge` when it says of itself that it is larger.
    pub(crate) fn new(stream: Box<dyn BlockStream>, declared: Option<u64>, most: u64) -> Result<Self> {
        let bounded = Self { stream, declared, most, end: 0 };
        match bounded.size() {
            Some(size) if size > most => Err(too_large(size, most)),
            _ => Ok(bounded),
        }
    }
}

impl BlockStream for Bounded {
    fn size(&self) -> Option<u64> {
        self.stream.size().or(self.declared)
    }

    fn unit_size(&self) -> u64 {
        self.stream.unit_size()
    }

    fn next_unit(&mut self, buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        let unit = self.stream.next_unit(buffer)?;
        let Some(unit) = unit else {
            return match self.declared.filter(|_| self.stream.size().is_none()) {
                Some(size) if size != self.end => {
                    let text = format!("the body: the disk ended at {} bytes, {size} were declared", self.end);
                    Err(Error::new(ErrorKind::Corrupt, text))
                }
                _ => Ok(None),
            };
        };
        self.end = unit.offset.saturating_add(unit.length);
        let limit = self.size().unwrap_or(self.most);
        if self.end > limit {
            return Err(too_large(self.end, limit));
        }
        Ok(Some(unit))
    }
}

/// The error of a disk that is larger than allowed.
pub(crate) fn too_large(size: u64, most: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("a disk of {size} bytes, at most {most} are taken"))
        .with_remedy("ask for a higher --max-disk of the service")
}

#[cfg(test)]
mod tests {
    use transload::image::{Format, OptionValues, StreamRequest};

    use super::*;

    fn raw(bytes: &'static [u8]) -> Box<dyn BlockStream> {
        let begin = Format::by_name("raw").unwrap().stream.unwrap();
        begin(StreamRequest { input: Box::new(bytes), options: &OptionValues::default() }).unwrap()
    }

    fn drain(mut stream: Bounded) -> Result<u64> {
        while stream.next_unit(Vec::new())?.is_some() {}
        Ok(stream.end)
    }

    #[test]
    fn a_stream_is_as_long_as_was_said() {
        static BYTES: [u8; 4096] = [7; 4096];
        let bounded = |declared, most| Bounded::new(raw(&BYTES), declared, most);
        assert_eq!(drain(bounded(Some(4096), 8192).unwrap()).unwrap(), 4096);
        assert_eq!(drain(bounded(None, 4096).unwrap()).unwrap(), 4096);
        assert_eq!(drain(bounded(Some(5000), 8192).unwrap()).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(drain(bounded(Some(1024), 8192).unwrap()).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(drain(bounded(None, 1024).unwrap()).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(bounded(Some(9000), 8192).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
