//! Message summaries (`application/simple-message-summary`, RFC 3842): how many wait, and the headers of what came lately.
//!
//! Knows the lines; which messages are new, and when a NOTIFY is due, is for others.

use super::scan::{self, Class};

/// The event package.
pub const EVENT: &[u8] = b"message-summary";

/// The context classes of RFC 3458 6.2, as a summary writes them.
pub const CLASSES: [&str; 6] =
    ["Voice-Message", "Fax-Message", "Pager-Message", "Multimedia-Message", "Text-Message", "None"];

/// The media type.
pub const MEDIA_TYPE: &[u8] = b"application/simple-message-summary";

/// Messages of one class.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Not had yet.
    pub new: u64,
    /// Had, and still there.
    pub old: u64,
    /// Of the new ones, urgent.
    pub new_urgent: u64,
    /// Of the old ones, urgent.
    pub old_urgent: u64,
}

/// A summary: its status line, its account, its counts by context class (`Text-Message` ...). Header groups follow with [`group`].
///
//= RFC 3842 3.5: the account URI MUST NOT be delimited with angle brackets
//= RFC 3842 3.5: all counters have a maximum value of 4,294,967,295
pub fn write(out: &mut Vec<u8>, account: &[u8], classes: &[(&[u8], Counts)]) {
    let waiting: &[u8] = if classes.iter().any(|(_, counts)| counts.new > 0) { b"yes" } else { b"no" };
    out.extend_from_slice(b"Messages-Waiting: ");
    out.extend_from_slice(waiting);
    out.extend_from_slice(b"\r\nMessage-Account: ");
    out.extend(account.iter().filter(|octet| Class::URI.has(**octet)));
    out.extend_from_slice(b"\r\n");
    for (class, counts) in classes {
        out.extend_from_slice(class);
        let mut number = |before: &[u8], number: u64| {
            out.extend_from_slice(before);
            scan::put_decimal(out, number.min(u64::from(u32::MAX)));
        };
        number(b": ", counts.new);
        number(b"/", counts.old);
        number(b" (", counts.new_urgent);
        number(b"/", counts.old_urgent);
        out.extend_from_slice(b")\r\n");
    }
}

/// One message's headers, behind an empty line. Empty values are left out; folds and line ends become a space.
pub fn group(out: &mut Vec<u8>, headers: &[(&[u8], &[u8])]) {
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        let value = scan::trim(value);
        if value.is_empty() {
            continue;
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        for word in value.split(|octet| matches!(octet, b'\r' | b'\n')).map(scan::trim).filter(|word| !word.is_empty())
        {
            if out.last() != Some(&b' ') {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    //= RFC 3842 3.5: the account URI MUST NOT be delimited with angle brackets
    #[test]
    fn the_summary_of_the_mission_is_written() {
        let mut out = Vec::new();
        let counts = Counts { new: 2, old: 0, new_urgent: 1, old_urgent: 0 };
        write(&mut out, b"<sip:charlie@example.com>", &[(b"Text-Message", counts)]);
        group(
            &mut out,
            &[
                (b"To", b"<sip:charlie@example.com>"),
                (b"Subject", b"HELP! at home ill,\r\n  present for me please"),
                (b"Priority", b""),
                (b"Message-ID", b"sip:01jq8z4m9a0e7r4y2n8p5g3f6s@ms32.example.com"),
            ],
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Messages-Waiting: yes\r\nMessage-Account: sip:charlie@example.com\r\nText-Message: 2/0 (1/0)\r\n\r\n\
             To: <sip:charlie@example.com>\r\nSubject: HELP! at home ill, present for me please\r\n\
             Message-ID: sip:01jq8z4m9a0e7r4y2n8p5g3f6s@ms32.example.com\r\n"
        );
    }

    //= RFC 3842 3.5: all counters have a maximum value of 4,294,967,295
    #[test]
    fn counters_end_at_32_bits_and_old_ones_do_not_wait() {
        let mut out = Vec::new();
        let counts = Counts { new: 0, old: u64::MAX, new_urgent: 0, old_urgent: 7 };
        write(&mut out, b"sip:b@h", &[(b"Text-Message", counts), (b"Multimedia-Message", Counts::default())]);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("Messages-Waiting: no\r\n"));
        assert!(text.ends_with("Text-Message: 0/4294967295 (0/7)\r\nMultimedia-Message: 0/0 (0/0)\r\n"), "{text}");
    }

    proptest! {
        #[test]
        fn no_value_becomes_a_line(value in "[a-z \\r\\n\\t:]{0,40}") {
            let mut out = Vec::new();
            group(&mut out, &[(b"Subject", value.as_bytes()), (b"Date", b"x")]);
            let text = String::from_utf8(out).unwrap();
            let lines: Vec<&str> = text.split("\r\n").collect();
            prop_assert!(lines.iter().all(|line| line.is_empty() || line.starts_with("Subject: ") || line.starts_with("Date: ")));
            prop_assert!(!text.contains('\r') || text.matches('\r').count() == text.matches("\r\n").count());
        }
    }
}
