//! The room `store`, as far as it is modelled.

#[path = "../../../../../src/store/directory.rs"]
pub mod directory;

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
