//! Machines of the protocols, without I/O: octets and time go in as values, what to send and what happened come out as
//! values. This room knows `wire` and `base`; it has never heard of a stored message.

pub mod msrp;
pub mod sip;
