//! Chunks of zeroes: what holes of files are stored as, without being read or hashed.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::chunk::MOST as LONGEST;
use crate::format::id::Id;

/// The shortest of the chunks that holes are made of: a block of a filesystem.
const SHORTEST: usize = 4 << 10;

/// The digests of chunks of zeroes whose lengths are powers of two.
fn table() -> &'static HashMap<Id, usize> {
    static TABLE: OnceLock<HashMap<Id, usize>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let zeroes = vec![0; LONGEST];
        lengths().map(|length| (Id::of(&zeroes[..length]), length)).collect()
    })
}

fn lengths() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(LONGEST), |length| Some(length / 2)).take_while(|length| *length >= SHORTEST)
}

/// The chunks of a hole of `length` bytes, the longest first.
pub(crate) fn pieces(mut length: u64) -> Vec<usize> {
    let mut pieces = Vec::new();
    for piece in lengths() {
        while length >= piece as u64 {
            pieces.push(piece);
            length -= piece as u64;
        }
    }
    pieces.extend(usize::try_from(length).ok().filter(|rest| *rest > 0));
    pieces
}

/// The digest of a chunk of `length` zeroes.
pub(crate) fn id(length: usize) -> Id {
    let known = table().iter().find(|(_, known)| **known == length);
    known.map_or_else(|| Id::of(&vec![0; length]), |(id, _)| *id)
}

/// Whether a chunk of a file of several consists of zeroes alone, as far as its name tells.
pub(crate) fn is_hole(chunk: &Id, length: u64) -> bool {
    let short = || usize::try_from(length).is_ok_and(|length| length < SHORTEST && Id::of(&vec![0; length]) == *chunk);
    table().contains_key(chunk) || short()
}

#[cfg(test)]
mod tests {
    use super::{Id, id, is_hole, pieces};

    #[test]
    fn holes_are_made_of_powers_of_two_and_a_rest() {
        assert_eq!(pieces(0), [0; 0]);
        assert_eq!(pieces((20 << 20) + 4096 + 7), [8 << 20, 8 << 20, 4 << 20, 4096, 7]);
        for length in [7, 4096, 8 << 20] {
            assert_eq!(id(length), Id::of(&vec![0; length]));
            assert!(is_hole(&id(length), length as u64));
        }
        assert!(!is_hole(&Id::of(&[1; 7]), 7));
    }
}
