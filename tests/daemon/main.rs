//! The real process on the real ring and the real disk: it is killed, stopped, started beside another, starved and lied to.
//!
//! What a simulator can do better (torn writes, lost datagrams, every interleaving) is in `tests/sim`. `DEFERD_SEED` plays a
//! round of chance again, `DEFERD_ROUNDS` makes the long tests longer.

#![allow(clippy::expect_used)]

mod backup;
mod cores;
mod deferctl;
mod disk;
mod kill_nine;
mod life;
mod limits;
mod people;
mod power_cut;
mod quota;
mod reasons;
mod repair;
mod soak;
mod storm;
mod volume;

use std::time::{Duration, Instant};

/// The daemon under test.
pub(crate) const DEFERD: &str = env!("CARGO_BIN_EXE_deferd");

/// Looks every 5 ms whether `done`; fails the test with `what` when it does not come about in time.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + deferd_kit::WAIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about within {:?}", deferd_kit::WAIT);
        std::thread::sleep(Duration::from_millis(5));
    }
}
