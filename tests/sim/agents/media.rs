//! A user's client towards MSRP: how it takes what is pushed, well or badly.

use crate::ground::{Ground, Person};
use crate::msrp::{self, Frame, Reader};

/// What a client does with what is sent to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conduct {
    /// Answers at once.
    Prompt,
    /// Answers within so many microseconds, in any order.
    Late(u64),
    /// Answers nothing any more after so many requests.
    Mute(u32),
    /// Refuses every n-th request with this status.
    Refuse(u32, u16),
    /// Answers requests that were never sent, reports on messages it never had, and sends what nobody asked for.
    Liar,
    /// Closes after so many requests.
    Leave(u32),
    /// Resets after so many.
    Break(u32),
    /// Stops reading after so many, for so long.
    Deaf(u32, u64),
    /// Says BYE after so many.
    Bye(u32),
    /// Takes only small messages.
    Small(u64),
}

impl Conduct {
    /// As rude as the plan has it.
    pub(crate) fn draw(g: &mut Ground) -> Conduct {
        if !g.chance(g.plan.rude) {
            let late = if g.calm { 0 } else { g.between(0, 3) };
            return if late == 0 { Conduct::Late(g.between(1, 300_000)) } else { Conduct::Prompt };
        }
        let after = g.between(0, 12) as u32;
        match g.between(0, 8) {
            0 => Conduct::Late(g.between(1_000_000, 25_000_000)),
            1 => Conduct::Mute(after),
            2 => Conduct::Refuse(after.max(2), [400, 413, 423, 403, 408, 415, 481, 501, 506][after as usize % 9]),
            3 => Conduct::Liar,
            4 => Conduct::Leave(after),
            5 => Conduct::Break(after),
            6 => Conduct::Deaf(after, g.between(1_000_000, 50_000_000)),
            7 => Conduct::Bye(after),
            _ => Conduct::Small(1_500),
        }
    }

    /// What its SDP says of the largest message.
    pub(crate) fn max_size(self) -> Option<u64> {
        match self {
            Conduct::Small(octets) => Some(octets),
            _ => None,
        }
    }
}

/// One session's media.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) own_path: String,
    pub(crate) peer_path: String,
    pub(crate) conduct: Conduct,
    pub(crate) stream: Option<usize>,
    reader: Reader,
    requests: u32,
}

impl Media {
    /// Before any connection.
    pub(crate) fn new(own_path: String, peer_path: String, conduct: Conduct) -> Media {
        Media { own_path, peer_path, conduct, stream: None, reader: Reader::default(), requests: 0 }
    }

    /// We connected: the first request binds the connection to the session.
    pub(crate) fn connected(&mut self, g: &mut Ground, stream: usize) {
        self.stream = Some(stream);
        let tid = String::from_utf8_lossy(&g.dice.hex::<12>()).into_owned();
        let binding = msrp::binding(&tid, &self.peer_path, &self.own_path);
        g.write(stream, &binding);
    }

    /// The daemon connected.
    pub(crate) fn accepted(&mut self, stream: usize) {
        self.stream = Some(stream);
    }

    /// The session is over.
    pub(crate) fn end(&mut self, g: &mut Ground) {
        if let Some(stream) = self.stream.take() {
            g.leave(stream);
        }
    }

    /// Octets of the daemon's; true when the client wants to say BYE for them.
    pub(crate) fn octets(&mut self, g: &mut Ground, user: usize, session: usize, octets: &[u8]) -> bool {
        let mut frames = Vec::new();
        if let Err(fault) = self.reader.feed(octets, &mut frames) {
            g.oracle.violation(format!("u{user} reads what is not MSRP: {fault}"));
        }
        let mut bye = false;
        for frame in frames.iter().filter(|frame| frame.status().is_none()) {
            bye |= self.request(g, user, session, frame);
        }
        bye
    }

    fn request(&mut self, g: &mut Ground, user: usize, session: usize, frame: &Frame) -> bool {
        let Some(stream) = self.stream else { return false };
        self.requests += 1;
        let answer = msrp::response(frame, &self.own_path, 200);
        // Once everything works, those who were rude come round.
        let conduct = if g.calm { Conduct::Prompt } else { self.conduct };
        match conduct {
            Conduct::Late(within) => {
                let delay = g.between(1, within);
                g.person(delay, Person::Acknowledge { user, session, octets: answer });
            }
            Conduct::Mute(after) if self.requests > after => {}
            Conduct::Refuse(every, status) if self.requests.is_multiple_of(every) => {
                g.write(stream, &msrp::response(frame, &self.own_path, status));
            }
            Conduct::Liar => {
                let mut lie = frame.clone();
                lie.tid.replace_range(16.., "ffff");
                g.write(stream, &msrp::response(&lie, &self.own_path, 200));
                g.write(stream, &answer);
                g.write(stream, &answer);
                let tid = String::from_utf8_lossy(&g.dice.hex::<12>()).into_owned();
                let about = [frame.header("Message-ID"), tid.as_str()][g.between(0, 1) as usize];
                g.write(stream, &msrp::report(&tid, &self.peer_path, &self.own_path, about));
                g.write(stream, &msrp::binding(&tid, &self.peer_path, &self.own_path));
            }
            Conduct::Leave(after) if self.requests > after => self.end(g),
            Conduct::Break(after) if self.requests > after => {
                self.stream = None;
                g.reset(stream);
            }
            Conduct::Deaf(after, pause) if self.requests == after + 1 => {
                g.write(stream, &answer);
                g.deafen(stream, true);
                g.person(pause, Person::Listen { stream });
            }
            Conduct::Bye(after) if self.requests > after => return true,
            _ => g.write(stream, &answer),
        }
        false
    }
}
