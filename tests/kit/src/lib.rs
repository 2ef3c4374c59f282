//! Test agents for deferd, written from the RFCs and from nothing else: no line is shared with the product, so that a wrong
//! idea in one is found by the other.
//!
//! Everything blocks, on plain sockets and threads. Everything that waits, waits for an event and at most [`WAIT`]; what
//! does not come fails the test with the ladder of all that was seen so far.
//!
//! | file | knows |
//! |---|---|
//! | [`daemon`] | a deferd process: its ports, configuration, start, death and restart |
//! | [`sip`], [`sdp`] | strict readers and plain writers of messages |
//! | [`peer`] | SIP over sockets: framing, repetitions, what came and was not expected |
//! | [`agents`], [`call`] | a sender, an IM client, the SIP/IP core between them |
//! | [`msrp`], [`judge`] | judges of MSRP octets and of whole conversations, from RFC 4975 |
//! | [`msrp_client`] | the far end of a push: takes messages, answers by policy |
//! | [`large`] | a sender of large messages: its session, its chunks |
//! | [`payload`], [`cpim`] | the pushed body, part by part |
//! | [`capture`] | loopback traffic as tshark sees it |
//! | [`scene`] | the usual cast: a daemon, alice who sends, bob who is offline |
//! | [`load`], [`phone`] | senders and users who outlive the daemon's deaths |
//! | [`ledger`] | what they were promised and got, judged |
//! | [`chance`] | dice that fall the same way again |
//! | [`log`] | who sent what to whom, and when |
#![warn(missing_docs, unreachable_pub)]

pub mod agents;
pub mod call;
pub mod capture;
pub mod chance;
pub mod cpim;
pub mod daemon;
pub mod judge;
pub mod large;
pub mod ledger;
pub mod load;
pub mod log;
pub mod msrp;
pub mod msrp_client;
pub mod payload;
pub mod peer;
pub mod phone;
pub mod scene;
pub mod sdp;
pub mod sip;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The longest wait for anything: RFC 3261's answers come within milliseconds on loopback, a recovery within seconds.
pub const WAIT: Duration = Duration::from_secs(20);

/// A string of 20 lower-case hexadecimal digits that no other call in no other process returns: for Call-IDs, tags,
/// branches, session-ids.
pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let mixed = (now ^ (u64::from(std::process::id()) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:04x}", NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff)
}

/// Octets as a person can read them: text as it is, the rest escaped; at most `max` of them.
pub fn shown(octets: &[u8], max: usize) -> String {
    let mut text =
        octets.iter().take(max).flat_map(|octet| std::ascii::escape_default(*octet)).map(char::from).collect();
    if octets.len() > max {
        text = format!("{text}... ({} octets)", octets.len());
    }
    text
}
