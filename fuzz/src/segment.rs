//! Stream segments.

use pmx_streams::segment::{SegmentIndex, open};

/// An opened segment is readable from any position to its end, where its index is.
pub(crate) fn object(bytes: &[u8]) {
    if let Ok(index) = SegmentIndex::from_object_tail(bytes, bytes.len() as u64) {
        let _other = index.locate(index.first(), index.end(), usize::MAX);
    }
    let Ok(index) = open(bytes) else { return };
    let (first, end) = (index.first(), index.end());
    for from in [first, first + (end - first) / 2, end.saturating_sub(1)] {
        let span = index.locate(from, end, usize::MAX);
        let span = span.expect("what a whole segment holds is found");
        let range = span.bytes.start as usize..span.bytes.end as usize;
        let mut body = Vec::new();
        let read = index.extract(&span, &bytes[range], &mut body);
        assert!(read.is_ok_and(|read| read.end == end), "the end is reached");
    }
}
