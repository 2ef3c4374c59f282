//! Where a body is cut, and which ids may not close its chunks (RFC 4975 7.1, 7.1.1).

use memchr::memmem;

/// Longest body that goes out as one chunk that cannot be interrupted (RFC 4975 7.1.1).
pub const WHOLE_MAX: usize = 2048;

/// Shortest chunk_max: every chunk but the last has 2,048 octets at least, and up to 3 go to a UTF-8 border.
pub const CHUNK_MIN: usize = WHOLE_MAX + 4;

/// How many octets of `body` the chunk takes that begins at `sent`.
//= RFC 4975 7.1.1: chunks SHOULD NOT be smaller than 2048 octets, except for the last
// Never a border inside a UTF-8 sequence of a text body: some clients decode every chunk by itself.
pub fn chunk_len(body: &[u8], sent: usize, chunk_max: usize, text: bool) -> usize {
    let left = body.len().saturating_sub(sent);
    if left <= chunk_max {
        return left;
    }
    if !text {
        return chunk_max;
    }
    let rest = body.get(sent..).unwrap_or_default();
    // A sequence has at most three octets behind its first; more of them are no UTF-8 and no reason to move.
    (chunk_max.saturating_sub(3)..=chunk_max)
        .rev()
        .find(|&at| rest.get(at).is_some_and(|octet| octet & 0xc0 != 0x80))
        .unwrap_or(chunk_max)
}

/// True when seven hyphens and `id` stand in `body`, whatever follows: two of five clients stop there.
pub fn closes_early(body: &[u8], id: &[u8]) -> bool {
    memmem::find(body, &[b"-------", id].concat()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_moves_in_front_of_the_character_it_would_split() {
        let text = "aé€𝄞".as_bytes();
        // a | c3 a9 | e2 82 ac | f0 9d 84 9e
        for (most, expected) in
            [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6), (8, 6), (9, 6), (10, 10), (99, 10)]
        {
            assert_eq!(chunk_len(text, 0, most, true), expected, "{most}");
            assert_eq!(chunk_len(text, 0, most, false), most.min(10));
        }
        assert_eq!(chunk_len(&[0x80; 100], 0, 50, true), 50);
        assert_eq!(chunk_len(text, 6, 99, true), 4);
    }

    #[test]
    fn an_id_behind_seven_hyphens_is_found_without_its_flag() {
        assert!(closes_early(b"text\r\n-------dkei38sd$\r\n", b"dkei38sd"));
        assert!(closes_early(b"---------dkei38sdXYZ", b"dkei38sd"));
        assert!(!closes_early(b"------dkei38sd$", b"dkei38sd"));
    }
}
