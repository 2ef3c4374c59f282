//! SIP above the parser: transactions (RFC 3261 17, RFC 6026, RFC 4320), dialogs, session timers, publications.

pub mod invite_client;
pub mod invite_server;
pub mod publication;
pub mod request_client;
pub mod request_server;
pub mod timing;
