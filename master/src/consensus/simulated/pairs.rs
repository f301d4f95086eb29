//! Keys and values of either medium, as one iterator.

use super::super::disk::DiskError;

type Pair = Result<(Vec<u8>, Vec<u8>), DiskError>;

/// What a scan walks.
pub(in super::super) enum Pairs<I> {
    Real(I),
    Memory(std::vec::IntoIter<(Vec<u8>, Vec<u8>)>),
}

impl<I: Iterator<Item = Pair>> Iterator for Pairs<I> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        match self {
            Pairs::Real(pairs) => pairs.next(),
            Pairs::Memory(pairs) => pairs.next().map(Ok),
        }
    }
}

impl<I: DoubleEndedIterator<Item = Pair>> DoubleEndedIterator for Pairs<I> {
    fn next_back(&mut self) -> Option<Pair> {
        match self {
            Pairs::Real(pairs) => pairs.next_back(),
            Pairs::Memory(pairs) => pairs.next_back().map(Ok),
        }
    }
}
