//! Reads a file by positioned reads in threads and by io_uring, and prints what each took: whether a backend of its own would pay.
//!
//! ```text
//! cargo run --release --bin io_uring -- FILE [MIB]
//! ```
//!
//! Each way reads the same bytes, in blocks of 256 KiB: from the page cache, and past it (`O_DIRECT`). The ways take turns, so that what else the
//! machine does falls on all of them.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, opcode, types};

const BLOCK: u64 = 256 << 10;
/// What `O_DIRECT` wants of addresses.
const PAGE: usize = 4096;
/// `O_DIRECT` on x86-64.
const DIRECT: i32 = 0o40_000;
const ROUNDS: usize = 5;

/// A buffer that begins at a page.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let bytes = vec![0; BLOCK as usize + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, start }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + BLOCK as usize]
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("the name of a file")?;
    let mebibytes: u64 = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let path = Path::new(&path);
    let blocks = (mebibytes << 20) / BLOCK;
    ensure!(std::fs::metadata(path)?.len() >= blocks * BLOCK, "the file is shorter than {mebibytes} MiB");
    threads(&File::open(path)?, blocks, 2)?;
    println!("{:<34} {:>9} {:>9}", "way", "wall s", "CPU s");
    for (name, flags) in [("page cache", 0), ("O_DIRECT", DIRECT)] {
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let ways: [(&str, &dyn Fn() -> Result<()>); 4] = [
            ("pread, 2 threads", &|| threads(&file, blocks, 2)),
            ("pread, 8 threads", &|| threads(&file, blocks, 8)),
            ("io_uring, 8 under way", &|| ring(&file, blocks, 8)),
            ("io_uring, 32 under way", &|| ring(&file, blocks, 32)),
        ];
        let mut best = [(f64::MAX, f64::MAX); 4];
        for _ in 0..ROUNDS {
            for ((_, way), best) in ways.iter().zip(&mut best) {
                let (begun, before) = (Instant::now(), cpu()?);
                way()?;
                *best = (best.0.min(begun.elapsed().as_secs_f64()), best.1.min(cpu()? - before));
            }
        }
        for ((way, _), (wall, cpu)) in ways.iter().zip(best) {
            println!("{:<34} {wall:>9.2} {cpu:>9.2}", format!("{name}: {way}"));
        }
    }
    Ok(())
}

fn threads(file: &File, blocks: u64, threads: usize) -> Result<()> {
    let next = AtomicU64::new(0);
    let work = || -> Result<()> {
        let mut buffer = Buffer::new();
        loop {
            let block = next.fetch_add(1, Ordering::Relaxed);
            if block >= blocks {
                return Ok(());
            }
            file.read_exact_at(buffer.room(), block * BLOCK)?;
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn ring(file: &File, blocks: u64, depth: usize) -> Result<()> {
    let mut ring = IoUring::new(u32::try_from(depth)?)?;
    let mut buffers: Vec<_> = (0..depth).map(|_| Buffer::new()).collect();
    let descriptor = types::Fd(file.as_raw_fd());
    let (mut asked, mut done) = (0, 0);
    let mut free: Vec<usize> = (0..depth).collect();
    while done < blocks {
        while asked < blocks
            && let Some(buffer) = free.pop()
        {
            let room = buffers[buffer].room();
            let read = opcode::Read::new(descriptor, room.as_mut_ptr(), BLOCK as u32).offset(asked * BLOCK);
            let read = read.build().user_data(buffer as u64);
            // SAFETY: the buffer lives until the loop has taken its completion, and is in one request at a time.
            unsafe { ring.submission().push(&read) }.context("a full queue")?;
            asked += 1;
        }
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            if completion.result() != BLOCK as i32 {
                bail!("a read answered {}", completion.result());
            }
            free.push(usize::try_from(completion.user_data())?);
            done += 1;
        }
    }
    Ok(())
}

/// Seconds of processor time that this process has taken, the kernel's work for it included.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}
