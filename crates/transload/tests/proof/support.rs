//! Variants to read and to write, and the verdict on an image.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use transload::image::codec::Level;

use transload::block::Result;
use transload::convert::{Compression, Input, Output, Plan, Report, Settings};
use transload::image::{Format, OpenSettings, Opened, OptionValues};
use transload_testkit::disks::{self, Sample};
use transload_testkit::witness;

/// A kind of image to write: a format, its options, and whether units are compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) format: &'static str,
    pub(crate) options: &'static str,
    pub(crate) compressed: bool,
}

const fn plain(format: &'static str, options: &'static str) -> Target {
    Target { format, options, compressed: false }
}

const fn compressed(format: &'static str, options: &'static str) -> Target {
    Target { format, options, compressed: true }
}

/// Everything that can be written.
pub(crate) const TARGETS: &[Target] = &[
    plain("raw", ""),
    plain("raw", "preallocation=full"),
    plain("qcow2", ""),
    plain("qcow2", "compat=0.10"),
    plain("qcow2", "cluster_size=512"),
    plain("qcow2", "cluster_size=2M"),
    plain("qcow2", "extended_l2=on"),
    plain("qcow2", "refcount_bits=1"),
    plain("qcow2", "refcount_bits=64,lazy_refcounts=on"),
    plain("qcow2", "preallocation=metadata"),
    compressed("qcow2", ""),
    compressed("qcow2", "compat=0.10,cluster_size=4k"),
    compressed("qcow2", "compression_type=zstd,cluster_size=2M"),
    compressed("qcow2", "extended_l2=on,compression_type=zstd,refcount_bits=8"),
    plain("vmdk", "subformat=monolithicSparse"),
    plain("vmdk", "subformat=monolithicSparse,zeroed_grain=on,adapter_type=ide,hwversion=8"),
    plain("vmdk", "subformat=monolithicFlat"),
    plain("vmdk", "subformat=twoGbMaxExtentSparse"),
    plain("vmdk", "subformat=twoGbMaxExtentFlat"),
    plain("vmdk", "subformat=vmfs"),
    compressed("vmdk", "subformat=streamOptimized,layout=front"),
    compressed("vmdk", "subformat=streamOptimized,layout=footer"),
    plain("vhd", ""),
    plain("vhd", "block_size=512k"),
    plain("vhd", "subformat=fixed"),
    plain("vhdx", ""),
    plain("vhdx", "block_size=1M,block_state_zero=off"),
    plain("vhdx", "subformat=fixed,block_size=1M,log_size=2M"),
    plain("vdi", ""),
    plain("vdi", "subformat=fixed"),
];

/// Everything that `qemu-img` can write and we read: format, options, and whether it is asked to compress.
pub(crate) const QEMU: &[Target] = &[
    plain("qcow2", "compat=0.10"),
    plain("qcow2", "cluster_size=512"),
    plain("qcow2", "cluster_size=2M,preallocation=metadata"),
    plain("qcow2", "extended_l2=on"),
    plain("qcow2", "refcount_bits=1"),
    plain("qcow2", "refcount_bits=64"),
    compressed("qcow2", "cluster_size=4k"),
    compressed("qcow2", "compression_type=zstd,cluster_size=128k"),
    compressed("qcow2", "extended_l2=on"),
    plain("vmdk", "subformat=monolithicSparse"),
    plain("vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
    plain("vmdk", "subformat=monolithicFlat"),
    plain("vmdk", "subformat=twoGbMaxExtentSparse"),
    plain("vmdk", "subformat=twoGbMaxExtentFlat"),
    plain("vmdk", "subformat=streamOptimized"),
    plain("vhd", "force_size=on"),
    plain("vhd", "subformat=fixed,force_size=on"),
    plain("vhdx", ""),
    plain("vhdx", "subformat=fixed,block_size=1M"),
    plain("vdi", ""),
    plain("vdi", "static=on"),
    plain("qed", "cluster_size=4k"),
    plain("qcow", ""),
    plain("parallels", "cluster_size=64k"),
];

impl Target {
    /// How to convert to it.
    pub(crate) fn settings(&self) -> Settings {
        let format = Format::by_name(self.format).unwrap();
        let mut settings = Settings::new(format);
        settings.options = OptionValues::parse(format.create_options, [self.options]).unwrap();
        settings.compression = self.compressed.then_some(Compression { kind: None, level: Level::default() });
        settings.threads = NonZeroUsize::new(2);
        settings
    }

    /// Has `qemu-img` make it of the raw disk at `raw`.
    pub(crate) fn by_qemu(&self, raw: &Path, image: &Path) {
        let mut arguments = vec!["convert", "-q", "-f", "raw", "-O", witness::qemu_name(self.format)];
        arguments.extend(Some(["-o", self.options]).filter(|_| !self.options.is_empty()).into_iter().flatten());
        // A streamOptimized VMDK is compressed whether or not that is asked for.
        arguments.extend((self.compressed && self.format == "qcow2").then_some("-c"));
        arguments.extend([raw.to_str().unwrap(), image.to_str().unwrap()]);
        witness::qemu_img(arguments);
    }
}

/// A disk to convert: its raw file, and what a guest sees where sizes are counted in sectors.
pub(crate) struct Original {
    pub(crate) raw: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// Of the disk with zeroes up to the next whole sector, which is all that qcow2 and VMDK can say.
    pub(crate) sha256_in_sectors: String,
}

impl Original {
    pub(crate) fn new(sample: &Sample, folder: &Path) -> Self {
        let raw = folder.join("original.raw");
        sample.save(&raw);
        let memory = sample.memory();
        let sha256 = disks::sha256(&memory);
        let mut rounded = sample.clone();
        rounded.size = sample.size.next_multiple_of(512);
        let sha256_in_sectors = disks::sha256(&rounded.memory());
        Self { raw, size: sample.size, sha256, sha256_in_sectors }
    }

    /// The size and digest that an image of `format` has to have.
    pub(crate) fn expected(&self, format: &str) -> (u64, &str) {
        match format {
            "raw" => (self.size, &self.sha256),
            _ => (self.size.next_multiple_of(512), &self.sha256_in_sectors),
        }
    }

    /// Our own reader finds the original in the image.
    pub(crate) fn assert_read_in(&self, image: &Path, format: &str, what: &str) {
        let opened = open(image).unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
        let (size, sha256) = if format == "raw" { self.expected("raw") } else { self.expected("vmdk") };
        assert_eq!(opened.layers[0].format.name, format, "{what}");
        assert_eq!(opened.device.size(), size, "{what}");
        assert_eq!(disks::sha256(&*opened.device), sha256, "{what}");
    }

    /// Everybody else finds the original in the image, and nothing wrong with it.
    pub(crate) fn assert_witnessed_in(&self, image: &Path, format: &str, what: &str) {
        let size = self.expected(format).0;
        if size == 0 && matches!(format, "vmdk" | "vhd" | "vhdx") {
            // qemu-img, libvmdk and libvhdi know none without bytes; qemu-img does not even read its own.
            return;
        }
        let qemu_name = witness::qemu_name(format);
        let info = witness::qemu_img(["info", "-f", qemu_name, "--output=json", image.to_str().unwrap()]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        // What is left of the last sector of a raw file is for qemu-img a sector too.
        assert_eq!(info["virtual-size"], size.next_multiple_of(512), "{what}");
        if format != "raw" {
            let checked = witness::run("qemu-img", ["check", "-q", "-f", qemu_name, image.to_str().unwrap()]);
            // 63: flat VMDKs have nothing to check, and for VHD qemu-img has no check.
            let code = checked.status.code();
            let unchecked = matches!(format, "vmdk" | "vhd") && code == Some(63);
            assert!(code == Some(0) || unchecked, "{what}: {}", witness::said(&checked));
        }
        if self.size > 0 {
            witness::assert_same_guest(&self.raw, "raw", image, format);
        }
        match format {
            // libqcow knows no disk without bytes, and neither zstd nor extended L2.
            "vmdk" => {
                let said = witness::vmdkinfo(image);
                assert!(said.contains(&size.to_string()), "{what}: {said}");
            }
            "qcow2" if size > 0 && !what.contains("zstd") && !what.contains("extended_l2") => {
                let said = witness::qcowinfo(image);
                assert!(said.contains(&size.to_string()), "{what}: {said}");
            }
            "vhd" => assert_eq!(witness::libvhdi(&[image]), (size, self.sha256_in_sectors.clone()), "{what}"),
            "vhdx" | "vdi" if size > 0 => {
                assert_eq!(witness::dissect(image, format), (size, self.sha256_in_sectors.clone()), "{what}");
            }
            _ => {}
        }
    }
}

/// Opens an image with what stands beside it.
pub(crate) fn open(image: &Path) -> Result<Opened> {
    transload::open(image)
}

/// Opens an image as what it is declared to be.
pub(crate) fn open_as(image: &Path, format: &str) -> Result<Opened> {
    let settings = OpenSettings { format: Format::by_name(format), ..OpenSettings::default() };
    transload::image::open_path(image, &settings)
}

/// Converts the image at `from` to `to`.
pub(crate) fn convert(from: &Path, to: &Path, target: &Target) -> Result<Report> {
    transload::convert_file(from, to, &target.settings())
}

/// Converts what is already opened.
pub(crate) fn convert_opened(opened: Opened, to: &Path, settings: &Settings) -> Result<Report> {
    let (input, output) = (Input::Image(opened), Output::Path(to.to_owned()));
    Plan::new(&input, &output, settings)?.run(input, output, settings)
}

/// The files in a folder by name, with their contents.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

/// A fresh folder below `parent`, replacing one of that name.
pub(crate) fn fresh(parent: &Path, name: &str) -> PathBuf {
    let folder = parent.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir(&folder).unwrap();
    folder
}
