//! MSRP: a connection says the same whatever pieces it came in, octet for octet; what we write is read back.

use super::Pieces;
use deferd::base::span::Span;
use deferd::wire::msrp::cut::{Cut, Fault, Piece};
use deferd::wire::msrp::head::{ByteRange, FailureReport, Finding, Method, is_ident};
use deferd::wire::msrp::write;

/// Start-line and headers together, so small that an input reaches it.
const HEAD_MAX: usize = 600;

/// What a connection says: content joined, places resolved.
#[derive(PartialEq, Eq, Debug)]
enum Said {
    Request {
        words: [Vec<u8>; 5],
        method: Method,
        range: Option<ByteRange>,
        success: bool,
        failure: FailureReport,
        status: Option<u16>,
        has_body: bool,
    },
    Body(Vec<u8>),
    End(u8),
    Response {
        words: [Vec<u8>; 3],
        status: u16,
    },
    Wrong {
        what: Finding,
        words: [Vec<u8>; 3],
        lost: bool,
        answerable: bool,
    },
}

fn wrong(fault: &Fault, buf: &[u8]) -> Said {
    let text = |span: Span| span.of(buf).to_vec();
    // Of a stream that is lost only that it is: how much of the head was read by then is the pieces' doing.
    let words = match fault.is_lost() {
        true => Default::default(),
        false => [text(fault.tid), text(fault.to_path), text(fault.from_path)],
    };
    Said::Wrong {
        what: fault.what,
        words,
        lost: fault.is_lost(),
        answerable: !fault.is_lost() && fault.is_answerable(),
    }
}

fn listen(stream: &[u8], mut pieces: Option<Pieces>) -> Vec<Said> {
    let mut cut = Cut::new(HEAD_MAX);
    let (mut said, mut taken) = (Vec::new(), 0);
    let mut shown = if pieces.is_some() { 0 } else { stream.len() };
    loop {
        let buf = &stream[taken..shown];
        let text = |span: Span| span.of(buf).to_vec();
        let len = match cut.next(buf) {
            Ok(Piece::More) if shown == stream.len() => return said,
            Ok(Piece::More) => {
                shown = pieces.as_mut().map_or(stream.len(), |pieces| pieces.border(shown, stream.len()));
                continue;
            }
            Ok(Piece::Response { head, len }) => {
                let words = [text(head.tid), text(head.to_path), text(head.from_path)];
                said.push(Said::Response { words, status: head.status });
                len
            }
            Ok(Piece::Request { head, len }) => {
                assert!(is_ident(head.tid.of(buf)));
                said.push(Said::Request {
                    words: [head.tid, head.to_path, head.from_path, head.message_id, head.content_type].map(text),
                    method: head.method,
                    range: head.byte_range,
                    success: head.success_report,
                    failure: head.failure_report,
                    status: head.status,
                    has_body: head.has_body,
                });
                len
            }
            Ok(Piece::Data { len }) => {
                match said.last_mut() {
                    Some(Said::Body(body)) => body.extend_from_slice(&buf[..len]),
                    _ => said.push(Said::Body(buf[..len].to_vec())),
                }
                len
            }
            Ok(Piece::End { flag, len }) => {
                said.push(Said::End(flag));
                len
            }
            Err(fault) => {
                said.push(wrong(&fault, buf));
                if fault.is_lost() {
                    return said;
                }
                fault.len
            }
        };
        assert!(len > 0 && len <= buf.len(), "only what was shown is taken");
        taken += len;
    }
}

/// Content of the request that is lost at its end may have been handed out up to anywhere: pieces decide how much.
fn without_lost_content(mut said: Vec<Said>) -> Vec<Said> {
    if let [.., Said::Body(_), Said::Wrong { what: Finding::BodyTooLong, .. }] = said.as_slice() {
        said.remove(said.len() - 2);
    }
    said
}

pub(super) fn msrp(octets: &[u8]) {
    let (pieces, stream) = Pieces::before(octets);
    let whole = listen(stream, None);
    for said in &whole {
        echo(said);
    }
    let whole = without_lost_content(whole);
    assert_eq!(whole, without_lost_content(listen(stream, Some(pieces))), "a connection's pieces say nothing");
}

/// What we would answer is read back as what it is.
fn echo(said: &Said) {
    let Said::Request { words: [tid, to, from, message_id, _], range, .. } = said else { return };
    let mut out = Vec::new();
    write::response(&mut out, tid, 200, from, to);
    let expected = Said::Response { words: [tid.clone(), from.clone(), to.clone()], status: 200 };
    if out.len() <= HEAD_MAX {
        assert_eq!(listen(&out, None), [expected]);
    }
    if let (Some(range), false) = (*range, message_id.is_empty()) {
        out.clear();
        write::report(&mut out, &write::Report { tid, to_path: from, from_path: to, message_id, range, status: 413 });
        if out.len() > HEAD_MAX {
            return;
        }
        let said = listen(&out, None);
        assert!(
            matches!(&said[..], [Said::Request { method: Method::Report, status: Some(413), range: Some(read), .. }, Said::End(b'$')]
                if *read == range),
            "{said:?}"
        );
    }
}
