//! A batch of bytes on its way through: passed on as it was read where nothing is changed in it.

/// The source with pieces cut out of it and others put in.
pub struct Splice<'s> {
    source: &'s [u8],
    /// What of the source is not dealt with yet.
    from: usize,
    out: &'s mut Vec<u8>,
}

impl<'s> Splice<'s> {
    /// Starts with all of `source`; `out` is room for what differs from it.
    pub fn new(source: &'s [u8], out: &'s mut Vec<u8>) -> Self {
        out.clear();
        Self {
            source,
            from: 0,
            out,
        }
    }

    /// Leaves out what lies between two places. Calls come in the order of the source.
    pub fn cut(&mut self, from: usize, to: usize) {
        if from > self.from {
            self.out.extend_from_slice(&self.source[self.from..from]);
        }
        self.from = to;
    }

    /// What is written here comes before the place `at` of the source.
    pub fn insert(&mut self, at: usize) -> &mut Vec<u8> {
        self.cut(at, at);
        self.out
    }

    /// The result, up to a place of the source.
    pub fn finish(self, to: usize) -> &'s [u8] {
        let rest = &self.source[self.from.min(to)..to];
        if self.out.is_empty() {
            return rest;
        }
        self.out.extend_from_slice(rest);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_is_not_copied() {
        let source = b"abcdef";
        let mut out = Vec::new();
        let whole = Splice::new(source, &mut out).finish(6);
        assert!(std::ptr::eq(whole, source));
    }

    #[test]
    fn pieces_go_out_and_come_in_in_their_order() {
        let mut out = Vec::new();
        let mut splice = Splice::new(b"abcdef", &mut out);
        splice.cut(0, 1);
        splice.insert(2).extend_from_slice(b"XY");
        splice.cut(3, 4);
        assert_eq!(splice.finish(5), b"bXYce");
    }
}
