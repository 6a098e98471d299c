//! A machine with a name that is hard on programs, and its disks.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use transload::appliance::ova::{Index, Manifest, end_padding, member_header, padding};
use transload::block::{BlockRead, BlockReadExt, FileBlock};
use transload::convert::Settings;
use transload::export::{ExportPlan, ExportReport, ExportSettings, ExportTarget, MachineSource, SourceSettings};
use transload::image::{Format, OptionValues};

pub(crate) const NAME: &str = "Schöne Maschine ☃";
/// What the files of its package are called.
pub(crate) const STEM: &str = "Schoene-Maschine";
pub(crate) const SIZES: [u64; 2] = [(5 << 20) + 512, 3 << 20];

pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
}

/// Bytes that do not compress, repeat after nothing, and are the same every time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

impl Machine {
    /// A VMX with two disks as VMware's products keep them, one of a size that is no whole MiB. They and the package are
    /// made once, and copied for every test.
    pub(crate) fn new() -> Self {
        static MASTER: OnceLock<Machine> = OnceLock::new();
        let master = MASTER.get_or_init(Self::made);
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for entry in fs::read_dir(master.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, machine.folder.path().join(path.file_name().unwrap())).unwrap();
        }
        machine
    }

    fn made() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for (place, size) in SIZES.iter().enumerate() {
            let mut bytes = vec![0; usize::try_from(*size).unwrap()];
            let data = noise(700_000, place as u64);
            bytes[..300_000].copy_from_slice(&data[..300_000]);
            bytes[2_000_000..2_400_000].copy_from_slice(&data[300_000..]);
            let text = b"the quick brown fox ".repeat(9000);
            bytes[1_000_000..1_000_000 + text.len()].copy_from_slice(&text);
            let end = bytes.len();
            bytes[end - 3..].copy_from_slice(b"end");
            let raw = machine.raw(place);
            fs::write(&raw, &bytes).unwrap();
            let vmdk = Format::by_name("vmdk").unwrap();
            transload::convert_file(&raw, machine.path(&format!("{NAME}-{place}.vmdk")), &Settings::new(vmdk)).unwrap();
        }
        fs::write(machine.path(&format!("{NAME}.nvram")), b"variables").unwrap();
        fs::write(machine.vmx(), vmx(&[&format!("{NAME}-0.vmdk"), &format!("{NAME}-1.vmdk")])).unwrap();
        machine.export("machine.ova", &ExportSettings::default());
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn raw(&self, place: usize) -> PathBuf {
        self.path(&format!("disk{place}.raw"))
    }

    pub(crate) fn vmx(&self) -> PathBuf {
        self.path(&format!("{NAME}.vmx"))
    }

    pub(crate) fn source(&self) -> MachineSource {
        MachineSource::open(&self.vmx(), &SourceSettings::default()).unwrap()
    }

    /// Exports to `name` in the folder.
    pub(crate) fn export(&self, name: &str, settings: &ExportSettings) -> ExportReport {
        let target = target(&self.path(name));
        ExportPlan::new(self.source(), &target, settings).unwrap().run(target, settings).unwrap()
    }

    /// The package with everything by default.
    pub(crate) fn ova(&self) -> PathBuf {
        self.path("machine.ova")
    }
}

/// The text of a VMX with these disks.
pub(crate) fn vmx(disks: &[&str]) -> String {
    let mut text = format!(
        ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"19\"\ndisplayName = \"{NAME}\"\n\
         guestOS = \"debian11-64\"\nmemsize = \"2048\"\nnumvcpus = \"2\"\nfirmware = \"efi\"\n\
         nvram = \"{NAME}.nvram\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\n\
         ethernet0.present = \"TRUE\"\nethernet0.virtualDev = \"vmxnet3\"\nethernet0.connectionType = \"nat\"\n"
    );
    for (unit, disk) in disks.iter().enumerate() {
        text += &format!("scsi0:{unit}.present = \"TRUE\"\nscsi0:{unit}.fileName = \"{disk}\"\n");
    }
    text
}

pub(crate) fn target(path: &Path) -> ExportTarget {
    if path.extension().is_some_and(|ending| ending == "ovf") {
        ExportTarget::Folder(path.to_owned())
    } else {
        ExportTarget::Ova(path.to_owned())
    }
}

pub(crate) fn threads(count: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(count)
}

/// The members of an archive: names and payloads.
pub(crate) fn members(path: &Path) -> Vec<(String, Vec<u8>)> {
    let file = FileBlock::open(path, false).unwrap();
    let index = Index::read(&file).unwrap();
    let read = |offset, size| file.read_vec(offset, size).unwrap();
    index.members.iter().map(|member| (member.name.clone(), read(member.offset, member.size))).collect()
}

/// Writes an archive of the given members.
pub(crate) fn archive(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut bytes = Vec::new();
    for (name, payload) in members {
        let size = payload.len() as u64;
        bytes.extend(member_header(name, size, 0).unwrap());
        bytes.extend(payload);
        bytes.resize(bytes.len() + usize::try_from(padding(size)).unwrap(), 0);
    }
    bytes.resize(bytes.len() + usize::try_from(end_padding(bytes.len() as u64)).unwrap(), 0);
    fs::write(path, bytes).unwrap();
}

/// Rewrites the package at `from` with its members changed, and the manifest made right for them.
pub(crate) fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) {
    let mut all = members(from);
    change(&mut all);
    let digests: Vec<_> = all
        .iter()
        .map(|(name, payload)| {
            let mut hasher = transload::appliance::ova::ManifestAlgorithm::Sha256.hasher();
            hasher.update(payload);
            (name.clone(), hasher.finish())
        })
        .collect();
    for (name, payload) in &mut all {
        if !name.ends_with(".mf") {
            continue;
        }
        let Ok(mut manifest) = Manifest::parse(payload) else { continue };
        for entry in &mut manifest.entries {
            let found = digests.iter().find(|(known, _)| *known == entry.name);
            entry.value = found.map_or_else(|| entry.value.clone(), |(_, digest)| digest.clone());
        }
        *payload = manifest.text().into_bytes();
    }
    archive(to, &all);
}

/// The bytes of a file that grew to a multiple of 1 MiB, as a package counts.
pub(crate) fn rounded(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes.resize(bytes.len().next_multiple_of(1 << 20), 0);
    bytes
}

/// What a guest sees on the image at `path`.
pub(crate) fn guest(path: &Path) -> Vec<u8> {
    let opened = transload::open(path).unwrap();
    opened.device.read_vec(0, BlockRead::size(&*opened.device)).unwrap()
}

/// The disk with this place as a streamOptimized VMDK with its tables in front and without its last sector: as it is
/// written by programs that forget the end-of-stream marker.
pub(crate) fn without_end(machine: &Machine, place: usize) -> Vec<u8> {
    let vmdk = Format::by_name("vmdk").unwrap();
    let values = ["subformat=streamOptimized,layout=front,round_up=1M"];
    let options = OptionValues::parse(vmdk.create_options, values).unwrap();
    let settings = Settings { options, force: true, ..Settings::new(vmdk) };
    let path = machine.path("front.vmdk");
    transload::convert_file(machine.raw(place), &path, &settings).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.len() - 512);
    bytes
}
