//! A dialog that outlives the daemon: as octets, and back. What is kept is what RFC 3261 12.1 calls its state.
//!
//! ```text
//!   version │ secure │ local CSeq + 1 │ remote CSeq + 1 │ 6 texts, each behind its length │ routes, each behind its length
//! ```
//! All numbers are little-endian: the sequence numbers 8 octets, 0 for none; lengths 4.

use super::{Dialog, is_strict};

/// Version of these octets.
const VERSION: u8 = 1;

impl Dialog {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(self.secure.into());
        for seq in [self.local_seq, self.remote_seq] {
            out.extend_from_slice(&seq.map_or(0, |seq| u64::from(seq) + 1).to_le_bytes());
        }
        let texts =
            [&self.call_id, &self.local_tag, &self.remote_tag, &self.local_uri, &self.remote_uri, &self.remote_target];
        for text in texts.into_iter().chain(self.routes.iter()) {
            // Longer than 4 GiB is no header.
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
    }

    /// Back from [`Dialog::encode`], with nothing behind it; `None` for octets that are none of ours.
    pub fn decode(octets: &[u8]) -> Option<Dialog> {
        let (&[version, secure], rest) = octets.split_first_chunk::<2>()?;
        if version != VERSION || secure > 1 {
            return None;
        }
        let (local, rest) = seq(rest)?;
        let (remote, mut rest) = seq(rest)?;
        let mut texts = Vec::new();
        while !rest.is_empty() {
            let (text, after) = text(rest)?;
            texts.push(text);
            rest = after;
        }
        let routes = if texts.len() >= 6 { texts.split_off(6) } else { return None };
        let [call_id, local_tag, remote_tag, local_uri, remote_uri, remote_target] = texts.try_into().ok()?;
        Some(Dialog {
            call_id,
            local_tag,
            remote_tag,
            local_seq: local,
            remote_seq: remote,
            local_uri,
            remote_uri,
            remote_target,
            strict: is_strict(&routes),
            routes: routes.into(),
            secure: secure == 1,
        })
    }
}

fn seq(octets: &[u8]) -> Option<(Option<u32>, &[u8])> {
    let (seq, rest) = octets.split_first_chunk::<8>()?;
    let seq = match u64::from_le_bytes(*seq) {
        0 => None,
        seq => Some(u32::try_from(seq - 1).ok()?),
    };
    Some((seq, rest))
}

fn text(octets: &[u8]) -> Option<(Box<[u8]>, &[u8])> {
    let (len, rest) = octets.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((text.into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use crate::wire::sip::{Message, Method, Name};
    use bytes::Bytes;

    fn dialog(routes: &str) -> Dialog {
        let text = format!(
            "SUBSCRIBE sips:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nFrom: <sip:bob@h>;tag=1\r\n\
             To: <sip:bob@h>\r\nCall-ID: c@h\r\nCSeq: 0 SUBSCRIBE\r\nContact: <sip:bob@pc;transport=tcp>\r\n{routes}Content-Length: 0\r\n\r\n"
        );
        let message = Message::parse_datagram(Bytes::from(text), &Limits::default());
        let message = message.unwrap_or_else(|bad| panic!("{:?}", bad.fault));
        Dialog::uas(&message, b"t9").unwrap_or_else(|bad| panic!("{bad:?}"))
    }

    #[test]
    fn what_is_kept_is_read_back_and_cut_octets_are_not() {
        for routes in ["", "Record-Route: <sip:p1;lr>, <sip:p2;lr>;x=\"a,b\"\r\n", "Record-Route: <sip:strict>\r\n"] {
            let mut dialog = dialog(routes);
            for _ in 0..2 {
                let mut octets = Vec::new();
                dialog.encode(&mut octets);
                assert_eq!(Dialog::decode(&octets).as_ref(), Some(&dialog));
                for cut in 0..octets.len() - 1 {
                    // A cut between two routes is a dialog with fewer of them: whoever keeps the octets knows their number.
                    assert!(Dialog::decode(&octets[..cut]).is_none_or(|less| less.routes.len() < dialog.routes.len()));
                }
                octets[0] = 9;
                assert_eq!(Dialog::decode(&octets), None);
                dialog.request(Method::Notify);
            }
        }
    }

    //= RFC 3261 12.2.2: a request may be higher than the remote sequence number by more than one: not an error condition
    #[test]
    fn numbers_that_may_have_been_used_are_left_out() {
        let mut dialog = dialog("");
        dialog.leap(100);
        let octets = dialog.request(Method::Notify).line(Name::Via, b"SIP/2.0/TCP s;branch=z9hG4bKn").finish();
        let notify = Message::parse(octets, &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault));
        assert_eq!(notify.cseq(), (101, Method::Notify));
    }
}
