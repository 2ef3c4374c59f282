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
    /// For an INVITE that begins a session. `refresher` is `Some(Refresher::Uac)` for a push (12.2.2.2-1f).
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

    /// The same, agreed on in a session whose timer was `old`: what `message` does not say of the peer's methods holds on.
    ///
    //= RFC 4028 7.4: if it has seen an Allow header field from its peer with the value 'UPDATE', in whichever message
    pub fn after(mut self, old: Option<&SessionTimer>, message: &Message) -> SessionTimer {
        self.update |= message.header(Name::Allow).is_none() && old.is_some_and(|old| old.update);
        self
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    fn read(first: &str, more: &str) -> Message {
        let text = format!(
            "{first}\r\nVia: SIP/2.0/UDP dmf.example.com;branch=z9hG4bKq\r\nFrom: <sip:a@example.com>;tag=1\r\n\
             To: <sip:b@example.com>;tag=2\r\nCall-ID: c1\r\nCSeq: 7 UPDATE\r\n{more}Content-Length: 0\r\n\r\n"
        );
        Message::parse_datagram(Bytes::from(text), &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
    }

    fn ok(more: &str) -> Message {
        read("SIP/2.0 200 OK", more)
    }

    fn update(more: &str) -> Message {
        read("UPDATE sip:b@example.com SIP/2.0", more)
    }

    fn s(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    fn wish() -> Wish {
        Wish::new(1800, 90, Some(Refresher::Uac))
    }

    fn lines(timer: &SessionTimer) -> Message {
        let begun = Request::new(Method::Update, b"sip:b@example.com")
            .line(Name::Via, b"SIP/2.0/UDP dmf.example.com;branch=z9hG4bKs")
            .line(Name::From, b"<sip:a@example.com>;tag=1")
            .line(Name::To, b"<sip:b@example.com>;tag=2")
            .line(Name::CallId, b"c1")
            .cseq(8, Method::Update);
        let octets = timer.refresh().lines(begun).finish();
        Message::parse_datagram(octets, &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
    }

    //= 12.2.2.2 (200-1): the session timer runs with the value received in Session-Expires
    //= RFC 4028 7.2: the refresh is sent once half the session interval has elapsed
    #[test]
    fn the_refresher_refreshes_at_half_time_and_gives_up_before_the_end() {
        let mut timer =
            SessionTimer::uac(s(100), &wish(), &ok("Session-Expires: 600;refresher=uac\r\nAllow: UPDATE\r\n"));
        assert!(timer.we_refresh());
        assert_eq!((timer.interval_s(), timer.refresh_method(), timer.deadline()), (600, Method::Update, s(400)));
        assert_eq!(timer.fire(s(399)), None);
        assert_eq!(timer.fire(s(400)), Some(Due::Refresh));
        assert_eq!((timer.fire(s(400)), timer.deadline()), (None, s(668)));
        timer.retry(s(450));
        assert_eq!(timer.fire(s(450)), Some(Due::Refresh));
        assert_eq!(timer.fire(s(668)), Some(Due::Bye), "32 s before 700 s");
        let refreshed = SessionTimer::uac(s(460), &timer.refresh(), &ok("Session-Expires: 600;refresher=uac\r\n"));
        assert_eq!((refreshed.deadline(), refreshed.refresh_method()), (s(760), Method::Invite));
        assert_eq!(refreshed.after(Some(&timer), &ok("")).refresh_method(), Method::Update, "it was said before");
        assert_eq!(refreshed.after(Some(&timer), &ok("Allow: BYE\r\n")).refresh_method(), Method::Invite);
    }

    //= RFC 4028 10: BYE at the minimum of 32 seconds and one third of the interval before the end
    #[test]
    fn who_does_not_refresh_waits_and_says_bye_a_third_or_32_s_before_the_end() {
        let mut timer =
            SessionTimer::uac(s(0), &wish(), &ok("Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n"));
        assert!(!timer.we_refresh());
        assert_eq!(timer.deadline(), s(60));
        timer.retry(s(1));
        assert_eq!(timer.fire(s(59)), None);
        assert_eq!(timer.fire(s(60)), Some(Due::Bye));
    }

    #[test]
    fn a_peer_that_knows_no_timers_is_refreshed_by_us() {
        let timer = SessionTimer::uac(s(0), &wish(), &ok(""));
        assert_eq!((timer.we_refresh(), timer.interval_s(), timer.deadline()), (true, 1800, s(900)));
        assert_eq!(
            SessionTimer::uac(s(0), &wish(), &ok("Session-Expires: 1\r\n")).interval_s(),
            90,
            "no endless refreshing"
        );
    }

    //= RFC 4028 7.1: Session-Expires is never below Min-SE
    #[test]
    fn a_422_makes_the_wish_grow_once() {
        let mut wish = Wish::new(50, 0, None);
        assert_eq!(wish, Wish::new(90, 90, None));
        let least = |more: &str| read("SIP/2.0 422 Session Interval Too Small", more);
        assert!(wish.too_small(&least("Min-SE: 3600\r\n")));
        assert!(wish.too_small(&least("Min-SE: 4000\r\n")));
        assert_eq!(wish, Wish::new(4000, 4000, None));
        for more in ["Min-SE: 4000\r\n", "Min-SE: 10\r\n", "Min-SE: soon\r\n", ""] {
            assert!(!wish.too_small(&least(more)), "{more}");
        }
    }

    //= RFC 4028 9, table 2: who refreshes, and when Require says so
    #[test]
    fn the_answer_follows_table_2() {
        let cases =
            [("", "uas", false), ("Supported: timer\r\n", "uac", true), ("Supported: path, Timer\r\n", "uac", true)];
        for (more, refresher, require) in cases {
            let request = update(&format!("Session-Expires: 1800\r\n{more}"));
            let Ok(Some((timer, agreed))) = SessionTimer::uas(s(0), &request, 90, None) else { panic!("a timer") };
            assert_eq!(timer.we_refresh(), refresher == "uas");
            let peer = ([192, 0, 2, 7], 5060).into();
            let octets = agreed.lines(Response::to(&request, 200, peer)).finish();
            let response = ok_from(octets);
            let expires = format!("1800;refresher={refresher}");
            assert_eq!(response.header(Name::SessionExpires), Some(expires.as_bytes()));
            assert_eq!(response.header(Name::Require).is_some(), require);
        }
        for (asked, ours) in [("uac", false), ("uas", true)] {
            let request = update(&format!("Supported: timer\r\nSession-Expires: 1800;refresher={asked}\r\n"));
            let Ok(Some((timer, _))) = SessionTimer::uas(s(0), &request, 90, None) else { panic!("a timer") };
            assert_eq!(timer.we_refresh(), ours);
        }
    }

    fn ok_from(octets: Bytes) -> Message {
        Message::parse_datagram(octets, &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
    }

    #[test]
    fn an_interval_below_the_least_is_refused_to_who_understands_it() {
        let uas = |more: &str| SessionTimer::uas(s(0), &update(more), 120, None);
        assert_eq!(uas("Supported: timer\r\nSession-Expires: 119\r\n"), Err(TooSmall { min_se_s: 120 }));
        assert_eq!(uas("Session-Expires: 119\r\n"), Ok(None));
        assert_eq!(uas("Supported: timer\r\n"), Ok(None));
        assert!(uas("Supported: timer\r\nSession-Expires: 120\r\n").is_ok_and(|agreed| agreed.is_some()));
    }

    #[test]
    fn a_refresh_asks_for_the_largest_min_se_it_was_told() {
        let first = update("Supported: timer\r\nSession-Expires: 600;refresher=uas\r\nMin-SE: 500\r\n");
        let Ok(Some((old, _))) = SessionTimer::uas(s(0), &first, 90, None) else { panic!("a timer") };
        let second = update("Supported: timer\r\nSession-Expires: 300;refresher=uas\r\nMin-SE: 200\r\n");
        let Ok(Some((timer, _))) = SessionTimer::uas(s(0), &second, 90, Some(&old)) else { panic!("a timer") };
        let refresh = lines(&timer);
        assert_eq!(refresh.header(Name::MinSE), Some(&b"500"[..]));
        assert_eq!(refresh.header(Name::SessionExpires), Some(&b"500;refresher=uac"[..]));
        assert!(has_token(&refresh, Name::Supported, b"timer"));
    }
}
