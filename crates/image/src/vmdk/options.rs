//! The `-o` options of a new VMDK: what there are, and the sound values that were chosen with them.

use transload_block::{Error, ErrorKind, Result};

use super::layout::SECTOR;
use crate::preallocation::{self, Preallocation};
use crate::{OptionKind, OptionSpec, OptionValues};

/// What `-o` understands when a VMDK is written, named as qemu-img names it where it has the option.
pub(crate) const CREATE_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "subformat",
        kind: OptionKind::Choice(&[
            "monolithicSparse",
            "monolithicFlat",
            "twoGbMaxExtentSparse",
            "twoGbMaxExtentFlat",
            "vmfs",
            "streamOptimized",
        ]),
        default: "monolithicSparse",
        help: "kind of VMDK",
    },
    OptionSpec {
        name: "adapter_type",
        kind: OptionKind::Choice(&["ide", "buslogic", "lsilogic", "legacyESX"]),
        default: "lsilogic",
        help: "adapter that the descriptor names; lsilogic also for PVSCSI, SAS and NVMe, ide also for SATA",
    },
    OptionSpec {
        name: "hwversion",
        kind: OptionKind::Number,
        default: "4",
        help: "virtual hardware version that the descriptor names",
    },
    OptionSpec {
        name: "toolsversion",
        kind: OptionKind::Number,
        default: "2147483647",
        help: "guest tools version that the descriptor names",
    },
    OptionSpec {
        name: "compat6",
        kind: OptionKind::Flag,
        default: "off",
        help: "virtual hardware version 6, unless hwversion says another",
    },
    OptionSpec {
        name: "zeroed_grain",
        kind: OptionKind::Flag,
        default: "off",
        help: "mark grains of zeroes in the grain table (header version 2); sparse kinds only",
    },
    OptionSpec {
        name: "backing_file",
        kind: OptionKind::Text,
        default: "",
        help: "parent, whose content shows where the new image has none; sparse kinds only",
    },
    OptionSpec {
        name: "backing_fmt",
        kind: OptionKind::Choice(&["vmdk"]),
        default: "vmdk",
        help: "format of the parent",
    },
    OptionSpec {
        name: "layout",
        kind: OptionKind::Choice(&["front", "footer"]),
        default: "",
        help: "streamOptimized: tables in front of the data (files, OpenStack) or behind it with a footer (pipes)",
    },
    OptionSpec {
        name: "round_up",
        kind: OptionKind::Size,
        default: "512",
        help: "round the virtual size up to a multiple of this, such as 1M for importers that count in MiB",
    },
    OptionSpec {
        help: "flat kinds: sparse (off), with its room set aside (falloc), or written with zeroes (full)",
        ..preallocation::OPTION
    },
];

/// The kind of a new VMDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subformat {
    MonolithicSparse,
    MonolithicFlat,
    TwoGbMaxExtentSparse,
    TwoGbMaxExtentFlat,
    Vmfs,
    StreamOptimized,
}

impl Subformat {
    /// The name in `createType` and in `-o subformat=`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MonolithicSparse => "monolithicSparse",
            Self::MonolithicFlat => "monolithicFlat",
            Self::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Self::Vmfs => "vmfs",
            Self::StreamOptimized => "streamOptimized",
        }
    }

    /// Whether its extents are hosted sparse ones that are written at random places.
    pub(crate) const fn is_sparse(self) -> bool {
        matches!(self, Self::MonolithicSparse | Self::TwoGbMaxExtentSparse)
    }

    /// Whether each byte of the disk has its place from the start.
    pub(crate) const fn is_flat(self) -> bool {
        matches!(self, Self::MonolithicFlat | Self::TwoGbMaxExtentFlat | Self::Vmfs)
    }

    fn by_name(name: &str) -> Option<Self> {
        [
            Self::MonolithicSparse,
            Self::MonolithicFlat,
            Self::TwoGbMaxExtentSparse,
            Self::TwoGbMaxExtentFlat,
            Self::Vmfs,
            Self::StreamOptimized,
        ]
        .into_iter()
        .find(|subformat| subformat.name() == name)
    }
}

/// Where the tables of a streamOptimized file stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableLayout {
    /// In front of the data, without markers, as open-vmdk writes them; the output must be seekable.
    Front,
    /// Behind the data with markers and a footer; the file is written strictly from front to back.
    Footer,
}

/// The sound values of all options.
#[derive(Clone, Debug)]
pub(crate) struct CreateOptions {
    /// `None` when it was not given: random writing and writing from front to back have different defaults.
    subformat: Option<Subformat>,
    pub(crate) adapter_type: String,
    pub(crate) hardware_version: u64,
    pub(crate) tools_version: u64,
    pub(crate) zeroed_grain: bool,
    pub(crate) backing_file: Option<String>,
    /// `None` when it was not given: files and pipes have different defaults.
    pub(crate) layout: Option<TableLayout>,
    /// Of the files that hold the guest's bytes; always off for kinds that are not flat.
    pub(crate) preallocation: Preallocation,
    round_up: u64,
}

impl CreateOptions {
    /// Takes the values over and checks what their kinds alone do not.
    ///
    /// # Errors
    /// `InvalidInput` for values that contradict each other or the kind of image.
    pub(crate) fn new(values: &OptionValues) -> Result<Self> {
        let subformat = match values.text("subformat") {
            None => None,
            Some(name) => Some(Subformat::by_name(name).ok_or_else(|| invalid(&format!("subformat={name}")))?),
        };
        let compat6 = values.flag("compat6").unwrap_or(false);
        let options = Self {
            subformat,
            adapter_type: values.text("adapter_type").unwrap_or("lsilogic").to_owned(),
            hardware_version: values.number("hwversion").unwrap_or(if compat6 { 6 } else { 4 }),
            tools_version: values.number("toolsversion").unwrap_or(2_147_483_647),
            zeroed_grain: values.flag("zeroed_grain").unwrap_or(false),
            backing_file: values.text("backing_file").filter(|name| !name.is_empty()).map(str::to_owned),
            layout: match values.text("layout") {
                Some("front") => Some(TableLayout::Front),
                Some("footer") => Some(TableLayout::Footer),
                _ => None,
            },
            preallocation: Preallocation::of(values),
            round_up: values.size("round_up").unwrap_or(SECTOR),
        };
        if options.round_up == 0 || !options.round_up.is_multiple_of(SECTOR) {
            return Err(invalid(&format!("round_up={}: must be a multiple of {SECTOR}", options.round_up)));
        }
        if values.text("backing_fmt").is_some() && options.backing_file.is_none() {
            return Err(invalid("backing_fmt is given without backing_file"));
        }
        Ok(options)
    }

    /// The kind of image, `default` when none was asked for, once the other options are known to fit it.
    ///
    /// # Errors
    /// `InvalidInput` for an option that the kind has no use for.
    pub(crate) fn subformat_or(&self, default: Subformat) -> Result<Subformat> {
        let subformat = self.subformat.unwrap_or(default);
        let refuse = |what: &str| Err(invalid(&format!("{what} does not go with subformat={}", subformat.name())));
        if self.zeroed_grain && !subformat.is_sparse() {
            return refuse("zeroed_grain=on");
        }
        if self.backing_file.is_some() && !subformat.is_sparse() {
            return refuse("backing_file");
        }
        if self.layout.is_some() && subformat != Subformat::StreamOptimized {
            return refuse("layout");
        }
        if self.preallocation != Preallocation::Off && !subformat.is_flat() {
            return refuse("preallocation")
                .map_err(|error| error.with_remedy("choose a flat kind, such as subformat=monolithicFlat"));
        }
        Ok(subformat)
    }

    /// The sectors of a disk of `size` bytes: rounded up to whole sectors, and as `round_up` asks.
    ///
    /// # Errors
    /// `TooLarge` when they cannot be counted.
    pub(crate) fn capacity(&self, size: u64) -> Result<u64> {
        size.checked_next_multiple_of(self.round_up)
            .map(|bytes| bytes / SECTOR)
            .ok_or_else(|| Error::new(ErrorKind::TooLarge, format!("VMDK: a disk of {size} bytes")))
    }
}

fn invalid(context: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("VMDK options: {context}"))
}
