//! How a volume of a disk is called: `2`, `vg0/root`, `whole`.

use std::fmt;
use std::str::FromStr;

use transload_block::{Error, ErrorKind};

/// The name of a volume: what stands behind the `#` of an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeName {
    /// All of the disk, whatever table is on it: `whole`.
    Whole,
    /// A partition, by its number in the table, from 1 on; logical partitions of an MBR begin at 5.
    Partition(u32),
    /// A logical volume of LVM: `group/volume`.
    Logical {
        /// The volume group.
        group: String,
        /// The volume in it.
        volume: String,
    },
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Partition(number) => write!(f, "{number}"),
            Self::Logical { group, volume } => write!(f, "{group}/{volume}"),
        }
    }
}

impl FromStr for VolumeName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let text = format!("'{text}' names no volume: it is a partition's number, GROUP/VOLUME or 'whole'");
            Error::new(ErrorKind::InvalidInput, text)
        };
        if text == "whole" {
            return Ok(Self::Whole);
        }
        if let Some((group, volume)) = text.split_once('/') {
            let sound = is_lvm_name(group) && is_lvm_name(volume);
            return if sound {
                Ok(Self::Logical { group: group.to_owned(), volume: volume.to_owned() })
            } else {
                Err(wrong())
            };
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && number > 0 => Ok(Self::Partition(number)),
            _ => Err(wrong()),
        }
    }
}

/// Whether LVM allows the name for a group or a volume (lvm(8), "Valid names").
pub(crate) fn is_lvm_name(name: &str) -> bool {
    const LONGEST: usize = 127;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::VolumeName;

    #[test]
    fn names_are_numbers_or_pairs() {
        let logical = |group: &str, volume: &str| VolumeName::Logical { group: group.into(), volume: volume.into() };
        assert_eq!("2".parse::<VolumeName>().unwrap(), VolumeName::Partition(2));
        assert_eq!("vg-0/root.1".parse::<VolumeName>().unwrap(), logical("vg-0", "root.1"));
        assert_eq!("whole".parse::<VolumeName>().unwrap(), VolumeName::Whole);
        for wrong in ["", "0", "+1", "-1", "1.raw", "a", "a/", "/b", "a/b/c", "../b", "-a/b", "4294967296", "ä/b"] {
            assert!(wrong.parse::<VolumeName>().is_err(), "{wrong}");
        }
        for name in ["7", "vg/lv", "whole"] {
            assert_eq!(name.parse::<VolumeName>().unwrap().to_string(), name);
        }
    }
}
