//! Prints where the data of a disk image is, and the first bytes of it.
//!
//! ```text
//! cargo run --example read -- disk.vmdk
//! ```

use std::env;

use transload::block::{BlockStatus, Result};

fn main() -> Result<()> {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: read IMAGE");
        return Ok(());
    };
    let disk = transload::open(path)?;
    println!("{}, {} bytes", disk.layers[0].format.title, disk.device.size());
    let mut offset = 0;
    while offset < disk.device.size() {
        let extent = disk.device.block_status(offset..disk.device.size())?;
        if extent.status == BlockStatus::Data {
            let mut bytes = [0; 16];
            let shown = bytes.len().min(usize::try_from(extent.length).unwrap_or(usize::MAX));
            disk.device.read_at(&mut bytes[..shown], extent.offset)?;
            println!("{:#x}: {} bytes, beginning with {:02x?}", extent.offset, extent.length, &bytes[..shown]);
        }
        offset = extent.end();
    }
    Ok(())
}
