//! What takes half a minute, an hour or a broken disk, in no time: whole cores, driven by values, with time as an argument.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod behind_core;
mod endings;
mod ground;
mod large;
mod people;
mod rig;
mod sessions;
mod twins;
