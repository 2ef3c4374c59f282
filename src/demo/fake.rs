//! Test only: a daemon of a hundred lines that can also lie, so that the demo is known to notice.

#![cfg(test)]

use super::agents::{Frame, Sip};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// What it does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trick {
    None,
    FlipAnOctet,
    LoseTheLast,
    SwapTwo,
    Refuse,
    HangUp,
}

type Stored = Arc<Mutex<Vec<Vec<u8>>>>;

/// Starts it; its threads end with the process.
pub(super) fn start(trick: Trick) -> SocketAddr {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            break (tcp, udp);
        }
    };
    let addr = tcp.local_addr().unwrap();
    let stored = Stored::default();
    let datagrams = stored.clone();
    thread::spawn(move || {
        let mut octets = vec![0; 65_536];
        while let Ok((len, peer)) = udp.recv_from(&mut octets) {
            udp.send_to(&deposit(&octets[..len], &datagrams, trick), peer).unwrap();
        }
    });
    thread::spawn(move || {
        while let Ok((line, _)) = tcp.accept() {
            let stored = stored.clone();
            thread::spawn(move || serve(line, &stored, trick));
        }
    });
    addr
}

fn deposit(octets: &[u8], stored: &Stored, trick: Trick) -> Vec<u8> {
    let (sip, _) = Sip::cut(octets).unwrap();
    if trick == Trick::Refuse {
        return sip.answer("480 Temporarily Unavailable", "f", "", "");
    }
    stored.lock().unwrap().push(octets.to_vec());
    sip.answer("202 Accepted", "f", "", "")
}

fn serve(mut line: TcpStream, stored: &Stored, trick: Trick) {
    line.set_nodelay(true).unwrap();
    let mut ahead = Vec::new();
    while let Some((sip, octets)) = next_sip(&mut line, &mut ahead) {
        match sip.method() {
            "MESSAGE" => line.write_all(&deposit(&octets, stored, trick)).unwrap(),
            "PUBLISH" => {
                line.write_all(&sip.answer("200 OK", "f", "SIP-ETag: 1\r\nExpires: 3600\r\n", "")).unwrap();
                push(&mut line, &mut ahead, stored, trick);
            }
            _ => {}
        }
    }
}

fn push(line: &mut TcpStream, ahead: &mut Vec<u8>, stored: &Stored, trick: Trick) {
    let msrp = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = format!("msrp://{}/fake;tcp", msrp.local_addr().unwrap());
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\na=sendonly\r\n\
         a=accept-types:multipart/mixed\r\na=path:{ours}\r\n"
    );
    let dialog = "Via: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:Deferred@im.example.org>;tag=1\r\n\
                  To: <sip:bob@example.org>\r\nCall-ID: 1\r\n";
    let invite = format!(
        "INVITE sip:bob@example.org SIP/2.0\r\n{dialog}CSeq: 1 INVITE\r\nContact: <sip:f@127.0.0.1>;automata\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    line.write_all(invite.as_bytes()).unwrap();
    let (answer, _) = next_sip(line, ahead).unwrap();
    let answer = String::from_utf8(answer.body).unwrap();
    let theirs = answer.lines().find_map(|line| line.strip_prefix("a=path:")).unwrap().to_owned();
    line.write_all(format!("ACK sip:bob SIP/2.0\r\n{dialog}CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n").as_bytes())
        .unwrap();
    let (mut session, _) = msrp.accept().unwrap();
    let mut frames = Vec::new();
    let hello = next_frame(&mut session, &mut frames);
    session.write_all(&hello.ok()).unwrap();

    let mut messages = stored.lock().unwrap().clone();
    match trick {
        Trick::FlipAnOctet => *messages[2].last_mut().unwrap() ^= 1,
        Trick::LoseTheLast => _ = messages.pop(),
        Trick::SwapTwo => messages.swap(0, 1),
        _ => {}
    }
    for (number, message) in messages.iter().enumerate() {
        let message = with_date(message);
        let body = [b"--b0unda\r\nContent-Type: message/sip\r\n\r\n", &message[..], b"\r\n--b0unda--"].concat();
        let chunks: Vec<&[u8]> = body.chunks(8192).collect();
        let mut start = 1;
        for (at, chunk) in chunks.iter().enumerate() {
            let (tid, flag) = (format!("f{number:03}{at:04}"), if at + 1 == chunks.len() { '$' } else { '+' });
            let head = format!(
                "MSRP {tid} SEND\r\nTo-Path: {theirs}\r\nFrom-Path: {ours}\r\nMessage-ID: m{number:03}\r\n\
                 Byte-Range: {start}-*/{}\r\nContent-Type: multipart/mixed;boundary=b0unda\r\n\r\n",
                body.len()
            );
            let frame = [head.as_bytes(), chunk, format!("\r\n-------{tid}{flag}\r\n").as_bytes()].concat();
            session.write_all(&frame).unwrap();
            assert_eq!(next_frame(&mut session, &mut frames).what, "200 OK");
            start += chunk.len();
            if trick == Trick::HangUp {
                return;
            }
        }
    }
    line.write_all(format!("BYE sip:bob SIP/2.0\r\n{dialog}CSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n").as_bytes())
        .unwrap();
    let _ = next_sip(line, ahead);
}

/// Adds the Date that a request lacks, as the daemon must.
fn with_date(request: &[u8]) -> Vec<u8> {
    let head = memchr::memmem::find(request, b"\r\n\r\n").unwrap();
    if memchr::memmem::find(&request[..head], b"\r\nDate:").is_some() {
        return request.to_vec();
    }
    [&request[..head], b"\r\nDate: Thu, 21 Feb 2002 13:02:03 GMT", &request[head..]].concat()
}

fn next_sip(line: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<(Sip, Vec<u8>)> {
    loop {
        if let Some((sip, len)) = Sip::cut(ahead) {
            return Some((sip, ahead.drain(..len).collect()));
        }
        more(line, ahead)?;
    }
}

fn next_frame(session: &mut TcpStream, ahead: &mut Vec<u8>) -> Frame {
    loop {
        if let Some((frame, len)) = Frame::cut(ahead).unwrap() {
            ahead.drain(..len);
            return frame;
        }
        more(session, ahead).unwrap();
    }
}

fn more(socket: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<()> {
    let mut octets = [0; 4096];
    match socket.read(&mut octets) {
        Ok(len) if len > 0 => {
            ahead.extend_from_slice(&octets[..len]);
            Some(())
        }
        _ => None,
    }
}
