//! Unpacks one chunk, by whatever it was packed with.

use liblzma::stream::{Action, Status, Stream};
use transload_block::{Codec, Error, ErrorKind, Result};

use super::tables::Method;
use super::{adc, lzfse};
use crate::codec;
use crate::mapped::corrupt;

/// What unpacking an xz stream may need: the dictionary of the highest preset, and what stands around it.
const LZMA_MEMORY: u64 = 80 << 20;

/// Fills all of `unit` with what `stored` holds.
///
/// # Errors
/// `Corrupt` when the stream breaks a rule or does not hold exactly as much; `Unsupported` when it needs more memory than
/// Apple's programs ask for.
pub(super) fn unpack(method: Method, stored: &[u8], unit: &mut [u8]) -> Result<()> {
    let held = match method {
        Method::Zlib => codec::decode(Codec::Zlib, stored, unit)?,
        Method::Adc => adc::decode(stored, unit).ok_or_else(|| broken("ADC"))?,
        Method::Lzfse => lzfse::decode(stored, unit).ok_or_else(|| broken("LZFSE"))?,
        Method::Bzip2 => bzip2(stored, unit)?,
        Method::Lzma => lzma(stored, unit)?,
        Method::Raw | Method::Zero | Method::Ignore => return Err(broken("not packed")),
    };
    if held == unit.len() {
        return Ok(());
    }
    Err(corrupt(format!("it unpacks to {held} bytes, not {}", unit.len())))
}

fn broken(codec: &str) -> Error {
    corrupt(format!("the {codec} stream breaks off, is damaged or holds more than its chunk"))
}

fn bzip2(stored: &[u8], unit: &mut [u8]) -> Result<usize> {
    let mut stream = bzip2::Decompress::new(false);
    match stream.decompress(stored, unit) {
        Ok(bzip2::Status::StreamEnd) => Ok(usize::try_from(stream.total_out()).unwrap_or(usize::MAX)),
        _ => Err(broken("bzip2")),
    }
}

fn lzma(stored: &[u8], unit: &mut [u8]) -> Result<usize> {
    let stream = Stream::new_stream_decoder(LZMA_MEMORY, 0);
    let mut stream = stream.map_err(|error| Error::io("xz decoder", error.into()))?;
    match stream.process(stored, unit, Action::Finish) {
        Ok(Status::StreamEnd) => Ok(usize::try_from(stream.total_out()).unwrap_or(usize::MAX)),
        Err(liblzma::stream::Error::MemLimit) => {
            let what = format!("the xz stream needs more than {} MiB of memory to be unpacked", LZMA_MEMORY >> 20);
            Err(Error::new(ErrorKind::Unsupported, what))
        }
        _ => Err(broken("xz")),
    }
}
