//! The compressions of squashfs.

use std::io::Read;

use transload_block::Result;

use crate::fields::{corrupt, unsupported};

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
                // One byte more than there may be, so that the end and its checksum are met.
                out.push(0);
                let mut reader = lzma_rust2::XzReader::new(packed, false);
                let mut done = 0;
                loop {
                    match reader.read(&mut out[done..]) {
                        Ok(0) => break done,
                        Ok(count) if done + count <= most => done += count,
                        Ok(_) => return Err(broken(format!("it holds more than {most} bytes"))),
                        Err(error) => return Err(broken(error.to_string())),
                    }
                }
            }
        };
        out.truncate(length);
        Ok(out)
    }
}
