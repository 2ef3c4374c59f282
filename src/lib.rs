//! deferd: the OMA SIMPLE IM Deferred Messaging Function as a daemon.

pub mod base;
pub mod control;
pub mod deferred;
pub mod demo;
pub mod engine;
pub mod manual;
pub mod proto;
pub mod store;
pub mod uring;
pub mod wire;
