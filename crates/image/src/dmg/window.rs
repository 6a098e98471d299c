//! What a decoder has written so far, and copies from it.

/// A buffer that is filled from the front, partly with copies of what is in it.
#[derive(Debug)]
pub(super) struct Window<'a> {
    unit: &'a mut [u8],
    filled: usize,
}

impl<'a> Window<'a> {
    /// An empty window over `unit`.
    pub(super) fn new(unit: &'a mut [u8]) -> Self {
        Self { unit, filled: 0 }
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == self.unit.len()
    }

    /// Appends `bytes`; `None` when there is no room.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.unit.get_mut(self.filled..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.filled += bytes.len();
        Some(())
    }

    /// Appends `length` bytes from `distance` back, which may reach into themselves; `None` when that is in front of the
    /// unit, or when there is no room.
    pub(super) fn copy(&mut self, distance: usize, length: usize) -> Option<()> {
        let end = self.filled.checked_add(length).filter(|end| *end <= self.unit.len())?;
        let mut from = self.filled.checked_sub(distance).filter(|_| distance > 0)?;
        // What is copied doubles with each step where it reaches into itself.
        while self.filled < end {
            let step = (end - self.filled).min(self.filled - from);
            self.unit.copy_within(from..from + step, self.filled);
            self.filled += step;
            from = if step < distance { from + step } else { from };
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn copies_reach_into_themselves() {
        for distance in 1..8 {
            for length in 0..50 {
                let mut unit = [0; 64];
                let mut window = Window::new(&mut unit);
                window.put(b"abcdefgh").unwrap();
                window.copy(distance, length).unwrap();
                let filled = window.filled();
                let mut expected = b"abcdefgh".to_vec();
                for _ in 0..length {
                    expected.push(expected[expected.len() - distance]);
                }
                assert_eq!(unit[..filled], expected, "{length} from {distance} back");
            }
        }
        let mut unit = [0; 4];
        let mut window = Window::new(&mut unit);
        assert_eq!(window.copy(1, 1), None);
        window.put(b"ab").unwrap();
        assert_eq!(
            (window.copy(3, 1), window.copy(0, 1), window.copy(1, 3), window.put(b"abc")),
            (None, None, None, None)
        );
    }
}
