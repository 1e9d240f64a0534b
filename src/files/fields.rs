//! Owns reading and writing little-endian fields at byte positions. Knows no format.

/// A reader of fields, one after the other. It returns `None` when the bytes end too early.
pub(crate) struct FieldReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(length)?;
        let field = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a length, which is a `u32` on disk and a `usize` in memory on every supported
    /// platform.
    pub(crate) fn length(&mut self) -> Option<usize> {
        self.u32()?.try_into().ok()
    }
}

/// Converts a byte position or size to the type of the file formats.
pub(crate) fn position(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("memory sizes fit 64 bits")
}

/// Rounds `value` up to a multiple of `alignment`, a power of two.
pub(crate) const fn align_up(value: usize, alignment: usize) -> usize {
    (value + alignment - 1) & !(alignment - 1)
}

/// Returns whether all bytes are zero, at memory speed: each block is OR-ed without a branch
/// inside.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|block| block.iter().fold(0, |seen, byte| seen | byte) == 0)
}
