//! The log and the queues. This room knows users and records; it knows no SIP and no MSRP, and it does no I/O: it says what
//! is to be written and read ([`disk::DiskOp`]) and is told what became of it ([`disk::DiskDone`]).

pub mod disk;
