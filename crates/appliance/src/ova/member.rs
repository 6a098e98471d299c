//! A member of an archive, and what may not be one.

use transload_block::{Error, ErrorKind, Result};

use super::header::Dialect;

/// The most members that an archive is read with. An appliance has a descriptor, a manifest and a handful of disks.
pub const MEMBERS_MAX: usize = 4096;

/// What a member is, by its header's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A second name of another member, or of a file anywhere.
    HardLink,
    /// A name that leads to another one.
    SymbolicLink,
    /// A file with holes that are left out, in GNU's or pax's way.
    Sparse,
    /// A device, a pipe, or a type that is not known.
    Other(u8),
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, as the archive has it.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Bytes of its payload.
    pub size: u64,
    /// Where its first header stands, in bytes from the archive's beginning.
    pub header_offset: u64,
    /// Where its payload begins.
    pub offset: u64,
    /// Whose kind of header it has.
    pub dialect: Dialect,
    /// Whether a pax header stands before it.
    pub pax: bool,
    /// Whether its size is in base 256.
    pub base256: bool,
    /// Whether its name is in GNU's carrier of long names.
    pub long_name: bool,
}

impl Member {
    /// The name without the `./` that archives of a whole folder put before it.
    #[must_use]
    pub fn plain_name(&self) -> &str {
        let mut name = self.name.as_str();
        while let Some(rest) = name.strip_prefix("./") {
            name = rest;
        }
        name
    }

    /// Whether the name's last dot is followed by `ending`, in any case.
    #[must_use]
    pub fn has_ending(&self, ending: &str) -> bool {
        let found = self.name.rsplit_once('.').map(|(_, found)| found);
        found.is_some_and(|found| found.eq_ignore_ascii_case(ending))
    }

    /// Refuses what an appliance has no use for and an attacker has: links, devices, names that lead elsewhere, files
    /// whose bytes do not stand in the archive.
    ///
    /// # Errors
    /// `Denied` for links, devices and names that leave the folder; `Unsupported` for sparse members.
    pub fn refuse_unsafe(&self) -> Result<()> {
        let denied = |what: &str| Err(Error::new(ErrorKind::Denied, format!("tar: member '{}' {what}", self.name)));
        match self.kind {
            MemberKind::File | MemberKind::Folder => {}
            MemberKind::HardLink | MemberKind::SymbolicLink => return denied("is a link"),
            MemberKind::Sparse => {
                let text = format!("tar: member '{}' is stored with holes", self.name);
                return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("repack it with `tar --format=gnu`"));
            }
            MemberKind::Other(kind) => return denied(&format!("is of type {kind:#04x}, neither file nor folder")),
        }
        refuse_unsafe_name(self.plain_name()).or_else(|why| {
            // The folder that was packed is no place to go.
            if self.kind == MemberKind::Folder && self.plain_name().is_empty() { Ok(()) } else { denied(why) }
        })
    }
}

/// Says what is wrong with a name that does not stay in the folder it is looked up in.
///
/// # Errors
/// The rest of a sentence that begins with the name.
pub fn refuse_unsafe_name(name: &str) -> Result<(), &'static str> {
    // A drive letter, and what looks like an address, begin with a word and a colon; a machine's name may have a colon
    // further on.
    let scheme = name.split_once("://").is_some();
    let drive = name.as_bytes().get(1) == Some(&b':') && name.starts_with(|c: char| c.is_ascii_alphabetic());
    match name {
        "" => Err("has no name"),
        _ if name.starts_with(['/', '\\']) || drive => Err("has an absolute name"),
        _ if scheme => Err("is an address"),
        _ if name.chars().any(|c| c == '\0' || c.is_control()) => Err("has control characters in its name"),
        _ if name.split(['/', '\\']).any(|part| part == "..") => Err("leads out of its folder"),
        _ => Ok(()),
    }
}
