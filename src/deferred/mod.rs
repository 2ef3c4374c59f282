//! The Deferred Messaging Function: one clause of the mission, one file. Decisions, no octets.
//!
//! | file | clause |
//! |---|---|
//! | [`deposit`], [`encapsulate`] | 12.2.2.3 Storage for Deferred Messages |
//! | [`presence`] | 12.2.2.2 Delivering of offline Messages: the triggers |
//! | [`push`], [`invite`], [`signal`], [`outcome`] | 12.2.2.2: the INVITE, what its answers mean, how a push ends |
//! | [`deliver`], [`refusals`] | 12.2.2.5 Pushing Deferred Messages |
//! | [`states`], [`forward`] | 2 of the store's contract: what is kept is kept once, and copied forward where its segment is to go |
//! | [`users`] | what waits, in order; 12.2.2.4 Deferred Message Expiration |

pub mod cx;
pub mod deliver;
pub mod deposit;
pub mod encapsulate;
mod flight;
pub mod forward;
mod goodbye;
pub mod identity;
pub mod inquiry;
pub mod invite;
mod kept;
pub mod outcome;
pub mod policy;
pub mod presence;
pub mod push;
pub mod refusals;
pub mod respond;
pub mod signal;
pub mod states;
pub mod users;
mod write_off;
