//! Loopback traffic as others see it: dumpcap records, tshark judges. A machine that does not permit capturing fails the
//! test and says so; nothing is skipped.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    WAIT,
    msrp::{self, Frame, Judge, MsrpMessage},
    unique,
};

/// A running capture of some ports of the loopback interface.
pub struct Capture {
    child: Option<Child>,
    file: PathBuf,
    marker: u16,
    socket: UdpSocket,
}

/// A finished capture.
pub struct Recording {
    file: PathBuf,
    sip: Vec<u16>,
    msrp: Vec<u16>,
}

/// Segments by relative sequence number: octets and place in the capture.
type Segments = BTreeMap<u64, (Vec<u8>, u64)>;

/// One direction of one TCP connection.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    /// All octets in order.
    pub octets: Vec<u8>,
    /// For each segment: the offset behind its last octet, and its place in the capture.
    segments: Vec<(usize, u64)>,
}

impl Direction {
    /// The place in the capture of the segment that completed the octet before `end`.
    fn frame_of(&self, end: usize) -> u64 {
        self.segments.iter().find(|(offset, _)| *offset >= end).map_or(u64::MAX, |(_, frame)| *frame)
    }
}

fn must(what: &str, error: impl std::fmt::Display) -> ! {
    panic!(
        "{what}: {error}. This test needs dumpcap and tshark (apt-get install tshark) and the right to capture on lo (root, or membership of group wireshark)"
    )
}

impl Capture {
    /// Begins to record these ports, TCP and UDP, and returns when recording works.
    #[track_caller]
    pub fn start(ports: &[u16]) -> Capture {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free UDP port");
        let marker = socket.local_addr().expect("a bound socket has an address").port();
        let filter: Vec<String> = ports.iter().chain([&marker]).map(|port| format!("port {port}")).collect();
        let file = std::env::temp_dir().join(format!("deferd-kit-{}.pcap", unique()));
        let child = Command::new("dumpcap")
            .args(["-i", "lo", "-q", "-P", "-f", &filter.join(" or "), "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| must("dumpcap does not start", error));
        let mut capture = Capture { child: Some(child), file, marker, socket };
        capture.mark("begin");
        capture
    }

    /// Sends a datagram to itself until the capture holds it: everything before is recorded by then.
    #[track_caller]
    fn mark(&mut self, what: &str) {
        let mark = format!("deferd-kit {what} {}", unique());
        let deadline = Instant::now() + WAIT;
        loop {
            self.socket.send_to(mark.as_bytes(), (Ipv4Addr::LOCALHOST, self.marker)).ok();
            thread::park_timeout(Duration::from_millis(50));
            if fs::read(&self.file).is_ok_and(|octets| crate::sip::find(&octets, mark.as_bytes()).is_some()) {
                return;
            }
            if self.child.as_mut().is_some_and(|child| child.try_wait().ok().flatten().is_some()) {
                let said =
                    self.child.take().and_then(|child| child.wait_with_output().ok()).map(|output| output.stderr);
                must("dumpcap ended", String::from_utf8_lossy(&said.unwrap_or_default()).trim());
            }
            if Instant::now() > deadline {
                must("dumpcap", format!("recorded nothing within {WAIT:?}"));
            }
        }
    }

    /// Ends the capture; `sip` and `msrp` are the ports on which each is spoken.
    #[track_caller]
    pub fn stop(mut self, sip: &[u16], msrp: &[u16]) -> Recording {
        self.mark("end");
        self.end();
        Recording { file: std::mem::take(&mut self.file), sip: sip.into(), msrp: msrp.into() }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
        if !self.file.as_os_str().is_empty() {
            fs::remove_file(&self.file).ok();
        }
    }
}

impl Recording {
    /// Runs tshark over the recording and returns its lines.
    #[track_caller]
    pub fn tshark(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args(["-n", "-o", "tcp.desegment_tcp_streams:TRUE"]);
        for port in &self.sip {
            command.args(["-d", &format!("udp.port=={port},sip"), "-d", &format!("tcp.port=={port},sip")]);
        }
        for port in &self.msrp {
            command.args(["-d", &format!("tcp.port=={port},msrp")]);
        }
        let output = command.args(arguments).output().unwrap_or_else(|error| must("tshark does not start", error));
        if !output.status.success() {
            must("tshark failed", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect()
    }

    /// Insists that tshark finds nothing wrong with SIP and SDP: no malformed packet, no expert remark of warning or error.
    /// MSRP is left to [`crate::msrp`]: tshark forgives wrong ranges and calls a right message/msrp part malformed.
    #[track_caller]
    pub fn assert_clean_sip(&self) {
        let filter = "(sip || sdp) && !msrp && (_ws.malformed || _ws.expert.severity >= 0x600000)";
        let bad = self.tshark(&["-Y", filter, "-V"]);
        assert!(bad.is_empty(), "tshark objects:\n{}", bad.join("\n"));
    }

    /// The values of fields for each packet that the filter likes.
    #[track_caller]
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let mut arguments = vec!["-Y", filter, "-T", "fields", "-E", "separator=/t", "-E", "aggregator=;"];
        for field in fields {
            arguments.extend(["-e", field]);
        }
        let lines = self.tshark(&arguments);
        lines.iter().map(|line| line.split('\t').map(str::to_string).collect()).collect()
    }

    /// Every TCP connection over one of these ports: both directions, by connection number and source port.
    #[track_caller]
    pub fn streams(&self, ports: &[u16]) -> BTreeMap<(u32, u16), Direction> {
        let filter: Vec<String> = ports.iter().map(|port| format!("tcp.port=={port}")).collect();
        let filter = format!("({}) && tcp.len > 0", filter.join(" || "));
        let mut segments: BTreeMap<(u32, u16), Segments> = BTreeMap::new();
        for row in self.fields(&filter, &["tcp.stream", "tcp.srcport", "tcp.seq", "frame.number", "tcp.payload"]) {
            let number = |at: usize| row.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            let octets = unhex(row.get(4).map_or("", String::as_str));
            let direction = segments.entry((number(0) as u32, number(1) as u16)).or_default();
            direction.entry(number(2)).or_insert((octets, number(3)));
        }
        let glued = segments.into_iter().map(|(key, segments)| {
            let mut direction = Direction::default();
            for (seq, (octets, frame)) in segments {
                // The first octet has relative sequence number 1; what was sent again is passed over.
                let known = (direction.octets.len() as u64 + 1).saturating_sub(seq) as usize;
                direction.octets.extend_from_slice(octets.get(known..).unwrap_or_default());
                direction.segments.push((direction.octets.len(), frame));
            }
            (key, direction)
        });
        glued.collect()
    }

    /// Judges every octet of MSRP on these ports by the strict reader, both directions in the order of the capture, and
    /// returns all messages.
    #[track_caller]
    pub fn judge_msrp(&self, ports: &[u16]) -> Vec<MsrpMessage> {
        let streams = self.streams(ports);
        assert!(!streams.is_empty(), "the capture holds no MSRP on {ports:?}");
        let mut messages = Vec::new();
        let connections: std::collections::BTreeSet<u32> = streams.keys().map(|(connection, _)| *connection).collect();
        for connection in connections {
            let mut heard: Vec<(u64, u16, Frame)> = Vec::new();
            for ((_, source), direction) in streams.range((connection, 0)..=(connection, u16::MAX)) {
                let frames = msrp::read_all(&direction.octets)
                    .unwrap_or_else(|violation| panic!("connection {connection}, from port {source}: {violation}"));
                heard
                    .extend(frames.into_iter().map(|frame| (direction.frame_of(frame.at + frame.len), *source, frame)));
            }
            heard.sort_by_key(|(place, ..)| *place);
            let mut judges: BTreeMap<u16, Judge> = BTreeMap::new();
            for (_, source, frame) in &heard {
                if frame.status() > 0 {
                    judges
                        .iter_mut()
                        .filter(|(port, _)| *port != source)
                        .for_each(|(_, judge)| judge.answered(&frame.tid, frame.status()));
                    continue;
                }
                match judges.entry(*source).or_default().hear(frame) {
                    Ok(message) => messages.extend(message),
                    Err(violation) => panic!("connection {connection}, from port {source}: {violation}"),
                }
            }
        }
        messages
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the capture is kept in {}", self.file.display());
        } else {
            fs::remove_file(&self.file).ok();
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
