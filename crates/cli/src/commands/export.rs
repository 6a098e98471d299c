//! `transload export`: packs a machine and its disks into an OVA or a folder with an OVF.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::appliance::ova::{ManifestAlgorithm, Signer};
use transload::appliance::{Address, Bus, Disk, Firmware, Mac, MacPolicy, Machine, Network, Nic, NicModel, ScsiModel};
use transload::block::{Error, ErrorKind, Result};
use transload::convert::Cancel;
use transload::export::{
    ExportPlan, ExportReport, ExportSettings, ExportTarget, MachineProgress, MachineSource, Nvram, SourceSettings,
};
use transload::image::codec::Level;
use transload::location::Location;
use transload::remote::Upload;
use transload::upload;

use crate::args::{self, ProgressArgs, ReferenceArgs};
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::{input, interrupt, progress, target};

/// Pack a virtual machine into an OVA
///
/// The machine is described by a VMX, an OVF or a libvirt domain XML, or by --disk with --cpus and --memory. Its disks are
/// read once and compressed straight into the package. Snapshots are flattened. The package appears under its name only
/// when it is whole.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The machine: a .vmx, an .ovf or a libvirt .xml
    #[arg(value_name = "VM", required_unless_present = "disks", conflicts_with = "disks")]
    machine: Option<PathBuf>,
    /// The package: NAME.ova is one file, DIR/NAME.ovf a folder, - standard output
    #[arg(short = 'o', long = "output", value_name = "OVA")]
    output: PathBuf,
    /// The manifest's digests
    #[arg(long, value_name = "ALGORITHM", value_enum, default_value_t)]
    manifest: ManifestChoice,
    /// How hard to compress the disks: fast, balanced, max, or a number from 1 (fastest) to 12 (smallest)
    #[arg(long, visible_alias = "level", value_name = "LEVEL", default_value_t, value_parser = args::level)]
    compression: Level,
    /// Ask for this hardware version instead of the machine's own, such as 15 for ESXi 6.7 U2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=99))]
    hw_version: Option<u32>,
    /// Whether the file with the EFI variables goes along
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t)]
    nvram: NvramChoice,
    /// Sign the manifest with an RSA key and its certificate, both in PEM
    #[arg(long, num_args = 2, value_names = ["KEY", "CERT"])]
    sign: Vec<PathBuf>,
    /// Which machine of an OVF that holds several
    #[arg(long, value_name = "NAME", conflicts_with = "disks")]
    system: Option<String>,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    /// Memory for buffers and tables
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "192M")]
    memory_limit: u64,
    /// Bytes of a disk that a worker takes at once, from 64K to 64M
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    chunk_size: Option<u64>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the package if it exists, export a machine that seems to be running, begin where room seems to lack
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    description: Description,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A machine that no file describes.
#[derive(Args, Debug)]
#[command(next_help_heading = "A machine without a description")]
struct Description {
    /// A disk image; may be given several times
    #[arg(long = "disk", value_name = "IMG")]
    disks: Vec<PathBuf>,
    /// What the machine is called; after the first disk when not given
    #[arg(long, value_name = "TEXT", requires = "disks")]
    name: Option<String>,
    /// Processors
    #[arg(long, value_name = "N", requires = "disks", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    cpus: u32,
    /// Processors in a socket
    #[arg(long, value_name = "N", requires = "disks", value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores_per_socket: Option<u32>,
    /// Memory
    #[arg(long, value_name = "SIZE", requires = "disks", value_parser = args::size, default_value = "2G")]
    memory: u64,
    /// What starts the guest
    #[arg(long, value_name = "FIRMWARE", requires = "disks", value_enum, default_value_t)]
    firmware: FirmwareChoice,
    /// The operating system by VMware's name, such as debian12-64 or windows2022srv-64
    #[arg(long, value_name = "NAME", requires = "disks", default_value = "otherlinux-64")]
    guest_os: String,
    /// What the disks hang from
    #[arg(long, value_name = "KIND", requires = "disks", value_enum, default_value_t)]
    controller: ControllerChoice,
    /// A network adapter on the network of this name; may be given several times
    #[arg(long, value_name = "NAME", requires = "disks")]
    network: Vec<String>,
    /// The adapters' kind
    #[arg(long, value_name = "KIND", requires = "disks", value_enum, default_value_t)]
    nic: NicChoice,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ManifestChoice {
    /// What every importer since vSphere 6.5 takes
    #[default]
    Sha256,
    /// For vSphere up to 6.0
    Sha1,
    /// For importers that ask for it
    Sha512,
    /// No manifest
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum NvramChoice {
    /// If the machine starts by EFI and the file is there
    #[default]
    Auto,
    /// It must
    Include,
    /// It does not, for importers that refuse it
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FirmwareChoice {
    /// PC BIOS
    #[default]
    Bios,
    /// UEFI
    Efi,
    /// UEFI with Secure Boot
    EfiSecure,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ControllerChoice {
    /// LSI Logic SAS
    LsilogicSas,
    /// LSI Logic, parallel SCSI
    Lsilogic,
    /// VMware's paravirtual SCSI
    #[default]
    Pvscsi,
    /// AHCI
    Sata,
    /// NVM Express
    Nvme,
    /// Parallel ATA
    Ide,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum NicChoice {
    /// VMware's paravirtual adapter
    #[default]
    Vmxnet3,
    /// Intel 82545EM
    E1000,
    /// Intel 82574L
    E1000e,
}

const EXAMPLES: &str = "\
Examples:
  transload export 'Debian 12.vmx' -o debian.ova
  transload export vm.vmx -o out/vm.ovf --manifest sha1 --hw-version 11
  transload export --disk root.qcow2 --disk data.raw --name web --cpus 2 --memory 4G --network 'VM Network' -o web.ova
  virsh dumpxml web > web.xml; transload export web.xml --allow-dir /var/lib/libvirt/images -o - | ssh host 'cat > web.ova'";

#[derive(Serialize)]
struct Document<'a> {
    output: String,
    #[serde(flatten)]
    report: &'a ExportReport,
}

#[derive(Serialize)]
struct PlanDocument<'a> {
    plan: &'a ExportPlan,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let to_pipe = input::is_standard_stream(&arguments.output);
    if to_pipe && arguments.json && !arguments.dry_run {
        let text = "standard output cannot hold both the package and JSON";
        return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("leave out --json, or write to a file"));
    }
    let cancel = interrupt::install()?;
    execute(arguments, &cancel).map_err(|error| cancel.check().err().unwrap_or(error))
}

fn execute(arguments: &Arguments, cancel: &Cancel) -> Result<Verdict> {
    let display = if arguments.dry_run { None } else { progress::start(arguments.progress.when()) };
    let settings = ExportSettings {
        progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn MachineProgress>),
        ..settings(arguments, cancel)?
    };
    let (target, upload) = package(arguments, cancel)?;
    let plan = ExportPlan::new(source(arguments)?, &target, &settings)?;
    if arguments.dry_run {
        say_plan(&plan, arguments.json)?;
        return Ok(Verdict::Done);
    }
    if !arguments.progress.quiet {
        plan.warnings.iter().for_each(|warning| eprintln!("transload: warning: {warning}"));
        plan.notes.iter().for_each(|note| eprintln!("transload: {note}"));
    }
    let report = plan.run(target, &settings).and_then(|report| {
        upload.map_or(Ok(0), Upload::finish)?;
        Ok(report)
    });
    // The bar is gone before anything else is said.
    drop(display);
    say(arguments, &report?)?;
    Ok(Verdict::Done)
}

fn settings(arguments: &Arguments, cancel: &Cancel) -> Result<ExportSettings> {
    Ok(ExportSettings {
        level: arguments.compression,
        manifest: match arguments.manifest {
            ManifestChoice::Sha1 => Some(ManifestAlgorithm::Sha1),
            ManifestChoice::Sha256 => Some(ManifestAlgorithm::Sha256),
            ManifestChoice::Sha512 => Some(ManifestAlgorithm::Sha512),
            ManifestChoice::None => None,
        },
        hardware_version: arguments.hw_version,
        nvram: match arguments.nvram {
            NvramChoice::Auto => Nvram::Auto,
            NvramChoice::Include => Nvram::Include,
            NvramChoice::Skip => Nvram::Skip,
        },
        signer: match arguments.sign.as_slice() {
            [key, certificate] => Some(Signer::new(&read_text(key)?, &read_text(certificate)?)?),
            _ => None,
        },
        threads: arguments.threads,
        memory: arguments.memory_limit,
        chunk_size: arguments.chunk_size,
        force: arguments.force,
        cancel: cancel.clone(),
        progress: None,
    })
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(path.display().to_string(), error))
}

/// Where the package goes, by the name's ending; and the upload to finish in the end, where it goes to an address.
fn package(arguments: &Arguments, cancel: &Cancel) -> Result<(ExportTarget, Option<Upload>)> {
    let path = &arguments.output;
    if input::is_standard_stream(path) {
        let pipe = if arguments.dry_run { Box::new(io::sink()) } else { target::standard_output()? };
        return Ok((ExportTarget::Pipe(pipe), None));
    }
    if let Location::Remote(address) = Location::of(path) {
        if !address.to_ascii_lowercase().ends_with(".ova") {
            let text = format!("{}: does not end in .ova", target::shown(path));
            return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("an address takes a package in one file"));
        }
        if arguments.dry_run {
            return Ok((ExportTarget::Pipe(Box::new(io::sink())), None));
        }
        let upload = upload::begin(&address, arguments.force, &input::network(cancel))?;
        return Ok((ExportTarget::Pipe(Box::new(upload.writer())), Some(upload)));
    }
    file(path).map(|target| (target, None))
}

fn file(path: &Path) -> Result<ExportTarget> {
    match path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).as_deref() {
        Some("ova") => Ok(ExportTarget::Ova(path.to_owned())),
        Some("ovf") => Ok(ExportTarget::Folder(path.to_owned())),
        _ => Err(Error::new(ErrorKind::InvalidInput, format!("{}: ends neither in .ova nor in .ovf", path.display()))
            .with_remedy("name a file that ends in .ova, or in .ovf for a folder, or - for standard output")),
    }
}

fn source(arguments: &Arguments) -> Result<MachineSource> {
    let from = arguments.machine.as_deref().or_else(|| arguments.description.disks.first().map(PathBuf::as_path));
    let settings = SourceSettings {
        gate: input::gate(&arguments.references, from.unwrap_or(Path::new("."))),
        force: arguments.force,
        system: arguments.system.clone(),
        cache_bytes: usize::try_from(arguments.memory_limit / 4).unwrap_or(usize::MAX),
    };
    match &arguments.machine {
        Some(path) => MachineSource::open(path, &settings),
        None => {
            let disks: Vec<_> = arguments.description.disks.iter().map(|disk| (disk.clone(), None)).collect();
            MachineSource::from_parts(arguments.description.machine()?, &disks, &settings)
        }
    }
}

impl Description {
    /// The machine that the arguments describe.
    fn machine(&self) -> Result<Machine> {
        let stem = self.disks.first().and_then(|disk| disk.file_stem());
        let name = self.name.clone().or_else(|| stem.map(|stem| stem.to_string_lossy().into_owned()));
        let mut machine = Machine::new(name.unwrap_or_default(), (self.memory >> 20).max(4));
        machine.cpus = self.cpus;
        machine.cores_per_socket = self.cores_per_socket;
        machine.firmware = match self.firmware {
            FirmwareChoice::Bios => Firmware::Bios,
            FirmwareChoice::Efi => Firmware::Efi { secure_boot: false },
            FirmwareChoice::EfiSecure => Firmware::Efi { secure_boot: true },
        };
        machine.guest = transload::appliance::GuestOs {
            vmware: Some(self.guest_os.clone()),
            ..transload::appliance::GuestOs::default()
        };
        for index in 0..self.disks.len() {
            let address = self.controller.address(index)?;
            machine.need_controller(address);
            machine.disks.push(Disk::new(format!("disk{}", index + 1), address, None));
        }
        for controller in &mut machine.controllers {
            controller.model = self.controller.model();
        }
        for (number, network) in (0..).zip(&self.network) {
            machine.nics.push(Nic {
                number,
                model: Some(match self.nic {
                    NicChoice::Vmxnet3 => NicModel::VmxNet3,
                    NicChoice::E1000 => NicModel::E1000,
                    NicChoice::E1000e => NicModel::E1000e,
                }),
                network: Network::Named(network.clone()),
                mac: MacPolicy::Generated(None::<Mac>),
                connected: true,
                wake_on_lan: None,
            });
        }
        Ok(machine)
    }
}

impl ControllerChoice {
    fn model(self) -> Option<ScsiModel> {
        match self {
            Self::LsilogicSas => Some(ScsiModel::LsiLogicSas),
            Self::Lsilogic => Some(ScsiModel::LsiLogic),
            Self::Pvscsi => Some(ScsiModel::ParaVirtual),
            Self::Sata | Self::Nvme | Self::Ide => None,
        }
    }

    /// Where the disk with this place hangs: as many to a controller as the bus has room for.
    fn address(self, index: usize) -> Result<Address> {
        let (bus, room) = match self {
            Self::LsilogicSas | Self::Lsilogic | Self::Pvscsi => (Bus::Scsi, 15),
            Self::Sata => (Bus::Sata, 30),
            Self::Nvme => (Bus::Nvme, 15),
            Self::Ide => (Bus::Ide, 2),
        };
        let controllers = if bus == Bus::Ide { 2 } else { 4 };
        let (controller, mut unit) = (index / room, index % room);
        if controller >= controllers {
            let text = format!("{} disks are more than {} of {bus}", index + 1, controllers * room);
            return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("choose another --controller"));
        }
        // Unit 7 is the controller itself.
        unit += usize::from(bus == Bus::Scsi && unit >= 7);
        let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Address::new(bus, number(controller), number(unit)))
    }
}

fn say_plan(plan: &ExportPlan, json: bool) -> Result<()> {
    if json {
        return text::json(&PlanDocument { plan });
    }
    let mut text = Text::new();
    text.line(plan)?;
    for warning in &plan.warnings {
        text.field("warning", warning)?;
    }
    for note in &plan.notes {
        text.line(note)?;
    }
    text.finish()
}

fn say(arguments: &Arguments, report: &ExportReport) -> Result<()> {
    let output = target::shown(&arguments.output);
    if !arguments.progress.quiet {
        eprintln!("transload: {output}: {}", summary(report));
    }
    if arguments.json {
        return text::json(&Document { output, report });
    }
    Ok(())
}

/// What was done, in one sentence.
fn summary(report: &ExportReport) -> String {
    let milliseconds = report.elapsed_milliseconds.max(1);
    let disks: u64 = report.files.iter().filter_map(|file| file.virtual_size).sum();
    let rate = u64::try_from(u128::from(disks) * 1000 / u128::from(milliseconds)).unwrap_or(u64::MAX);
    format!(
        "{} files, {} from disks of {} in {}.{:03} s ({}/s)",
        report.files.len(),
        text::size(report.size),
        text::size(disks),
        milliseconds / 1000,
        milliseconds % 1000,
        text::size(rate),
    )
}
