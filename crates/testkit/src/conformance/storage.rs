//! The sentences of `Storage`.

use transload_block::{BlockReadExt, ErrorKind, Storage, ZeroMode, is_all_zero};

use super::{Sentence, Verdict, difference};
use crate::random::Random;

/// Checks a storage, whose contents are lost: every sentence of `Storage`, then those of `BlockWrite` and `BlockRead`.
/// A storage whose size is fixed is checked at that size. Random choices are by `seed`.
pub fn storage(storage: &dyn Storage, seed: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut random = Random::new(seed);
    let original = storage.size();
    check_sizes(storage, &mut random, &mut verdict);
    check_allocate(storage, &mut random, &mut verdict);
    if let Err(error) = storage.set_size(original) {
        verdict.check(Sentence::SizeMoves, false, || format!("back to {original} bytes: {error}"));
    }
    if verdict.is_sound() {
        verdict.merge(super::write(storage, seed));
    }
    verdict
}

fn check_sizes(storage: &dyn Storage, random: &mut Random, verdict: &mut Verdict) {
    let sizes = [1000, 0, 70_000, 65_536, 65_537, 300_000, 1, 4096, 4095, 1 << 20, (1 << 20) - 1, 200_000];
    // What the storage should hold.
    let mut model = storage.read_vec(0, storage.size().min(1 << 20)).unwrap_or_default();
    if storage.size() > model.len() as u64 && storage.set_size(model.len() as u64).is_err() {
        verdict.check(Sentence::SizeMoves, false, || "a storage can be made shorter".to_owned());
        return;
    }
    for size in sizes {
        match storage.set_size(size) {
            Ok(()) => {}
            // A block device keeps its size.
            Err(error) if error.kind() == ErrorKind::Unsupported && size > storage.size() => continue,
            Err(error) => {
                verdict.check(Sentence::SizeMoves, false, || format!("to {size} bytes: {error}"));
                continue;
            }
        }
        let found = storage.size();
        if !verdict.check(Sentence::SizeMoves, found == size, || format!("set to {size}, found {found}")) {
            return;
        }
        let kept = model.len().min(usize::try_from(size).expect("a small size"));
        let bytes = storage.read_vec(0, size).unwrap_or_default();
        if !verdict.check(Sentence::SizeMoves, bytes.len() as u64 == size, || format!("{size} bytes cannot be read")) {
            return;
        }
        verdict.check(Sentence::SizeMoves, bytes[..kept] == model[..kept], || difference(&bytes, &model[..kept], 0));
        verdict.check(Sentence::NewBytesAreZero, is_all_zero(&bytes[kept..]), || {
            format!("from {} to {size} bytes, new bytes are not zero", model.len())
        });
        model = random.bytes(bytes.len());
        let answer = storage.write_at(&model, 0);
        verdict.check(Sentence::WriteIsSeen, answer.is_ok(), || format!("write of {size} bytes: {answer:?}"));
        check_end(storage, verdict);
    }
}

/// Writing at and over the end moves nothing.
fn check_end(storage: &dyn Storage, verdict: &mut Verdict) {
    let size = storage.size();
    let refused = [
        storage.write_at(&[1; 2], size.saturating_sub(1)),
        storage.write_at(&[1], size),
        storage.write_zeroes_at(size.saturating_sub(1)..size + 1, ZeroMode::Unmap),
        storage.write_zeroes_at(size..size + 4096, ZeroMode::KeepAllocated),
    ];
    for answer in refused {
        let kind = answer.as_ref().err().map(transload_block::Error::kind);
        let holds = kind == Some(ErrorKind::OutOfRange) && storage.size() == size;
        verdict.check(Sentence::WriteDoesNotExtend, holds, || format!("{answer:?}, size {} of {size}", storage.size()));
    }
}

fn check_allocate(storage: &dyn Storage, random: &mut Random, verdict: &mut Verdict) {
    let sentence = Sentence::AllocateKeepsContents;
    let size = storage.size();
    let before = storage.read_vec(0, size).unwrap_or_default();
    for range in [0..size, 0..0, size..size, random.range(size, size), random.range(size, 10_000)] {
        let answer = storage.allocate(range.clone());
        let allowed = answer.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Unsupported);
        verdict.check(sentence, allowed && storage.size() == size, || format!("{range:?}: {answer:?}"));
    }
    for range in [0..size + 1, size..size + 1, 5..u64::MAX] {
        let answer = storage.allocate(range.clone());
        let kind = answer.as_ref().err().map(transload_block::Error::kind);
        let refused = matches!(kind, Some(ErrorKind::OutOfRange | ErrorKind::Unsupported));
        verdict.check(sentence, refused && storage.size() == size, || format!("{range:?} of {size}: {answer:?}"));
    }
    let after = storage.read_vec(0, size).unwrap_or_default();
    verdict.check(sentence, before == after, || difference(&after, &before, 0));
}
