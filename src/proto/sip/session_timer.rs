//! Session timers (RFC 4028): who keeps a session alive, when, and when it is given up. Knows intervals and header values;
//! the requests are the dialog's, the session its owner's.

use crate::base::clock::Tick;
use crate::wire::sip::fields::{Refresher, SessionExpires, has_token, min_se};
use crate::wire::sip::{Message, Method, Name, Request, Response};
use std::time::Duration;

/// The least session interval (RFC 4028 4): below it refreshing is an attack.
pub const INTERVAL_MIN_S: u32 = 90;

/// What a request of ours asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// `Session-Expires` in seconds, never below `min_se_s`.
    interval_s: u32,
    /// `Min-SE` in seconds: the largest of our own and all we were told.
    min_se_s: u32,
    /// Who refreshes, if we say so.
    refresher: Option<Refresher>,
}

impl Wish {
    /// For an INVITE that begins a session. `refresher` is `Some(Refresher::Uac)` where S1 is followed (spec 6).
    pub fn new(interval_s: u32, min_se_s: u32, refresher: Option<Refresher>) -> Wish {
        let min_se_s = min_se_s.max(INTERVAL_MIN_S);
        //= RFC 4028 7.1: Session-Expires MUST be greater than or equal to the value in Min-SE
        Wish { interval_s: interval_s.max(min_se_s), min_se_s, refresher }
    }

    /// The interval asked for, in seconds.
    pub fn interval_s(&self) -> u32 {
        self.interval_s
    }

    /// A 422 came. True: ask again, with the next CSeq and this wish, which has grown; false: it named nothing larger than we
    /// had asked for, so asking again would come to the same.
    ///
    //= RFC 4028 7.4: the largest value among all Min-SE header field values returned in all 422 responses
    pub fn too_small(&mut self, response: &Message) -> bool {
        let Some(least) = response.header(Name::MinSE).and_then(min_se).filter(|&least| least > self.interval_s) else {
            return false;
        };
        (self.interval_s, self.min_se_s) = (least, least);
        true
    }

    /// Adds `Supported: timer`, `Session-Expires` and `Min-SE`.
    ///
    //= RFC 4028 7.1: MUST include a Supported header field in each request (except ACK), listing the option tag 'timer'
    pub fn lines(&self, request: Request) -> Request {
        let expires = SessionExpires { seconds: self.interval_s, refresher: self.refresher };
        request
            .line(Name::Supported, b"timer")
            .line(Name::SessionExpires, &written(&expires))
            .number(Name::MinSE, u64::from(self.min_se_s))
    }
}

/// What our 2xx says to a peer that asked for a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    expires: SessionExpires,
    require: bool,
}

impl Agreed {
    /// Adds `Session-Expires`, and `Require: timer` where the peer must look at it.
    pub fn lines<'a>(&self, response: Response<'a>) -> Response<'a> {
        let response = response.line(Name::SessionExpires, &written(&self.expires));
        if self.require { response.line(Name::Require, b"timer") } else { response }
    }
}

/// The interval asked for is too small: 422 with `Min-SE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall {
    /// For `Min-SE`, in seconds.
    pub min_se_s: u32,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Send the request of [`SessionTimer::refresh_method`] with the lines of [`SessionTimer::refresh`].
    Refresh,
    /// Nobody refreshed in time: BYE.
    Bye,
}

/// The timer of one session, as one side sees it.
///
/// ```text
///   we refresh:    agreed ──half──▶ Refresh ──2xx──▶ agreed anew
///                                      └──32 s or a third before the end──▶ Bye
///   they refresh:  agreed ──their request──▶ agreed anew
///                     └──32 s or a third before the end──▶ Bye
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTimer {
    interval_s: u32,
    min_se_s: u32,
    since: Tick,
    /// When a refresh of ours is due; never, when it is the peer's to do or on its way.
    refresh: Tick,
    we_refresh: bool,
    /// The peer allows UPDATE.
    update: bool,
}

impl SessionTimer {
    /// What the 2xx to our INVITE, re-INVITE or UPDATE with `wish` says. Without Session-Expires the peer does not know timers:
    /// we refresh, for our own benefit (RFC 4028 7.2).
    pub fn uac(now: Tick, wish: &Wish, response: &Message) -> SessionTimer {
        let expires = response.header(Name::SessionExpires).and_then(SessionExpires::parse);
        //= RFC 4028 7.2: if the parameter contains the value 'uac', the UAC will perform them
        let we_refresh = expires.is_none_or(|expires| expires.refresher != Some(Refresher::Uas));
        let interval_s = expires.map_or(wish.interval_s, |expires| expires.seconds);
        SessionTimer::agreed(now, interval_s, wish.min_se_s, we_refresh, response)
    }

    /// What the peer's INVITE, re-INVITE or UPDATE asks for: nothing, or a timer from our 2xx on and what that says, or an
    /// interval below our least.
    ///
    /// `old` is the session's timer so far, whose Min-SE is remembered.
    pub fn uas(
        now: Tick,
        request: &Message,
        min_se_s: u32,
        old: Option<&SessionTimer>,
    ) -> Result<Option<(SessionTimer, Agreed)>, TooSmall> {
        let Some(asked) = request.header(Name::SessionExpires).and_then(SessionExpires::parse) else { return Ok(None) };
        let supported = has_token(request, Name::Supported, b"timer");
        let least_s = min_se_s.max(INTERVAL_MIN_S);
        if asked.seconds < least_s {
            //= RFC 4028 9: Supported 'timer' and a smaller session interval: 422, MUST include Min-SE
            if supported {
                return Err(TooSmall { min_se_s: least_s });
            }
            // A proxy asked on behalf of a client that could make nothing of a 422. MUST NOT be increased, so there is none.
            return Ok(None);
        }
        //= RFC 4028 9, table 2: the UAS cannot override the UAC's choice; it decides when there is none: the client refreshes
        let refresher = match (supported, asked.refresher) {
            (false, _) | (true, Some(Refresher::Uas)) => Refresher::Uas,
            (true, _) => Refresher::Uac,
        };
        let told_s = request.header(Name::MinSE).and_then(min_se).unwrap_or(INTERVAL_MIN_S);
        let min_se_s = told_s.max(old.map_or(0, |old| old.min_se_s));
        let timer = SessionTimer::agreed(now, asked.seconds, min_se_s, refresher == Refresher::Uas, request);
        //= RFC 4028 9: refresher 'uac': MUST place Require 'timer'; 'uas' and supported: SHOULD
        let expires = SessionExpires { seconds: asked.seconds, refresher: Some(refresher) };
        Ok(Some((timer, Agreed { expires, require: supported })))
    }

    fn agreed(now: Tick, interval_s: u32, min_se_s: u32, we_refresh: bool, message: &Message) -> SessionTimer {
        // A peer that agreed to less than the least would have us refresh without end.
        let interval_s = interval_s.max(INTERVAL_MIN_S);
        //= RFC 4028 7.2: it is RECOMMENDED that this refresh be sent once half the session interval has elapsed
        let half = now + Duration::from_millis(u64::from(interval_s) * 500);
        let refresh = if we_refresh { half } else { Tick::NEVER };
        //= RFC 4028 7.4: if it has seen an Allow header field from its peer with the value 'UPDATE'
        let update = has_token(message, Name::Allow, Method::Update.as_bytes());
        SessionTimer { interval_s, min_se_s, since: now, refresh, we_refresh, update }
    }

    /// The interval in seconds.
    pub fn interval_s(&self) -> u32 {
        self.interval_s
    }

    /// True when it is ours to refresh.
    pub fn we_refresh(&self) -> bool {
        self.we_refresh
    }

    /// UPDATE (without an offer) when the peer allows it, else INVITE (with the same offer).
    pub fn refresh_method(&self) -> Method {
        if self.update { Method::Update } else { Method::Invite }
    }

    /// What a refresh asks for. Its 2xx makes the next timer: [`SessionTimer::uac`].
    ///
    //= RFC 4028 7.4: SHOULD be equal to the maximum of the Min-SE header field and the current session interval
    pub fn refresh(&self) -> Wish {
        let refresher = if self.we_refresh { Refresher::Uac } else { Refresher::Uas };
        Wish::new(self.interval_s, self.min_se_s, Some(refresher))
    }

    /// Our refresh was refused with something but 408 and 481 (those end the dialog): try again at `at`. The session's end stays
    /// where it was.
    pub fn retry(&mut self, at: Tick) {
        if self.we_refresh {
            self.refresh = at;
        }
    }

    /// When [`SessionTimer::fire`] has work.
    pub fn deadline(&self) -> Tick {
        self.refresh.min(self.bye())
    }

    /// What is due at `now`. Each refresh is named once.
    pub fn fire(&mut self, now: Tick) -> Option<Due> {
        if self.bye() <= now {
            return Some(Due::Bye);
        }
        if self.refresh > now {
            return None;
        }
        self.refresh = Tick::NEVER;
        Some(Due::Refresh)
    }

    //= RFC 4028 10: BYE slightly before the session expiration: the minimum of 32 seconds and one third of the interval
    fn bye(&self) -> Tick {
        let before_s = (self.interval_s / 3).min(32);
        self.since + Duration::from_secs(u64::from(self.interval_s - before_s))
    }
}

fn written(expires: &SessionExpires) -> Vec<u8> {
    let mut value = Vec::with_capacity(24);
    expires.write(&mut value);
    value
}
