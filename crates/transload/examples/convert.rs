//! Converts a disk image to qcow2, tells how far it is, and stops after a while if it is not done.
//!
//! ```text
//! cargo run --example convert -- disk.vmdk disk.qcow2
//! ```

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use transload::image::codec::Level;

use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Compression, Input, Output, Plan, Progress, ProgressDelta, Settings};
use transload::image::Format;

/// Says every hundredth part of the way.
#[derive(Debug, Default)]
struct Percent {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Percent {
    fn begin(&self, total: u64) {
        self.total.store(total.max(1), Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    fn advance(&self, delta: ProgressDelta) {
        let step = delta.copied + delta.skipped;
        let before = self.done.fetch_add(step, Ordering::Relaxed);
        let hundredth = self.total.load(Ordering::Relaxed).div_ceil(100);
        if before / hundredth != (before + step) / hundredth {
            eprintln!("{} %", (before + step) / hundredth);
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: convert FROM TO");
        return Ok(());
    };
    let qcow2 = Format::by_name("qcow2").ok_or_else(|| Error::new(ErrorKind::Unsupported, "qcow2"))?;
    let settings = Settings {
        compression: Some(Compression { kind: None, level: Level::default() }),
        verify: true,
        progress: Some(Arc::new(Percent::default())),
        ..Settings::new(qcow2)
    };
    let cancel = settings.cancel.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(3600));
        cancel.cancel();
    });
    let (input, output) = (Input::Image(transload::open(from)?), Output::Path(to.into()));
    let plan = Plan::new(&input, &output, &settings)?;
    println!("{plan}");
    let report = plan.run(input, output, &settings)?;
    println!("{} bytes copied, {} skipped as zero", report.copied, report.skipped);
    Ok(())
}
