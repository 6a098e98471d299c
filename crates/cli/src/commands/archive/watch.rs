//! Progress and interrupts for the work on an archive.

use std::sync::Arc;

use transload::archive::Watch;
use transload::block::Result;
use transload::convert::{Cancel, Progress, ProgressDelta};

use crate::args::ProgressArgs;
use crate::interrupt;
use crate::progress::{self, Display, Meter};

/// Counts for the display, and stops at an interrupt.
#[derive(Debug)]
pub(super) struct Counted {
    meter: Option<Arc<Meter>>,
    cancel: Cancel,
}

/// Starts to look on. The display ends when it is dropped.
pub(super) fn start(arguments: ProgressArgs) -> Result<(Counted, Option<Display>)> {
    let cancel = interrupt::install()?;
    let (meter, display) = progress::start(arguments.when()).unzip();
    Ok((Counted { meter, cancel }, display))
}

impl Watch for Counted {
    fn wants_total(&self) -> bool {
        self.meter.is_some()
    }

    fn begin(&self, total: u64) {
        if let Some(meter) = &self.meter {
            meter.begin(total);
        }
    }

    fn read(&self, bytes: u64) {
        if let Some(meter) = &self.meter {
            meter.advance(ProgressDelta { copied: bytes, skipped: 0, written: 0 });
        }
    }

    fn written(&self, bytes: u64) {
        if let Some(meter) = &self.meter {
            meter.advance(ProgressDelta { copied: 0, skipped: 0, written: bytes });
        }
    }

    fn check(&self) -> Result<()> {
        self.cancel.check()
    }
}
