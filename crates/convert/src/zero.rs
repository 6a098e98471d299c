//! Finds what is not zero in a buffer.

use std::ops::Range;

use transload_block::is_all_zero;

/// The runs of `granule`-sized pieces of `bytes` that are not all zero, ascending, put into `runs`. The last run ends at
/// the end of `bytes` where the last piece is short.
pub(crate) fn nonzero_runs(bytes: &[u8], granule: usize, runs: &mut Vec<Range<usize>>) {
    runs.clear();
    let mut start = 0;
    for piece in bytes.chunks(granule.max(1)) {
        let end = start + piece.len();
        if !is_all_zero(piece) {
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(start..end),
            }
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_joined_and_cut_at_the_end() {
        let mut bytes = vec![0; 10];
        for place in [0, 3, 4, 9] {
            bytes[place] = 1;
        }
        let mut runs = Vec::new();
        nonzero_runs(&bytes, 2, &mut runs);
        assert_eq!(runs, [0..6, 8..10]);
        nonzero_runs(&bytes[..9], 4, &mut runs);
        assert_eq!((runs.len(), &runs[0]), (1, &(0..8)));
        nonzero_runs(&[], 4, &mut runs);
        assert!(runs.is_empty());
    }
}
