//! The Deferred Messaging Function: one clause of the mission, one file. Decisions, no octets.
//!
//! | file | clause |
//! |---|---|
//! | [`deposit`], `admit`, [`encapsulate`] | 12.2.2.3 Storage for Deferred Messages |
//! | [`large`] | 12.2.2.1 Receiving SIP INVITE for deferred Large Message, 12.2.2.3-2 |
//! | [`presence`] | 12.2.2.2 Delivering of offline Messages: the triggers |
//! | [`push`], [`invite`], [`signal`], [`outcome`], `within`, `moved`, `refresh` | 12.2.2.2: the INVITE, what its answers mean, what is said in the dialog, how a push ends |
//! | [`deliver`], `supply`, `feed`, [`refusals`] | 12.2.2.5 Pushing Deferred Messages |
//! | [`payload`], [`rewrap`], `pager` | 12.2.2.5 for every client: multipart, `message/sip`, CPIM, or SIP MESSAGEs |
//! | [`delete`], [`dismiss`], [`bin`] | 12.1.3.1, 12.2.2.7 IM Server deleting Deferred Messages |
//! | [`retrieve`] | 12.2.1 Stored Messaging Function receiving requests from IM user |
//! | `offered` | what all INVITEs for a session have in common, those of [`large`] and [`retrieve`], and what a client's answer is good for |
//! | [`report`], [`owed`] | 12.2.2.6 Delivery Report for deleted Messages |
//! | [`metadata`] | 12.2.2.8 Updating Metadata in IM XDMS |
//! | [`summary`] | 7.3 of mission document 0: the summary of what waits, to those who subscribe (RFC 3842) |
//! | [`states`], [`forward`] | 2 of the store's contract: what is kept is kept once, and copied forward where its segment is to go |
//! | [`identity`], [`aliases`] | 12.2: who a request is from, and whom it is for |
//! | [`users`] | what waits, in order; 12.2.2.4 Deferred Message Expiration |

mod admit;
pub mod aliases;
pub mod bin;
mod bindings;
mod carry;
pub mod cx;
pub mod delete;
pub mod deliver;
pub mod deposit;
pub mod dismiss;
pub mod encapsulate;
mod expiries;
mod feed;
mod find;
mod flight;
pub mod forward;
mod goodbye;
pub mod identity;
pub mod inquiry;
pub mod invite;
mod kept;
pub mod large;
mod lists;
pub mod loop_guard;
pub mod metadata;
mod moved;
mod offered;
pub mod outcome;
pub mod owed;
mod pager;
pub mod payload;
pub mod policy;
pub mod presence;
pub mod push;
mod refresh;
pub mod refusals;
pub mod report;
pub mod respond;
pub mod retrieve;
pub mod rewrap;
pub mod signal;
pub mod states;
pub mod summary;
mod supply;
pub mod users;
mod within;
mod write_off;
