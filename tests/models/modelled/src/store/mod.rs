//! The room `store`, as far as it is modelled.

#[path = "../../../../../src/store/directory.rs"]
pub mod directory;

/// What domains have stored: nothing that cores agree on, so it is counted nowhere here.
pub mod domains {
    /// Counts nothing.
    #[derive(Debug, Default)]
    pub struct Domains;

    impl Domains {
        /// Of any domains.
        pub fn new(_: &[String], _: u16) -> Domains {
            Domains
        }
    }
}

/// A locator as the directory sees it: three words.
pub mod record {
    /// Where a message lies.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Locator(pub [u64; 3]);

    impl Locator {
        pub(crate) fn words(self) -> [u64; 3] {
            self.0
        }
        pub(crate) fn from_words(words: [u64; 3]) -> Locator {
            Locator(words)
        }
    }
}
