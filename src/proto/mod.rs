//! Sans-IO machines, one RFC machine per file. Time and chance are arguments; octets come in as values of `wire`.

pub mod msrp;
pub mod sip;
