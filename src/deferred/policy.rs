//! What the operator may choose, as values.

pub use super::admit::Blocked;
pub use super::aliases::Aliases;
use ipnet::IpNet;
use std::time::Duration;

/// What happens to a message once its user has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Afterwards {
    /// It leaves the store.
    Delete,
    /// It stays, marked as had ("old" in RFC 3842's words).
    Retain,
}

/// What happens to a message whose time is over (12.2.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expired {
    /// Deleted undelivered.
    Delete,
    /// Delivered all the same, marked as expired.
    DeliverMarked,
    /// Kept for retrieval, not pushed: from then on it counts as had, also for reports.
    Keep,
}

/// What happens to a message that does not fit its owner's quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverQuota {
    /// 480 with Retry-After.
    Refuse,
    /// The owner's oldest messages make room.
    DropOldest,
}

/// Which forms of a message clients are sent ([`super::payload`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Whichever the client takes: that of 12.2.2.5 first, CPIM first for clients of RCS.
    Auto,
    /// Those of 12.2.2.5 only.
    Oma,
    /// CPIM only.
    Cpim,
}

/// The operator's choices for MSRP sessions (`[msrp]`).
#[derive(Clone, Debug)]
pub struct Media {
    /// Networks we may connect to when the client is passive (RFC 4975 14.5).
    pub connect_allow: Vec<IpNet>,
    /// Bind our listening port when connecting (`manual::peers`).
    pub bind_source: bool,
    /// Largest chunk, octets of body.
    pub chunk_max: usize,
    /// Most unanswered messages of one session.
    pub window_messages: u32,
    /// Most unanswered octets of one session.
    pub window_octets: usize,
    /// The client must have connected and sent its first request by then.
    pub bind_timeout: Duration,
    /// A SEND must have been answered by then.
    pub tx_timeout: Duration,
    /// Sessions of one core at one time.
    pub sessions_max: usize,
}

/// The operator's choices for message summaries (RFC 3842).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Headers told of each message that came; `Message-ID` is the stored message's own.
    pub headers: Vec<String>,
    /// Context class of pager-mode messages (RFC 3458 6.2).
    pub class_pager: String,
    /// Context class of large messages.
    pub class_large: String,
    /// Bounds of a subscription's Expires: least, default, most, in seconds.
    pub expires: (u32, u32, u32),
}

/// The operator's choices for the service.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Host of `Deferred@`, `Delete@` and of the stored messages' ids.
    pub hostname: String,
    /// The served domains, lower case.
    pub domains: Vec<String>,
    /// Whose network we are, for the core's charging (RFC 7315); empty: the first of `domains`.
    pub orig_ioi: String,
    /// Numbers under which users are known as well.
    pub aliases: Aliases,
    /// `IM-serv/<release_version>` in User-Agent and Server (Appendix F).
    pub release_version: String,
    /// Delivery of deferred messages for a user who has published no settings.
    pub offline_delivery: bool,
    /// At most one push attempt per user in this time.
    pub push_min_interval: Duration,
    /// A REGISTER is a reason for a push after this: the client finishes, and may publish, first.
    pub reg_push_delay: Duration,
    /// How long a push INVITE may ring before it is cancelled.
    pub invite_expires: Duration,
    /// Which forms of a message clients are sent.
    pub payload: Payload,
    /// `message/sip` without a `multipart/mixed` around it where a client takes both (the mission's second example).
    pub pager_bare: bool,
    /// The INVITE's headers in front of a large message are called `message/sip`, as the mission's example calls them, though they
    /// are only a fragment of one. Of messages that come from now on.
    pub compat_part1: bool,
    /// `Session-Expires` of a push.
    pub session_expires: Duration,
    /// Least session interval we accept (RFC 4028: not below 90 s).
    pub min_se: Duration,
    /// Wait for success REPORTs before BYE, where they were asked for.
    pub report_wait: Duration,
    /// After a confirmed push.
    pub after_push: Afterwards,
    /// After a confirmed retrieval.
    pub retrieved: Afterwards,
    /// A stored message may be retrieved under its sender's name for it, and all under the user's own (mission document 0).
    pub legacy_s0_retrieval: bool,
    /// Short messages go as SIP MESSAGEs to a client that takes no session with them.
    pub pager_fallback: bool,
    /// Messages are deferred; false: none is taken in, and what is stored is delivered as ever.
    pub deferral: bool,
    /// For whom none is, all the same.
    pub not_deferred: Vec<Blocked>,
    /// Whose messages are refused with 403.
    pub blocked_senders: Vec<Blocked>,
    /// Media ranges; messages of other types are refused with 415.
    pub accepted_types: Vec<String>,
    /// When a message's time is over.
    pub expired: Expired,
    /// Users may delete what is stored for them; false: a REFER to `Delete@` is 603.
    pub user_delete: bool,
    /// A sender who asked for it is told that the user deleted the message.
    pub report_user_delete: bool,
    /// A sender who asked for it is told that the message was stored.
    pub processing_imdn: bool,
    /// How long a deleted message stays in the DELETE bin.
    pub bin_retention: Duration,
    /// Largest message accepted, octets.
    pub max_message_size: u64,
    /// Longest Expires accepted from a sender; above it the default is used (12.2.2.3-5).
    pub expire_max: Duration,
    /// Expiry of pager-mode messages that name none.
    pub expire_pager: Duration,
    /// Expiry of large messages.
    pub expire_large: Duration,
    /// A Date this far from now is not believed when Expires is counted from it.
    pub date_skew: Duration,
    /// Messages stored per user.
    pub quota_messages: u32,
    /// Octets stored per user.
    pub quota_octets: u64,
    /// Messages stored for all users of one served domain together; 0: no such bound.
    pub quota_domain_messages: u64,
    /// Octets likewise.
    pub quota_domain_octets: u64,
    /// When one of them is reached.
    pub over_quota: OverQuota,
    /// Bounds of a publication's Expires: least, default, most, in seconds.
    pub publish_expires: (u32, u32, u32),
    /// Event packages that carry the IM service settings.
    pub settings_events: Vec<String>,
    /// Content types that carry them.
    pub settings_types: Vec<String>,
    /// Last known settings outlive their publication by this.
    pub settings_memory: Duration,
    /// What subscribers to message summaries are told.
    pub summary: Summary,
}

impl Policy {
    /// True when a domain with so much stored has no room for so much more.
    pub fn is_over_domain(&self, (messages, octets): (u64, u64)) -> bool {
        let over = |quota: u64, used: u64| quota > 0 && used > quota;
        over(self.quota_domain_messages, messages) || over(self.quota_domain_octets, octets)
    }

    /// The defaults for a host that serves `domains`.
    pub fn new(hostname: &str, domains: &[&str]) -> Policy {
        const DAY: u64 = 24 * 3600;
        Policy {
            hostname: hostname.to_ascii_lowercase(),
            domains: domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            orig_ioi: String::new(),
            aliases: Aliases::default(),
            release_version: "OMA1.0".into(),
            offline_delivery: true,
            push_min_interval: Duration::from_secs(5),
            reg_push_delay: Duration::from_secs(2),
            invite_expires: Duration::from_secs(60),
            payload: Payload::Auto,
            pager_bare: false,
            compat_part1: false,
            session_expires: Duration::from_secs(1800),
            min_se: Duration::from_secs(90),
            report_wait: Duration::from_secs(5),
            after_push: Afterwards::Delete,
            retrieved: Afterwards::Retain,
            legacy_s0_retrieval: false,
            pager_fallback: false,
            deferral: true,
            not_deferred: Vec::new(),
            blocked_senders: Vec::new(),
            accepted_types: vec!["*/*".into()],
            expired: Expired::Delete,
            user_delete: true,
            report_user_delete: true,
            processing_imdn: true,
            bin_retention: Duration::ZERO,
            max_message_size: 100 << 20,
            expire_max: Duration::from_secs(30 * DAY),
            expire_pager: Duration::from_secs(7 * DAY),
            expire_large: Duration::from_secs(7 * DAY),
            date_skew: Duration::from_secs(300),
            quota_messages: 10_000,
            quota_octets: 256 << 20,
            quota_domain_messages: 0,
            quota_domain_octets: 0,
            over_quota: OverQuota::Refuse,
            publish_expires: (60, 3600, 86_400),
            settings_events: vec!["poc-settings".into(), "im-settings".into()],
            settings_types: vec![
                "application/poc-settings+xml".into(),
                "application/vnd.oma.im.service-settings+xml".into(),
                "application/xml".into(),
                "text/xml".into(),
            ],
            settings_memory: Duration::from_secs(90 * DAY),
            summary: Summary {
                headers: ["To", "From", "Subject", "Date", "Priority", "Message-ID"].map(str::to_owned).to_vec(),
                class_pager: "Text-Message".into(),
                class_large: "Text-Message".into(),
                expires: (60, 3600, 86_400),
            },
        }
    }
}
