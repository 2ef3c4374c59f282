//! SDP as the push offer must be: a strict reader (RFC 8866 section 9: types in order, CRLF, no blanks around `=`) and the
//! writer of the client's answers.

/// One description.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sdp {
    /// Session-level lines: type and value.
    pub session: Vec<(char, String)>,
    /// Media descriptions: the `m=` line first.
    pub media: Vec<Vec<(char, String)>>,
}

impl Sdp {
    /// Reads; the error names the broken rule and the line.
    pub fn read(octets: &[u8]) -> Result<Sdp, String> {
        let text = std::str::from_utf8(octets).map_err(|_| "SDP is UTF-8".to_string())?;
        let Some(body) = text.strip_suffix("\r\n") else { return Err("the last line ends in CRLF".into()) };
        let mut sdp = Sdp::default();
        let mut place = 0;
        for line in body.split("\r\n") {
            let mut chars = line.chars();
            let (Some(kind), Some('=')) = (chars.next(), chars.next()) else {
                return Err(format!("type=value: {line:?}"));
            };
            let value = chars.as_str().to_string();
            if value.contains(['\r', '\n', '\0']) || value.starts_with(' ') || (value.is_empty() && kind != 's') {
                return Err(format!("a value is a non-empty byte-string without CR, LF, NUL: {line:?}"));
            }
            let order = if sdp.media.is_empty() { "vosiuepcbtrzka" } else { "micbka" };
            if kind == 'm' {
                sdp.media.push(Vec::new());
                place = 0;
            } else {
                let at = order.find(kind).ok_or_else(|| format!("{kind}= does not stand here: {line:?}"))?;
                let repeats =
                    matches!(kind, 'a' | 'b' | 'e' | 'p' | 't' | 'r') || (kind == 'c' && !sdp.media.is_empty());
                if at < place || (at + 1 == place && !repeats) {
                    return Err(format!("{kind}= is out of order or repeated: {line:?}"));
                }
                place = at + usize::from(!repeats);
            }
            match sdp.media.last_mut() {
                Some(section) => section.push((kind, value)),
                None => sdp.session.push((kind, value)),
            }
        }
        sdp.judge()?;
        Ok(sdp)
    }

    fn judge(&self) -> Result<(), String> {
        let value = |kind| self.session.iter().find(|(found, _)| *found == kind).map(|(_, value)| value.as_str());
        if value('v') != Some("0") {
            return Err("v=0".into());
        }
        let origin: Vec<&str> = value('o').ok_or("o= is mandatory")?.split(' ').collect();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        if origin.len() != 6
            || !digits(origin[1])
            || !digits(origin[2])
            || origin[3] != "IN"
            || !matches!(origin[4], "IP4" | "IP6")
        {
            return Err(format!("o=username sess-id sess-version IN IP4/IP6 address: {origin:?}"));
        }
        value('s').ok_or("s= is mandatory")?;
        let times: Vec<&str> = value('t').ok_or("t= is mandatory")?.split(' ').collect();
        if times.len() != 2 || !times.iter().all(|time| digits(time)) {
            return Err(format!("t=start stop: {times:?}"));
        }
        for media in &self.media {
            let line: Vec<&str> = media[0].1.split(' ').collect();
            if line.len() < 4 || line[1].parse::<u16>().is_err() {
                return Err(format!("m=media port proto fmt: {line:?}"));
            }
            if value('c').is_none() && !media.iter().any(|(kind, _)| *kind == 'c') {
                return Err("every media description has a c= of its own or of the session".into());
            }
        }
        Ok(())
    }

    /// The first `m=message` section.
    pub fn message(&self) -> Option<&[(char, String)]> {
        self.media.iter().find(|media| media[0].1.starts_with("message ")).map(Vec::as_slice)
    }

    /// The values of one attribute of the message section; the empty string for a property attribute.
    pub fn attributes(&self, name: &str) -> Vec<&str> {
        let lines = self.message().unwrap_or_default().iter().filter(|(kind, _)| *kind == 'a');
        lines
            .filter_map(|(_, value)| {
                let (found, rest) = value.split_once(':').unwrap_or((value, ""));
                (found == name).then_some(rest)
            })
            .collect()
    }

    /// The single value of an attribute of the message section.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes(name).first().copied()
    }

    /// Port and proto of the message section.
    pub fn port_and_proto(&self) -> Option<(u16, &str)> {
        let mut words = self.message()?.first()?.1.split(' ').skip(1);
        Some((words.next()?.parse().ok()?, words.next()?))
    }
}

/// What `a=setup` of an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// The answerer connects.
    Active,
    /// The answerer listens.
    Passive,
    /// No `a=setup`: RFC 4975 5.4, the offerer connects.
    Absent,
}

/// An answer to a push offer: receive only, any type.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole `a=path` value.
    pub path: String,
    /// Who connects.
    pub setup: Setup,
    /// The direction line; None leaves it out.
    pub direction: Option<&'static str>,
    /// `a=accept-types`.
    pub accept_types: String,
    /// `a=accept-wrapped-types`; None leaves it out.
    pub wrapped_types: Option<String>,
    /// `a=max-size` in octets.
    pub max_size: Option<u64>,
    /// The port of the `m=` line; 0 refuses.
    pub port: u16,
}

impl Answer {
    /// What an OMA client answers.
    pub fn new(path: &str, setup: Setup) -> Answer {
        let port = path
            .split(' ')
            .next()
            .and_then(|uri| uri.split_once("://")?.1.split('/').next()?.rsplit_once(':')?.1.parse().ok());
        Answer {
            path: path.into(),
            setup,
            direction: Some("recvonly"),
            accept_types: "multipart/mixed message/cpim message/sip message/sipfrag".into(),
            wrapped_types: Some("*".into()),
            max_size: None,
            port: if setup == Setup::Active { 9 } else { port.unwrap_or(9) },
        }
    }

    /// The octets.
    pub fn write(&self) -> Vec<u8> {
        let authority = self.path.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
        let family = if host.contains(':') { "IP6" } else { "IP4" };
        let mut text = format!(
            "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=message {} TCP/MSRP *\r\n",
            self.port
        );
        let lines = [
            self.direction.map(str::to_string),
            Some(format!("accept-types:{}", self.accept_types)),
            self.wrapped_types.as_ref().map(|types| format!("accept-wrapped-types:{types}")),
            self.max_size.map(|size| format!("max-size:{size}")),
            match self.setup {
                Setup::Active => Some("setup:active".into()),
                Setup::Passive => Some("setup:passive".into()),
                Setup::Absent => None,
            },
            Some(format!("path:{}", self.path)),
        ];
        for line in lines.into_iter().flatten() {
            text.push_str(&format!("a={line}\r\n"));
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=dmf 3954441600 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
        m=message 2855 TCP/MSRP *\r\na=sendonly\r\na=accept-types:multipart/mixed message/cpim\r\na=setup:actpass\r\n\
        a=path:msrp://192.0.2.10:2855/9di4eae923wzd0x7b2m6;tcp\r\n";

    #[test]
    fn an_offer_reads_line_by_line() {
        let sdp = Sdp::read(OFFER.as_bytes()).unwrap();
        assert_eq!(sdp.port_and_proto(), Some((2855, "TCP/MSRP")));
        assert_eq!(sdp.attribute("sendonly"), Some(""));
        assert_eq!(sdp.attribute("setup"), Some("actpass"));
    }

    #[test]
    fn a_wrong_line_is_refused() {
        let cases = [
            ("t=0 0\r\n", ""),
            ("s=-\r\nc=IN IP4 192.0.2.10", "c=IN IP4 192.0.2.10\r\ns=-"),
            ("\r\na=sendonly", "\na=sendonly"),
            ("a=sendonly", "a= sendonly"),
            ("c=IN IP4 192.0.2.10\r\n", ""),
            ("3954441600 1", "x 1"),
            ("tcp\r\n", "tcp"),
        ];
        for (good, bad) in cases {
            Sdp::read(OFFER.replacen(good, bad, 1).as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn every_answer_is_well_formed() {
        for setup in [Setup::Active, Setup::Passive, Setup::Absent] {
            for path in ["msrp://127.0.0.1:7777/abc;tcp", "msrp://[::1]:7777/abc;tcp"] {
                let sdp = Sdp::read(&Answer::new(path, setup).write()).unwrap();
                assert_eq!(sdp.attribute("path"), Some(path));
                assert_eq!(
                    sdp.port_and_proto().map(|(port, _)| port),
                    Some(if setup == Setup::Active { 9 } else { 7777 })
                );
            }
        }
    }
}
