//! Finite state entropy as LZFSE has it: bits that are read from their end, and tables of states.

/// A stream of bits that is read from its end.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that are left.
    left: usize,
}

impl<'a> Bits<'a> {
    /// The bits of `bytes` without the upper `spare` ones of the last byte; `None` when there are fewer.
    pub(super) fn new(bytes: &'a [u8], spare: u32) -> Option<Self> {
        let left = bytes.len().checked_mul(8)?.checked_sub(usize::try_from(spare).ok()?)?;
        Some(Self { bytes, left })
    }

    /// The last `count` bits, at most 32, of which the last one is the highest; `None` when there are fewer.
    fn pull(&mut self, count: u8) -> Option<u32> {
        self.left = self.left.checked_sub(usize::from(count))?;
        let (first, shift) = (self.left / 8, self.left % 8);
        let tail = self.bytes.get(first..)?;
        let word = match tail.first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        u32::try_from(word >> shift & ((1 << count) - 1)).ok()
    }
}

/// How a state goes on to the next: it pulls `bits` and adds `base`.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    bits: u8,
    base: u16,
    symbol: u8,
}

/// The states of a table of `frequencies`, which say how many of the `STATES` states each symbol has. Their sum must not be
/// more; states that no symbol has are not reached by a sound stream.
fn steps<const STATES: usize>(frequencies: &[u16]) -> Option<[Step; STATES]> {
    let mut steps = [Step::default(); STATES];
    let mut free = steps.iter_mut();
    for (symbol, frequency) in frequencies.iter().map(|frequency| usize::from(*frequency)).enumerate() {
        if frequency == 0 {
            continue;
        }
        // Each state of the symbol stands for an interval of states; the first ones for twice as long ones as the others.
        let bits = u8::try_from(STATES.ilog2().checked_sub(frequency.ilog2())?).ok()?;
        let long = (2 * STATES >> bits).checked_sub(frequency)?;
        for index in 0..frequency {
            let (bits, base) = if index < long {
                (bits, ((frequency + index) << bits).checked_sub(STATES)?)
            } else {
                (bits - 1, (index - long) << (bits - 1))
            };
            *free.next()? = Step { bits, base: u16::try_from(base).ok()?, symbol: u8::try_from(symbol).ok()? };
        }
    }
    Some(steps)
}

/// A table that gives bytes.
pub(super) struct Literals<const STATES: usize>([Step; STATES]);

impl<const STATES: usize> Literals<STATES> {
    pub(super) fn new(frequencies: &[u16]) -> Option<Self> {
        steps(frequencies).map(Self)
    }

    /// The byte of `state`, which goes on to the next.
    pub(super) fn next(&self, state: &mut u16, bits: &mut Bits<'_>) -> Option<u8> {
        let step = self.0.get(usize::from(*state))?;
        *state = step.base.checked_add(u16::try_from(bits.pull(step.bits)?).ok()?)?;
        Some(step.symbol)
    }
}

/// A table that gives numbers: a symbol's first number, and bits that are added to it.
pub(super) struct Values<const STATES: usize> {
    steps: [Step; STATES],
    /// By symbol.
    extra: [u8; 64],
    base: [u32; 64],
}

impl<const STATES: usize> Values<STATES> {
    /// The numbers of each symbol begin behind those of the one before it.
    pub(super) fn new(frequencies: &[u16], extra_bits: &[u8]) -> Option<Self> {
        let (mut extra, mut base) = ([0; 64], [0; 64]);
        let mut next = 0;
        for ((extra, base), bits) in extra.iter_mut().zip(&mut base).zip(extra_bits) {
            (*extra, *base) = (*bits, next);
            next += 1 << bits;
        }
        Some(Self { steps: steps(frequencies)?, extra, base })
    }

    /// The number of `state`, which goes on to the next.
    pub(super) fn next(&self, state: &mut u16, bits: &mut Bits<'_>) -> Option<usize> {
        let step = self.steps.get(usize::from(*state))?;
        let symbol = usize::from(step.symbol);
        let (extra, base) = (*self.extra.get(symbol)?, *self.base.get(symbol)?);
        // The bits of the state are the upper ones.
        let pulled = bits.pull(step.bits + extra)?;
        *state = step.base.checked_add(u16::try_from(pulled >> extra).ok()?)?;
        usize::try_from(base + (pulled & ((1 << extra) - 1))).ok()
    }
}
