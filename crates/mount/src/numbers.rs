//! The numbers that the kernel knows files by.
//!
//! A number says where the file is: the lower bits are the filesystem's own number, those above say which filesystem. So a file
//! has the same number as long as the mount lives, however often the kernel forgets it, and two names of one file share it: what
//! programs find hard links by. Numbers that do not fit, of huge filesystems or of one among very many, are given out one by one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use transload_filesystem::FileId;

/// Numbers given out one by one, at most: 64 MiB of them.
const MOST_GIVEN: usize = 1 << 20;
/// Marks a number that was given out.
const GIVEN: u64 = 1 << 63;

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A node of the tree.
    Node(usize),
    /// A file of a filesystem of the tree.
    File(usize, FileId),
}

/// The numbers of a mount.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// How many lower bits are the filesystem's own.
    bits: u32,
    filesystems: usize,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    places: Vec<Place>,
    numbers: HashMap<Place, u64>,
}

impl Numbers {
    /// Numbers for a tree with so many filesystems.
    pub(crate) fn new(filesystems: usize) -> Self {
        let upper = usize::BITS - filesystems.leading_zeros();
        Self { bits: (u64::BITS - 1).saturating_sub(upper).max(32), filesystems, given: Mutex::default() }
    }

    /// The number of `place`; `None` when there are too many that do not fit.
    pub(crate) fn of(&self, place: Place) -> Option<u64> {
        let (upper, lower) = match place {
            // The root is 1, as the kernel wants it.
            Place::Node(node) => (0, node as u64 + 1),
            Place::File(filesystem, FileId(id)) => (filesystem as u64 + 1, id),
        };
        let number = upper.checked_shl(self.bits).unwrap_or(0) | lower;
        if number & GIVEN == 0 && lower >> self.bits == 0 && number >> self.bits == upper {
            return Some(number);
        }
        let mut given = self.given();
        if let Some(number) = given.numbers.get(&place) {
            return Some(*number);
        }
        if given.places.len() >= MOST_GIVEN {
            return None;
        }
        let number = GIVEN | given.places.len() as u64;
        given.places.push(place);
        given.numbers.insert(place, number);
        Some(number)
    }

    /// What `number` stands for.
    pub(crate) fn place(&self, number: u64) -> Option<Place> {
        if number & GIVEN != 0 {
            let index = usize::try_from(number & !GIVEN).ok()?;
            return self.given().places.get(index).copied();
        }
        let (upper, lower) = (number >> self.bits, number & ((1 << self.bits) - 1));
        match upper.checked_sub(1) {
            None => usize::try_from(lower.checked_sub(1)?).ok().map(Place::Node),
            Some(filesystem) => {
                let filesystem = usize::try_from(filesystem).ok().filter(|index| *index < self.filesystems)?;
                Some(Place::File(filesystem, FileId(lower)))
            }
        }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_back_to_its_place() {
        for filesystems in [0, 1, 2, 3, 126, 1000, 1 << 20] {
            let numbers = Numbers::new(filesystems);
            let mut seen = HashMap::new();
            let ids = [0, 1, 2, 1 << 32, 1 << 48, 1 << 56, (1 << 62) + 5, u64::MAX];
            let files = [0, 1, filesystems / 2, filesystems.saturating_sub(1)];
            let files = files.iter().filter(|index| **index < filesystems);
            let files = files.flat_map(|index| ids.map(|id| Place::File(*index, FileId(id))));
            for place in [Place::Node(0), Place::Node(7)].into_iter().chain(files) {
                let number = numbers.of(place).unwrap();
                assert_eq!(numbers.place(number), Some(place), "{filesystems}: {place:?}");
                assert_eq!(numbers.of(place), Some(number));
                assert_eq!(*seen.entry(number).or_insert(place), place);
            }
        }
        assert_eq!(Numbers::new(3).of(Place::Node(0)), Some(1));
        for nothing in [0, GIVEN, u64::MAX] {
            assert_eq!(Numbers::new(3).place(nothing), None, "{nothing:#x}");
        }
    }
}
