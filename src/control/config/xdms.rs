//! `[xdms]`: where the users' metadata documents are to be had.

use super::super::table::Table;
use super::super::units;
use super::positive;
use std::time::Duration;

/// Who serves the documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// This daemon, below `/xcap-root` of `[http]`.
    Builtin,
    /// An XDMS elsewhere, which is kept up to date.
    External,
}

/// Where an XDMS is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// `host:port`, to connect to and for `Host`.
    pub authority: String,
    /// The path of its XCAP root, without a slash at the end.
    pub path: String,
}

/// `[xdms]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Xdms {
    /// Who serves.
    pub mode: Mode,
    /// The other XDMS; there in [`Mode::External`].
    pub root: Option<Root>,
    /// Messages in one document at most.
    pub max_messages: usize,
    /// Connections to the other XDMS.
    pub connections: usize,
    /// Requests to it in a second.
    pub rate: u32,
    /// How long one of its answers may take.
    pub timeout: Duration,
}

/// Reads the section.
pub(super) fn read(mut table: Table<'_, '_>) -> Xdms {
    let modes = [("builtin", Mode::Builtin), ("external", Mode::External)];
    let mode = table.word("mode", Mode::Builtin, &modes);
    let root = table.text_or("root", None, |text| root(text).map(Some)).value;
    let at = if table.is_there("root") { table.place("root") } else { table.at() };
    match (mode, &root) {
        (Mode::External, None) => table.note(
            &table.place("mode"),
            "xdms.mode = \"external\" needs the XDMS: write root = \"http://xdms.example.org:8080/xcap-root\" under [xdms]",
        ),
        (Mode::Builtin, Some(_)) => {
            table.note(&at, "xdms.root is for xdms.mode = \"external\"; the built-in XDMS is below /xcap-root of http.listen");
        }
        _ => {}
    }
    let xdms = Xdms {
        mode,
        root,
        // Half a kilobyte each: the default is what the default quota lets a user have, 5 MiB; the most is what the bound of a
        // document's octets holds of the shortest.
        max_messages: usize::try_from(table.number("max_messages", 10_000, 1..=100_000).value).unwrap_or(usize::MAX),
        // A core answers 64 questions at one time: half of them for these.
        connections: usize::try_from(table.number("connections", 8, 1..=32).value).unwrap_or(usize::MAX),
        rate: u32::try_from(table.number("rate", 500, 1..=100_000).value).unwrap_or(u32::MAX),
        timeout: table.text_or("timeout", Duration::from_secs(10), positive).value,
    };
    table.end();
    xdms
}

/// An XCAP root. Plain HTTP alone: the daemon speaks no TLS to an XDMS, which stands in the same site or behind a tunnel.
fn root(text: &str) -> Result<Root, &'static str> {
    let rest = match text.strip_prefix("http://") {
        Some(rest) => rest,
        None if text.starts_with("https://") => {
            return Err("is reached by plain HTTP only: name a tunnel or a proxy that speaks TLS to it");
        }
        None => return Err("is no XCAP root: http://host[:port]/path"),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = path.trim_end_matches('/');
    if path.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '"' | '<' | '>')) {
        return Err("has a path that is none: no query, no fragment, no blanks");
    }
    let mut authority = units::host_port(authority)?;
    let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty()
            && port.bytes().all(|octet| octet.is_ascii_digit())
            && (!host.contains(':') || host.ends_with(']'))
    });
    if !has_port {
        authority.push_str(":80");
    }
    Ok(Root { authority, path: path.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_a_plain_http_address() {
        let of = |text: &str| root(text).map(|root| format!("{} {}", root.authority, root.path));
        assert_eq!(of("http://xdms.example.org/xcap-root/").unwrap(), "xdms.example.org:80 /xcap-root");
        assert_eq!(of("http://10.0.0.7:8080").unwrap(), "10.0.0.7:8080 ");
        assert_eq!(of("http://[::1]:8080/a/b").unwrap(), "[::1]:8080 /a/b");
        for bad in [
            "",
            "xdms.example.org",
            "https://x.example.org/",
            "http:///x",
            "http://a b/",
            "http://a.b/x?y",
            "http://u@a.b/",
            "http://a.b:x/",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
