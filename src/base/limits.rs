//! Every bound of the daemon in one place, each with its arithmetic. `[limits]` of the configuration overrides them.

/// Bounds that hold memory and work within a host. Per core where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Users with something stored or a subscription, all cores together. The table is made at the start, whether they come or not: an entry of 56
    /// octets and buckets of 64 for seven places, twice as many places as users. A million users are 56 MiB and 18 MiB.
    pub users: usize,
    /// Connections of one core, SIP and MSRP together. A quiet one costs about 1 KiB here and a socket in the kernel.
    pub connections: usize,
    /// Server and client transactions of one core: at 64*T1 = 32 s each over UDP, 65,536 bear 2,048 new requests a second
    /// per core that are never absorbed earlier; over TCP they end at once.
    pub transactions: usize,
    /// Push sessions of one core at one time. Each holds up to `window_octets` by reference.
    pub sessions: usize,
    /// Sessions of one core in which large messages come. Each may have four of them under way, with 64 KiB in memory that the log
    /// has not taken yet: 64 MiB at most.
    pub large_sessions: usize,
    /// Subscriptions to message summaries at one core. Each holds its dialog, 1 KiB and 4 KiB at most, and a place among `users`.
    pub subscriptions: usize,
    /// Fingerprints kept to recognise a message deposited twice, all users of one core; 16 octets each.
    pub dedupe_entries: usize,
    /// Letters that begin something and wait at one core.
    pub letters: usize,
    /// Octets of a SIP message's start-line and headers. Real ones stay below 4 KiB; 64 KiB is what one datagram holds, and
    /// what is kept of a message has room for no more.
    pub sip_head_octets: usize,
    /// Headers in one SIP message; more is an attack on the parser's time.
    pub sip_headers: usize,
    /// Octets of a SIP message's body over a stream. Pager-mode bodies are 1,300 octets (RFC 3428 8); signalling carries
    /// URI-lists and documents. What is larger travels over MSRP.
    pub sip_body_octets: usize,
    /// Octets of an MSRP request's start-line and headers.
    pub msrp_head_octets: usize,
    /// Octets of one segment of the log.
    pub segment_octets: u64,
    /// Octets queued for a log that is committing. Full: 503.
    pub commit_octets: usize,
    /// Octets that one connection may have given to the socket and not yet written: what an abort or a response waits
    /// behind.
    pub send_octets: usize,
    /// SIP octets that wait for one connection that does not drain. Full: it is closed.
    pub backlog_octets: usize,
}

impl Limits {
    /// For octets that were held to the bounds when they came, and are read once more.
    pub fn unbounded() -> Limits {
        let most = usize::MAX;
        Limits { sip_head_octets: most, sip_headers: most, sip_body_octets: most, ..Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            users: 1 << 20,
            connections: 65_536,
            transactions: 65_536,
            sessions: 16_384,
            large_sessions: 256,
            subscriptions: 65_536,
            dedupe_entries: 1 << 20,
            letters: 16_384,
            sip_head_octets: 64 * 1024,
            sip_headers: 256,
            sip_body_octets: 1024 * 1024,
            msrp_head_octets: 8 * 1024,
            segment_octets: 64 * 1024 * 1024,
            commit_octets: 32 * 1024 * 1024,
            send_octets: 256 * 1024,
            backlog_octets: 4 * 1024 * 1024,
        }
    }
}
