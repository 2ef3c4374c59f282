//! Telephone numbers under which users are known as well: from a `tel:` URI to the address under which everything of its user is kept.
//!
//! A number without an alias is nobody here, whoever asserts it.

use super::identity::Address;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The operator's table (`policy.aliases`), shared by all cores.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Aliases(Arc<BTreeMap<Address, Address>>);

impl Aliases {
    /// Of numbers and the addresses they mean.
    pub fn new(pairs: impl IntoIterator<Item = (Address, Address)>) -> Aliases {
        Aliases(Arc::new(pairs.into_iter().collect()))
    }

    /// The address that one means: that of its alias, or itself.
    pub fn of(&self, address: Address) -> Address {
        self.0.get(&address).cloned().unwrap_or(address)
    }

    /// The address that a URI means; `None` when it cannot name a user.
    pub fn of_uri(&self, octets: &[u8]) -> Option<Address> {
        Address::of_uri(octets).map(|address| self.of(address))
    }
}
