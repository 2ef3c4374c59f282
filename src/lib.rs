//! deferd is the Deferred Messaging Function of an OMA SIMPLE IM server, as a daemon: it keeps SIP MESSAGEs for users who are
//! offline and, the moment a user PUBLISHes, sets up one MSRP session and pushes everything that waits.
//!
//! This page is the map of the house. Ten minutes with it, and you know where things are.
//!
//! # Three ideas
//!
//! - **Values in, values out.** A core of the daemon is a value, [`engine::core::Core`]. It is handed
//!   [`Input`](engine::input::Input)s with the time as an argument, and hands out [`Effect`](engine::effect::Effect)s. It does no
//!   I/O, reads no clock and waits for nothing. The kernel's rings ([`uring`]) and a seeded simulator (`tests/sim`) run
//!   the same core.
//! - **Types say what moves.** `&[u8]` to look, [`Span`](base::span::Span) to point into octets that somebody else owns, `Bytes` to
//!   keep, [`Gather`](base::gather::Gather) to send. A copy has to be written on purpose.
//! - **Starting is recovery.** There is no shutdown that has to work. A `202` means that the message is on the disk; whatever
//!   happens afterwards, the next start finds it.
//!
//! # The rooms
//!
//! Every module here is a room, a layer with one subject. Imports go down only, and a test (`tests/tidy.rs`) holds them to it.
//!
//! ```text
//!   control ──▶ uring          configuration, HTTP, log, life │ the kernel: rings, sockets, clocks
//!                 ▼
//!              engine          one core's mind: inputs in, effects out
//!                 ▼
//!             deferred         the Deferred Messaging Function: decisions, no octets
//!              ▼    ▼
//!          proto    store      SIP and MSRP machines │ the log, the queues, recovery; the two never meet
//!            ▼        │
//!          wire       │        octets ◀─▶ values of spans
//!            ▼        ▼
//!              base            spans, gathers, time, chance, bounds, mail
//! ```
//!
//! | room | begin reading at |
//! |---|---|
//! | [`base`] | [`base::gather`], [`base::inbox`], [`base::limits`] |
//! | [`wire`] | [`wire::sip::cut`], [`wire::sip::message`]; [`wire::msrp::cut`], [`wire::msrp::write`] |
//! | [`proto`] | [`proto::sip::endpoint`] (transactions), [`proto::sip::dialog`], [`proto::msrp::session`] |
//! | [`store`] | [`store::log`], [`store::directory`], [`store::queue`], [`store::loader`], [`store::recovery`] |
//! | [`deferred`] | [`deferred::deposit`] (in), [`deferred::presence`] (who is there), [`deferred::push`] (out), [`deferred::delete`] |
//! | [`engine`] | [`engine::core`], the hub: it moves values and decides nothing |
//! | [`uring`] | [`uring::thread`], the loop of a core; [`uring::op`], every operation of the ring |
//! | [`control`] | [`control::daemon`], the daemon's life; [`control::config`], every key |
//! | [`demo`] | a program that plays the daemon's peers: `deferd demo` |
//!
//! # The way of a message
//!
//! 1. [`uring::stream`] or [`uring::datagram`] reads into a buffer that the core lent: `Input::Received`.
//! 2. [`wire::sip::cut`] finds where the message ends, [`wire::sip::message`] where its headers are. Nothing is copied.
//! 3. [`proto::sip::endpoint`] ends repetitions; `engine::route` finds the use case.
//! 4. [`deferred::deposit`] asks the policy, [`deferred::encapsulate`] builds the body of the *later* push, once.
//! 5. [`store::directory`] reserves quota, [`store::log`] appends the record to this core's log: `Effect::Disk`.
//! 6. [`uring::disk`] writes all that gathered in one write and one data sync. Only then the **202** leaves, and 24 octets that
//!    say where the message lies go into the receiver's lock-free inbox.
//! 7. The receiver's *home* core (a hash of the address) sees a PUBLISH; [`deferred::presence`] makes it durable and answers.
//! 8. [`deferred::push`] sends one INVITE; [`proto::sip::offer`] judges the answer; the client connects, or we do.
//! 9. [`store::loader`] brings the records back, [`proto::msrp::sender`] cuts chunks, [`wire::msrp::write`] patches heads: one
//!    gather, one send for many messages.
//! 10. The client's 200s become one tombstone record a batch; when that is durable, they are gone. Nothing waits any more: BYE.
//!
//! The long form, with all files, is [`manual::path`]. Words are in [`manual::lexicon`], what may go wrong in [`manual::faults`], the file
//! format in [`manual::format`](mod@manual::format), how it is run in [`manual::operating`], what clients really do in [`manual::peers`], and why it is all so in
//! [`manual::decisions`].
//!
//! # What is here, and what is not yet
//!
//! Deposits in pager mode and in large message mode, quota and expiry, publications of presence and of service settings, the
//! push, retrieval, deletion by the user, delivery reports, metadata over XCAP, message summaries, reclaiming, recovery, metrics,
//! the operator's socket, backup and repair.

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
