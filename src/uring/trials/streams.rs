//! Connections and datagrams.

use super::*;

#[test]
fn a_thousand_connections_are_echoed() {
    crate::uring::host::raise_descriptors();
    let running = start(vec![echo()]);
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| client(running.sip[1])).collect();
    for round in 0..3u8 {
        for (number, stream) in clients.iter_mut().enumerate() {
            stream.write_all(&[round; 100]).and_then(|()| stream.write_all(&[number as u8])).unwrap();
        }
        for (number, stream) in clients.iter_mut().enumerate() {
            let mut back = [0; 101];
            stream.read_exact(&mut back).unwrap();
            assert_eq!((back[0], back[99], back[100]), (round, round, number as u8));
        }
    }
    for mut stream in clients {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
    running.stop();
}

#[test]
fn datagrams_come_in_bursts_and_go_back_to_their_sender() {
    let running = start(vec![echo()]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(running.sip[0]).unwrap();
    for size in [1, 1300, 65_000] {
        socket.send(&vec![7; size]).unwrap();
        let mut back = vec![0; 65_536];
        assert_eq!(socket.recv(&mut back).unwrap(), size);
        assert_eq!(back[size - 1], 7);
    }
    for number in 0..200u8 {
        socket.send(&[number; 50]).unwrap();
    }
    for number in 0..200u8 {
        let mut back = [0; 100];
        assert_eq!(socket.recv(&mut back).unwrap(), 50);
        assert_eq!(back[0], number);
    }
    running.stop();
}

/// 600 heads of 20 octets and 600 bodies by reference, twice over, are 2,400 pieces: three SENDMSG, each of them short at times,
/// for the client reads slowly.
#[test]
fn a_gather_of_many_pieces_arrives_whole_and_in_order() {
    let body = Bytes::from((0..4096u32).map(|n| n as u8).collect::<Vec<u8>>());
    let build = move || {
        let mut gather = Gather::new();
        let held = gather.hold(body.clone());
        for number in 0..1200u32 {
            gather.put(format!("head {number:015}").as_bytes());
            gather.refer(held, number as usize % 256, 3000);
        }
        gather
    };
    let expected = build().to_vec();
    assert_eq!(build().pieces(), 2400);
    let (done, sent) = mpsc::channel();
    let running = start(vec![script(move |_, input, effects| match input {
        Input::Accepted { conn, .. } => effects.push_back(Effect::Send { conn, gather: build() }),
        Input::Sent { conn, gather, outcome } => {
            done.send((gather.len(), outcome)).unwrap();
            effects.push_back(Effect::Close { conn, reset: false });
        }
        _ => {}
    })]);
    let mut stream = client(running.sip[1]);
    let mut back = Vec::new();
    let mut piece = vec![0; 10_000];
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => back.extend_from_slice(&piece[..count]),
        }
    }
    assert!(back == expected, "{} of {} octets", back.len(), expected.len());
    assert_eq!(sent.recv_timeout(PATIENCE).unwrap(), (expected.len(), Ok(())));
    running.stop();
}

/// What a mind heard of a connection, in order.
fn story(input: &Input) -> Option<String> {
    Some(match input {
        Input::Received { outcome, .. } => format!("received {outcome:?}"),
        Input::Sent { outcome, .. } => format!("sent {}", if outcome.is_ok() { "ok" } else { "broken" }),
        Input::Closed { .. } => "closed".into(),
        Input::Connected { .. } => "connected".into(),
        Input::ConnectFailed { error, .. } => format!("failed {error:?}"),
        _ => return None,
    })
}

fn tell(told: &Sender<String>, input: &Input) {
    if let Some(story) = story(input) {
        told.send(story).unwrap();
    }
}

/// Accepts, lends a buffer to read and more to send than the kernel takes, then closes over both.
fn closer(told: Sender<String>, reset: bool) -> Tiny {
    script(move |_, input, effects| {
        tell(&told, &input);
        if let Input::Accepted { conn, .. } = input {
            effects.push_back(Effect::Receive { conn, buffer: BytesMut::with_capacity(64) });
            let mut gather = Gather::new();
            gather.push(Bytes::from(vec![1; 64 << 20]));
            effects.push_back(Effect::Send { conn, gather });
        } else if let Input::Datagram { .. } = input {
            effects.push_back(Effect::Close { conn: ConnId(2), reset });
            effects.push_back(Effect::Close { conn: ConnId(2), reset });
        }
    })
}

fn close_while_busy(reset: bool) -> (Vec<String>, std::io::Result<usize>) {
    let (told, heard) = mpsc::channel();
    let running = start(vec![closer(told, reset)]);
    let mut stream = client(running.sip[1]);
    // The first octet is there: both operations are under way.
    stream.read_exact(&mut [0]).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"close", running.sip[0]).unwrap();
    let stories: Vec<String> = (0..3).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    let end = std::io::copy(&mut stream, &mut std::io::sink()).map(|count| count as usize);
    running.stop();
    assert!(heard.try_recv().is_err(), "closed comes once");
    (stories, end)
}

#[test]
fn closing_ends_what_is_under_way_and_says_so_last() {
    let (mut stories, end) = close_while_busy(false);
    assert_eq!(stories.pop().as_deref(), Some("closed"));
    stories.sort();
    assert_eq!(stories, ["received Ok(0)", "sent broken"]);
    // A FIN behind what the kernel had taken.
    assert!(end.is_ok_and(|count| count > 0));
}

#[test]
fn a_reset_throws_away_what_is_queued() {
    let (mut stories, end) = close_while_busy(true);
    assert_eq!(stories.pop().as_deref(), Some("closed"));
    stories.sort();
    assert!(stories[0].starts_with("received "), "{stories:?}");
    assert_eq!(stories[1], "sent broken");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_can_be_opened_from_a_bound_port_and_a_refusal_is_final() {
    let (told, heard) = mpsc::channel();
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap();
    let nobody = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    let mut from = None;
    let mut mind = script(move |_, input, effects| {
        tell(&told, &input);
        match input {
            Input::Datagram { octets, .. } => {
                let bind = Some(std::str::from_utf8(&octets).unwrap().parse().unwrap());
                from = bind;
                effects.push_back(Effect::Connect { conn: ConnId(1), to, bind });
            }
            Input::Connected { conn, local } => {
                assert_eq!((conn, Some(local)), (ConnId(1), from));
                let mut gather = Gather::new();
                gather.put(b"hello");
                effects.push_back(Effect::Send { conn, gather });
            }
            Input::Sent { conn, .. } => effects.push_back(Effect::Close { conn, reset: false }),
            Input::Closed { conn } => {
                // What is lent for a connection that is gone comes back.
                effects.push_back(Effect::Receive { conn, buffer: BytesMut::with_capacity(9) });
            }
            Input::Received { buffer, .. } => {
                assert_eq!(buffer.capacity(), 9);
                effects.push_back(Effect::Connect { conn: ConnId(3), to: nobody, bind: None });
            }
            _ => {}
        }
    });
    mind.effects.clear();
    let running = start(vec![mind]);
    // The SIP listener's own port, as MSRP does with its own (`manual::peers`).
    let bind = running.sip[1].to_string();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(bind.as_bytes(), running.sip[0]).unwrap();
    let (mut stream, seen) = peer.accept().unwrap();
    assert_eq!(seen, running.sip[1]);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let stories: Vec<String> = (0..5).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(stories, ["connected", "sent ok", "closed", "received Err(NotConnected)", "failed ConnectionRefused"]);
    running.stop();
}

/// Nobody accepts there and the kernel's queue is full: SYNs are dropped, and a connection neither comes nor fails.
fn full_listener() -> (socket2::Socket, Vec<TcpStream>) {
    let listener = crate::uring::socket::stream("127.0.0.1:0".parse().unwrap()).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let to = listener.local_addr().unwrap().as_socket().unwrap();
    let mut inside = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
        inside.push(stream);
        assert!(inside.len() < 16, "a queue of no length is full soon");
    }
    (listener, inside)
}

#[test]
fn closing_a_connection_that_is_opening_ends_it() {
    let (told, heard) = mpsc::channel();
    let (listener, _inside) = full_listener();
    let to = listener.local_addr().unwrap().as_socket().unwrap();
    let running = start(vec![script(move |_, input, effects| {
        tell(&told, &input);
        match input {
            Input::Datagram { octets, .. } if &octets[..] == b"connect" => {
                effects.push_back(Effect::Connect { conn: ConnId(1), to, bind: None });
            }
            Input::Datagram { .. } => effects.push_back(Effect::Close { conn: ConnId(1), reset: false }),
            _ => {}
        }
    })]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"connect", running.sip[0]).unwrap();
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err(), "nobody answers");
    let closed = Instant::now();
    socket.send_to(b"close", running.sip[0]).unwrap();
    let story = heard.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(story.starts_with("failed "), "{story}");
    assert!(closed.elapsed() < Duration::from_secs(4));
    running.stop();
    assert!(heard.try_recv().is_err(), "the failure comes once");
}

#[test]
fn who_does_not_answer_a_syn_is_given_up_after_ten_seconds() {
    let (told, heard) = mpsc::channel();
    let (listener, _inside) = full_listener();
    let to = listener.local_addr().unwrap().as_socket().unwrap();
    let running = start(vec![script(move |_, input, effects| {
        tell(&told, &input);
        if let Input::Datagram { .. } = input {
            effects.push_back(Effect::Connect { conn: ConnId(1), to, bind: None });
        }
    })]);
    let began = Instant::now();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"connect", running.sip[0]).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "failed TimedOut");
    assert!((Duration::from_secs(9)..Duration::from_secs(13)).contains(&began.elapsed()), "{:?}", began.elapsed());
    running.stop();
}
