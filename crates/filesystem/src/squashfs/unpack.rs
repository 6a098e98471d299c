//! The compressions of squashfs.

use liblzma::stream::{Action, Status, Stream};
use transload_block::Result;

use crate::fields::{corrupt, unsupported};

/// Memory that a stream of xz may ask for.
const MOST_MEMORY: u64 = 64 << 20;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Zlib,
    Xz,
    Lz4,
    Zstd,
}

impl Codec {
    pub(super) fn new(number: u16) -> Result<Self> {
        Ok(match number {
            1 => Self::Zlib,
            4 => Self::Xz,
            5 => Self::Lz4,
            6 => Self::Zstd,
            2 => return Err(unsupported("squashfs: compression by LZMA, which version 4 never had")),
            3 => return Err(unsupported("squashfs: compression by LZO")),
            other => return Err(corrupt(format!("squashfs: compression {other}"))),
        })
    }

    /// Unpacks a block into at most `most` bytes.
    pub(super) fn unpack(self, packed: &[u8], most: usize) -> Result<Vec<u8>> {
        let broken = |text: String| corrupt(format!("squashfs: a block of {} bytes: {text}", packed.len()));
        let mut out = vec![0; most];
        let length = match self {
            Self::Zlib => {
                let mut decompressor = libdeflater::Decompressor::new();
                decompressor.zlib_decompress(packed, &mut out).map_err(|error| broken(error.to_string()))?
            }
            Self::Lz4 => {
                lz4_flex::block::decompress_into(packed, &mut out).map_err(|error| broken(error.to_string()))?
            }
            Self::Zstd => {
                zstd::bulk::decompress_to_buffer(packed, &mut out[..]).map_err(|error| broken(error.to_string()))?
            }
            Self::Xz => {
                // A dictionary is no larger than a block, and that than a mebibyte.
                let stream = Stream::new_stream_decoder(MOST_MEMORY, 0);
                let mut stream = stream.map_err(|error| broken(error.to_string()))?;
                match stream.process(packed, &mut out, Action::Finish) {
                    Ok(Status::StreamEnd) => {}
                    Ok(status) => return Err(broken(format!("its stream does not end ({status:?})"))),
                    Err(error) => return Err(broken(error.to_string())),
                }
                usize::try_from(stream.total_out()).unwrap_or(most)
            }
        };
        out.truncate(length);
        Ok(out)
    }
}
