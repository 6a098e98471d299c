//! One line of a descriptor's extent description: `ACCESS SECTORS TYPE ["NAME" [OFFSET […]]]`.

use super::error::Fault;

/// What may be done with an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtentAccess {
    /// `RW`
    ReadWrite,
    /// `RDONLY`
    ReadOnly,
    /// `NOACCESS`
    None,
}

/// How an extent is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtentKind {
    /// `FLAT`: the bytes themselves.
    Flat,
    /// `SPARSE`: a hosted sparse file.
    Sparse,
    /// `ZERO`: zeroes without a file.
    Zero,
    /// `VMFS`: the bytes themselves, on an ESXi host.
    Vmfs,
    /// `VMFSSPARSE`: a COWD file.
    VmfsSparse,
    /// `VMFSRDM`: a raw device map.
    VmfsRdm,
    /// `VMFSRAW`: a raw device.
    VmfsRaw,
    /// `SESPARSE`: a seSparse file.
    SeSparse,
}

impl ExtentKind {
    const ALL: [Self; 8] = [
        Self::Flat,
        Self::Sparse,
        Self::Zero,
        Self::Vmfs,
        Self::VmfsSparse,
        Self::VmfsRdm,
        Self::VmfsRaw,
        Self::SeSparse,
    ];

    /// The word in a descriptor.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "FLAT",
            Self::Sparse => "SPARSE",
            Self::Zero => "ZERO",
            Self::Vmfs => "VMFS",
            Self::VmfsSparse => "VMFSSPARSE",
            Self::VmfsRdm => "VMFSRDM",
            Self::VmfsRaw => "VMFSRAW",
            Self::SeSparse => "SESPARSE",
        }
    }

    /// Whether the extent's file has the guest's bytes and nothing else.
    pub(crate) const fn is_flat(self) -> bool {
        matches!(self, Self::Flat | Self::Vmfs)
    }
}

/// An extent as the descriptor has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtentLine {
    pub access: ExtentAccess,
    /// Sectors of the disk.
    pub sectors: u64,
    pub kind: ExtentKind,
    /// The file's name; always there except for [`ExtentKind::Zero`].
    pub name: Option<String>,
    /// Sectors from the start of the file; only flat extents have other than 0.
    pub offset: u64,
}

impl ExtentLine {
    /// Whether `line` begins as an extent line does, so that it must be one.
    pub(crate) fn looks_like(line: &str) -> bool {
        line.split_whitespace().next().is_some_and(|word| access(word).is_some())
    }

    /// Reads the trimmed line number `number`.
    pub(crate) fn parse(line: &str, number: usize) -> Result<Self, Fault> {
        let bad = |problem: &str| Fault::DescriptorLine { line: number, problem: problem.to_owned() };
        let (word, rest) = next_word(line);
        let access = access(word).ok_or_else(|| bad("access is not RW, RDONLY or NOACCESS"))?;
        let (word, rest) = next_word(rest);
        let sectors = word.parse().map_err(|_| bad("the size is not a number of sectors"))?;
        let (word, rest) = next_word(rest);
        if word.is_empty() {
            return Err(bad("the extent has no type"));
        }
        let kind = ExtentKind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(word));
        let kind = kind.ok_or_else(|| Fault::ExtentType(word.chars().take(32).collect()))?;
        let (name, rest) = name(rest).ok_or_else(|| bad("the file name has no closing quote"))?;
        if name.is_none() && kind != ExtentKind::Zero {
            return Err(bad("the extent has no file name"));
        }
        let (word, _) = next_word(rest);
        let offset = match word {
            "" => 0,
            // Physical disks have an identifier of the partition or device here, after the offset or instead of it.
            word if !word.starts_with(|first: char| first.is_ascii_digit() || first == '-') => 0,
            word => word.parse().map_err(|_| bad("the offset is not a number of sectors"))?,
        };
        Ok(Self { access, sectors, kind, name, offset })
    }
}

fn access(word: &str) -> Option<ExtentAccess> {
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    if is("RW") {
        Some(ExtentAccess::ReadWrite)
    } else if is("RDONLY") {
        Some(ExtentAccess::ReadOnly)
    } else if is("NOACCESS") {
        Some(ExtentAccess::None)
    } else {
        None
    }
}

fn next_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    text.split_at(end)
}

/// Takes the file name from the front of `rest`: quoted, or one bare word. `None` for a quote that is not closed.
fn name(rest: &str) -> Option<(Option<String>, &str)> {
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (word, rest) = next_word(rest);
        return Some(((!word.is_empty()).then(|| word.to_owned()), rest));
    };
    // A name may itself hold quotes, which VMware does not escape: the closing one is the first that is followed by
    // nothing, or by what may follow a name.
    quoted
        .match_indices('"')
        .map(|(at, _)| (&quoted[..at], &quoted[at + 1..]))
        .find(|(_, behind)| ends_a_name(behind))
        .map(|(name, behind)| (Some(name.to_owned()), behind))
}

/// Whether `behind` may follow the closing quote of a name. It looks no further than the first word, and only behind white
/// space, so that a line of a million quotes is read in one pass.
fn ends_a_name(behind: &str) -> bool {
    if behind.is_empty() {
        return true;
    }
    if !behind.starts_with(char::is_whitespace) {
        return false;
    }
    let (word, _) = next_word(behind);
    word.bytes().all(|byte| byte.is_ascii_digit()) || word.eq_ignore_ascii_case("partitionUUID")
}
