//! SIP above the parser: transactions (RFC 3261 17, RFC 6026, RFC 4320), dialogs, session timers, publications.
//!
//! [`endpoint::Endpoint`] is the transaction layer of one core; its four machines are pure values in files of their own.
//! [`dialog::Dialog`], [`session_timer::SessionTimer`] and [`publication::Publications`] are what a transaction user keeps.

pub mod dialog;
pub mod early;
pub mod endpoint;
pub mod invite_client;
pub mod invite_server;
pub mod key;
pub mod offer;
pub mod publication;
pub mod referral;
pub mod request_client;
pub mod request_server;
pub mod session_timer;
pub mod subscription;
pub mod timing;

mod clients;
mod hop_by_hop;
mod outbox;
mod servers;
