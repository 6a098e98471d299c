//! The level scale: how hard a unit is compressed.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use transload_block::{Codec, Error, ErrorKind, Result};

/// The numbered levels: 1 is the fastest, 12 the smallest.
pub const LEVELS: RangeInclusive<u32> = 1..=12;

/// How hard to compress: by name, which takes the codec that measurement found best for it, or by number, which is a
/// level of libdeflate or zstd and gives the same bytes in every build.
///
/// ```
/// use transload_image::codec::Level;
///
/// assert_eq!("balanced".parse::<Level>()?, Level::default());
/// assert_eq!(Level::number(7)?.to_string(), "7");
/// assert!("13".parse::<Level>().is_err());
/// # Ok::<(), transload_block::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(Scale);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scale {
    Fast,
    Balanced,
    Max,
    Number(u8),
}

/// Who compresses, and at which of its own levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// ISA-L, where it is built in.
    #[cfg(feature = "igzip")]
    Igzip(u8),
    Libdeflate(i32),
    Zstd(i32),
}

/// How units are compressed at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    pub(super) engine: Engine,
    /// Whether a unit is looked at first, so that noise is not compressed in vain.
    pub(super) probe: bool,
}

impl Level {
    /// As fast as the machine compresses.
    pub const FAST: Self = Self(Scale::Fast);
    /// The fastest that comes out as small as what qemu-img makes of the same disk in the same format, give or take a
    /// fiftieth.
    pub const BALANCED: Self = Self(Scale::Balanced);
    /// The smallest, whatever it takes.
    pub const MAX: Self = Self(Scale::Max);
    /// The words that name a level.
    pub const NAMES: [&'static str; 3] = ["fast", "balanced", "max"];

    /// The level of a number on [`LEVELS`].
    ///
    /// # Errors
    /// `InvalidInput` when it is not on the scale.
    pub fn number(number: u32) -> Result<Self> {
        match u8::try_from(number) {
            Ok(small) if LEVELS.contains(&number) => Ok(Self(Scale::Number(small))),
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("compression level {number} is not in 1 to 12"))),
        }
    }

    /// What does the work for `codec` at this level.
    ///
    /// # Errors
    /// `Unsupported` for a codec that is only read.
    pub(super) fn method(self, codec: Codec) -> Result<Method> {
        let (engine, probe) = match (codec, self.0) {
            // zstd itself gives noise up early.
            (Codec::Zstd, Scale::Fast) => (Engine::Zstd(1), false),
            (Codec::Zstd, Scale::Balanced) => (Engine::Zstd(3), false),
            (Codec::Zstd, Scale::Max) => (Engine::Zstd(19), false),
            (Codec::Zstd, Scale::Number(number)) => (Engine::Zstd(number.into()), false),
            #[cfg(feature = "igzip")]
            (Codec::Deflate | Codec::Zlib, Scale::Fast) => (Engine::Igzip(1), false),
            // qcow2, where qemu-img has a window of 4 KiB and so larger units.
            #[cfg(feature = "igzip")]
            (Codec::Deflate, Scale::Balanced) => (Engine::Igzip(3), true),
            #[cfg(not(feature = "igzip"))]
            (Codec::Deflate | Codec::Zlib, Scale::Fast) => (Engine::Libdeflate(1), true),
            #[cfg(not(feature = "igzip"))]
            (Codec::Deflate, Scale::Balanced) => (Engine::Libdeflate(1), true),
            // VMDK, where everybody has a window of 32 KiB.
            (Codec::Zlib, Scale::Balanced) => (Engine::Libdeflate(5), true),
            (Codec::Deflate | Codec::Zlib, Scale::Max) => (Engine::Libdeflate(12), false),
            (Codec::Deflate | Codec::Zlib, Scale::Number(number)) => (Engine::Libdeflate(number.into()), number < 12),
            (other, _) => return Err(Error::new(ErrorKind::Unsupported, format!("writing codec {other:?}"))),
        };
        Ok(Method { engine, probe })
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::BALANCED
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scale::Fast => f.write_str("fast"),
            Scale::Balanced => f.write_str("balanced"),
            Scale::Max => f.write_str("max"),
            Scale::Number(number) => write!(f, "{number}"),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "fast" => Ok(Self::FAST),
            "balanced" => Ok(Self::BALANCED),
            "max" => Ok(Self::MAX),
            _ => match text.parse() {
                Ok(number) => Self::number(number),
                Err(_) => Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("compression level {text}: must be fast, balanced, max or a number from 1 to 12"),
                )),
            },
        }
    }
}

impl serde::Serialize for Level {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
