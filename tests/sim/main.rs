//! The simulator: the daemon's real cores on a network, a disk, clocks and crashes that all come from one seed.
//!
//! ```text
//!   people ──▶ network ──▶ cores ──▶ disk          one thread, one heap of events ordered by (time, dice)
//!      ▲          │          │         │
//!      └──────────┴── oracle ┴─────────┘           looks on, after every event
//! ```
//! `SIM_SEED=0x1f cargo test --test sim every_seed` replays one seed with its trace; see `sweep.rs` and `walk.rs`.

// What the daemon writes must be readable: a test that cannot read it fails here.
#![allow(clippy::expect_used, reason = "this is a test")]

mod agents;
mod cores;
mod disk;
mod ground;
mod leaving;
mod msrp;
mod net;
mod oracle;
mod plan;
mod sweep;
mod trace;
mod walk;
mod world;
