//! The members of an archive that can be read at any place.

use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::member::{Member, MemberKind};
use super::walk::{ArchiveEnd, OnDevice, Walk};

/// What an OVA holds and where: a member's payload stands at `offset..offset + size` of the file, so that a disk in it can
/// be opened in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Regular files, in the order of the archive.
    pub members: Vec<Member>,
    /// How the archive ended.
    pub end: ArchiveEnd,
}

impl Index {
    /// Reads the headers of the archive in `file`, and refuses one that holds anything but files that stay in its folder.
    ///
    /// # Errors
    /// As [`Walk::next_member`] and [`Member::refuse_unsafe`]; `NotThisFormat` when there is no member.
    pub fn read(file: &dyn BlockRead) -> Result<Self> {
        let mut walk = Walk::new(OnDevice::new(file));
        let mut members = Vec::new();
        while let Some(member) = walk.next_member()? {
            member.refuse_unsafe()?;
            if member.kind == MemberKind::File {
                members.push(member);
            }
        }
        if members.is_empty() {
            return Err(Error::new(ErrorKind::NotThisFormat, "the archive holds no file"));
        }
        Ok(Self { members, end: walk.end().unwrap_or_default() })
    }

    /// The descriptor: the first member that is called as one.
    #[must_use]
    pub fn descriptor(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.has_ending("ovf"))
    }

    /// The member called `name`, a `./` before either left out.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        let name = name.trim_start_matches("./");
        self.members.iter().find(|member| member.plain_name() == name)
    }
}
