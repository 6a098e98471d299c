//! `transload import`: unpacks an OVA for a hypervisor.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::block::Result;
use transload::convert::Cancel;
use transload::export::MachineProgress;
use transload::image::{Access, Format};
use transload::import::{ImportReport, ImportSettings, ImportSource, ImportTarget, import};
use transload::location::{self, Located, Location};

use crate::args::{self, ProgressArgs};
use crate::failure::Verdict;
use crate::text;
use crate::{input, interrupt, progress};

/// Unpack an OVA for a hypervisor
///
/// Reads the package once. The disks are converted to the hypervisor's format while the manifest is verified, and the
/// machine is written as the hypervisor wants it. The folder appears only when every digest was found right.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The OVA; - is standard input
    #[arg(value_name = "OVA")]
    package: PathBuf,
    /// The folder for the machine; it must be empty or not there
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: PathBuf,
    /// The hypervisor
    #[arg(long, value_name = "HYPERVISOR", value_enum)]
    to: Hypervisor,
    /// The disks' format, instead of the hypervisor's own
    #[arg(short = 'O', long = "output-format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    format: Option<&'static Format>,
    /// Which machine of a package that holds several
    #[arg(long, value_name = "NAME")]
    system: Option<String>,
    /// Go on where the manifest or the signature is wrong
    #[arg(long)]
    ignore_manifest: bool,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    /// Memory for buffers and tables
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "192M")]
    memory: u64,
    /// Put files into a folder that is not empty, replacing those of the same names
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Hypervisor {
    /// A domain XML for `virsh define`, qcow2 disks
    Libvirt,
    /// A script of `qm` commands, qcow2 disks
    Proxmox,
    /// A .vmx for Workstation, Fusion and Player, VMDKs
    Vmx,
    /// A PowerShell script, VHDX disks
    Hyperv,
    /// A .vbox, VDI disks
    Virtualbox,
    /// The disks alone, raw
    Raw,
}

const EXAMPLES: &str = "\
Examples:
  transload import vm.ova -o vm --to libvirt
  curl -sL https://example.org/vm.ova | transload import - -o vm --to proxmox";

#[derive(Serialize)]
struct Document<'a> {
    package: String,
    #[serde(flatten)]
    report: &'a ImportReport,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let cancel = interrupt::install()?;
    // Standard input reports an interrupt as a failure to read, which it is not.
    execute(arguments, &cancel).map_err(|error| cancel.check().err().unwrap_or(error))
}

fn execute(arguments: &Arguments, cancel: &Cancel) -> Result<Verdict> {
    let target = match arguments.to {
        Hypervisor::Libvirt => ImportTarget::Libvirt,
        Hypervisor::Proxmox => ImportTarget::Proxmox,
        Hypervisor::Vmx => ImportTarget::Vmx,
        Hypervisor::Hyperv => ImportTarget::HyperV,
        Hypervisor::Virtualbox => ImportTarget::VirtualBox,
        Hypervisor::Raw => ImportTarget::Raw,
    };
    let source = if input::is_standard_stream(&arguments.package) {
        ImportSource::Stream(input::standard_bytes(cancel)?)
    } else {
        match location::open(&Location::of(&arguments.package), Access::ReadOnly, &input::network(cancel))? {
            Located::Anywhere { source, .. } => ImportSource::Source(source),
            Located::Once(stream) => ImportSource::Stream(Box::new(stream)),
        }
    };
    let display = progress::start(arguments.progress.when());
    let settings = ImportSettings {
        format: arguments.format,
        system: arguments.system.clone(),
        ignore_manifest: arguments.ignore_manifest,
        force: arguments.force,
        threads: arguments.threads,
        memory: arguments.memory,
        cancel: cancel.clone(),
        progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn MachineProgress>),
        ..ImportSettings::new(target)
    };
    let report = import(source, &arguments.output, &settings);
    // The bar is gone before anything else is said.
    drop(display);
    say(arguments, &report?)?;
    Ok(Verdict::Done)
}

fn say(arguments: &Arguments, report: &ImportReport) -> Result<()> {
    if !arguments.progress.quiet {
        report.warnings.iter().for_each(|warning| eprintln!("transload: warning: {warning}"));
        report.notes.iter().for_each(|note| eprintln!("transload: {note}"));
        let milliseconds = report.elapsed_milliseconds;
        let manifest = match report.manifest_matches {
            Some(true) => ", the manifest matches",
            Some(false) => ", the manifest differs",
            None => ", there is no manifest",
        };
        eprintln!(
            "transload: {}: {} files in {}.{:03} s{manifest}",
            arguments.output.display(),
            report.files.len(),
            milliseconds / 1000,
            milliseconds % 1000
        );
    }
    if arguments.json {
        return text::json(&Document { package: Location::of(&arguments.package).shown(), report });
    }
    Ok(())
}
