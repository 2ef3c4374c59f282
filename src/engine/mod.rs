//! One core's mind. It composes the rooms below and still does no I/O: [`input::Input`] in, [`effect::Effect`] out.

pub mod core;
pub mod effect;
pub mod input;
pub mod letters;
pub mod meter;
pub mod setup;

mod addresses;
mod commits;
mod conns;
mod farewell;
mod intake;
mod large;
mod post;
mod questions;
mod route;
mod subscribers;
