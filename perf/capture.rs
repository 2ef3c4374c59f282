//! Real octets of the daemon, taken before a measurement, as templates for the limits: what they send is what it sends.
//!
//! A request goes out with numbers that occur nowhere else; where they come back is where a template has its places.

use crate::deposit::said;
use crate::outcome::Failure;
use crate::sip::{self, INDEX, SEQ, Template, USER};
use memchr::memmem;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The user of a captured exchange, and its other numbers.
pub const MARKED: [u32; 3] = [0xdead_0001, 0xbeef_0002, 0xfeed_0003];

/// Captured octets with places where the marked numbers stood.
pub fn template(mut octets: Vec<u8>) -> Template {
    for (number, mark) in MARKED.iter().zip([USER, SEQ, INDEX]) {
        replace(&mut octets, &sip::hex(*number), mark.as_bytes());
    }
    Template::new(octets)
}

/// Puts `new` where `old` of the same length stands, everywhere.
pub fn replace(octets: &mut [u8], old: &[u8], new: &[u8]) {
    let places: Vec<usize> = memmem::find_iter(octets, old).collect();
    for place in places {
        octets[place..place + old.len()].copy_from_slice(&new[..old.len()]);
    }
}

/// The daemon's final answer to a request of this template, over TCP.
pub fn answer(to: SocketAddr, request: &Template) -> Result<Vec<u8>, Failure> {
    let fail = |error: std::io::Error| Failure(format!("SIP to {to}: {error}; is the daemon up?"));
    let mut stream = TcpStream::connect(to).map_err(fail)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(fail)?;
    let mut octets = Vec::new();
    request.write(&mut octets, MARKED[0], MARKED[1], MARKED[2]);
    stream.write_all(&octets).map_err(fail)?;
    let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match sip::cut(&got) {
            Ok(Some(cut)) if sip::status(&got) < 200 => drop(got.drain(..cut.len)),
            Ok(Some(cut)) => {
                got.truncate(cut.len);
                return Ok(got);
            }
            Ok(None) => {
                let read = stream.read(&mut chunk).map_err(fail)?;
                if read == 0 {
                    return Err(Failure("the daemon closed a SIP connection; its log says why".into()));
                }
                got.extend_from_slice(&chunk[..read]);
            }
            Err(_) => return Err(Failure(format!("no SIP: {}", said(&got)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_numbers_become_places() {
        let template = template(b"a dead0001 b beef0002 c feed0003 dead0001".to_vec());
        let mut out = Vec::new();
        template.write(&mut out, 1, 2, 3);
        assert_eq!(out, b"a 00000001 b 00000002 c 00000003 00000001");
    }
}
