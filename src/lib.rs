//! deferd: the OMA SIMPLE IM Deferred Messaging Function as a daemon.

pub mod base;
pub mod control;
pub mod deferred;
pub mod demo;
pub mod engine;
pub mod proto;
pub mod manual;
pub mod store;
pub mod wire;
pub mod uring;
