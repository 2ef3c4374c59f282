//! What cores write to each other. Octets never change core except inside SIP messages, which are small.

/// A letter.
#[derive(Debug)]
pub struct Letter;

impl Letter {
    /// True for a letter that begins something and may be refused when the box is full.
    pub fn is_request(&self) -> bool {
        false
    }
}
