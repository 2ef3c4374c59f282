//! 12.2.2.1: what of a large message is not taken, and what is left of it then: nothing.

use deferd_kit::{
    daemon::DaemonOptions,
    large::{Chunk, Large},
    scene::{BOB, Scene},
    sdp::{Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    c12_2_2_1_large::{alice, octets, push_brings},
    selection,
};

//= RFC 6135 4.2.1: an offer is active or actpass
#[test]
fn an_interactive_session_and_what_cannot_be_received_are_refused() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "max_message_size = \"1MiB\""));
    let alice = alice(&scene);
    let msrp = alice.msrp(Setup::Active);
    let good = Large::offer(&msrp).write();
    let invite = || Large::invite(&alice, BOB, &good);
    let sdp = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        Large::invite(&alice, BOB, text.replace(from, to).as_bytes())
    };
    let cpm = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session\"";
    let table: Vec<(SipMessage, u16, &str)> = vec![
        (invite().without("Accept-Contact"), 480, "399"),
        (invite().set("Accept-Contact", "*;+g.oma.sip-im"), 480, "399"),
        (invite().set("Accept-Contact", cpm), 480, "399"),
        (invite().without("P-Asserted-Identity"), 403, "399"),
        (Large::invite(&alice, "sip:bob@elsewhere.net", &good), 404, ""),
        (sdp("a=sendonly", "a=recvonly"), 488, "399"),
        (sdp("a=sendonly", "a=inactive"), 488, "399"),
        (sdp("m=message", "m=audio"), 488, "304"),
        (sdp("TCP/MSRP", "TCP/TLS/MSRP"), 488, "302"),
        (sdp("setup:active", "setup:passive"), 488, "399"),
        (sdp("a=sendonly", "a=sendonly\r\na=file-selector:name:\"x\" size:1048577"), 413, ""),
        (SipMessage { body: Vec::new(), ..invite().without("Content-Type") }, 488, "304"),
        (Large::invite(&alice, BOB, b"no sdp"), 400, ""),
        (invite().with_body("text/plain", "hello"), 415, ""),
        (invite().without("Contact"), 400, ""),
        (invite().with("Require", "teleport"), 420, ""),
        (invite().with("Session-Expires", "60"), 422, ""),
        (invite().with("Accept", "text/plain"), 406, ""),
    ];
    for (request, status, warning) in table {
        let response = alice.exchange(&request);
        assert_eq!(response.code(), status, "{request:?}\n{response:?}");
        assert!(response.header("Warning").unwrap_or_default().starts_with(warning), "{warning}: {response:?}");
        if status == 488 {
            let capable = Sdp::read(&response.body).unwrap();
            assert_eq!(capable.port_and_proto(), Some((0, "TCP/MSRP")));
            assert_eq!((capable.attribute("recvonly"), capable.attribute("max-size")), (Some(""), Some("1048576")));
        }
    }
    // Either tag will do.
    let cpm = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.largemsg\"";
    let large = Large::open_with(alice, BOB, |request| request.set("Accept-Contact", cpm));
    large.bye();
}

#[test]
fn what_does_not_fit_is_refused_in_the_middle_and_given_back() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy", "max_message_size = \"300KiB\"")
        .line("policy.quota", "octets = \"400KiB\"");
    let scene = Scene::with(options);
    let large = Large::open(alice(&scene), BOB);
    let body = octets(250_000, 4);
    // Longer than any may be: by what it says, and by what comes.
    let long = octets(310_000, 5);
    large.expect(&large.chunk(&Chunk { flag: '+', ..Chunk::of("toolong1", &long, 0, 5_000) }), 413);
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::whole("toolong2", &long) }), 413);
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::of("toolong2", &long, 305_000, 308_000) }), 413);
    large.deposit("thefirst", &body, 10_000);
    // Over the quota in the middle of it; then there is room for less.
    let tids = large.send("second01", &body, 50_000);
    large.expect(tids.last().unwrap(), 413);
    let small = octets(100_000, 6);
    large.deposit("third001", &small, 10_000);
    large.bye();
    let mut bob = scene.bob();
    push_brings(&mut bob, &[&body, &small]);
    // What was delivered counts no more.
    bob.publish_presence(false);
    let large = Large::open(alice(&scene), BOB);
    large.deposit("again001", &body, 10_000);
    large.bye();
    push_brings(&mut bob, &[&body]);
}

#[test]
fn a_full_store_says_so_before_anything_is_sent() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy.quota", "messages = 1"));
    let alice = alice(&scene);
    let msrp = alice.msrp(Setup::Active);
    let invite = || Large::invite(&alice, BOB, &Large::offer(&msrp).write());
    let text = scene.alice().message(BOB, "the only one");
    let response = alice.exchange(&invite());
    assert_eq!((response.code(), response.header("Retry-After")), (480, Some("600")));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[text]);
    assert_eq!(alice.exchange(&invite()).code(), 200);
}

//= RFC 4975 10.5: a chunk with a Message-ID that was refused is refused
//= RFC 4975 10.6: 415: the request contained a media type that is not understood
//= RFC 4975 7.3: a request whose To-Path maps to no session is answered 481, one of a session that is bound elsewhere 506
#[test]
fn strangers_second_connections_and_nonsense_get_their_codes() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let body = octets(3_000, 2);
    let second = alice(&scene).msrp(Setup::Active);
    second.dial(&large.path);
    second.write(&Chunk::whole("elsewher", &body).write("tidtidtid1", &large.path, large.msrp.path()));
    second.expect_status("bound elsewhere", 506);
    let nobody = large.path.replace(";tcp", "x;tcp");
    second.write(&Chunk::whole("nobodys1", &body).write("tidtidtid2", &nobody, large.msrp.path()));
    second.expect_status("no such session", 481);
    let untyped = Chunk { content_type: "nonsense", ..Chunk::whole("untyped1", &body) };
    large.expect(&large.chunk(&untyped), 415);
    large.msrp.write(
        format!(
            "MSRP tidtidtid3 AUTH\r\nTo-Path: {}\r\nFrom-Path: {}\r\n-------tidtidtid3$\r\n",
            large.path,
            large.msrp.path()
        )
        .as_bytes(),
    );
    large.expect("tidtidtid3", 501);
    // Two ends that differ.
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::of("twoends1", &body, 2_500, 3_000) }), 200);
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::of("twoends1", &body[..2_900], 2_500, 2_900) }), 400);
    // "Is composing" is taken, and says nothing an hour later.
    let composing =
        Chunk { content_type: "application/im-iscomposing+xml", ..Chunk::whole("composin", b"<isComposing/>") };
    large.expect(&large.chunk(&composing), 200);
    large.deposit("goodone1", &body, 3_000);
    // The same once more in the same session is the same.
    large.deposit("goodone1", &body, 3_000);
    large.bye();
    let again = alice(&scene).msrp(Setup::Active);
    again.dial(&large.path);
    again.write(&Chunk::whole("toolate1", &body).write("tidtidtid4", &large.path, large.msrp.path()));
    again.expect_status("over", 481);
    let mut bob = scene.bob();
    push_brings(&mut bob, &[&body]);
    scene.nothing_waits(&mut bob);
}

#[test]
fn what_is_given_up_cut_off_or_left_with_a_gap_leaves_nothing() {
    let scene = Scene::new(DEFERD);
    let body = octets(200_000, 3);
    let large = Large::open(alice(&scene), BOB);
    large.expect(&large.chunk(&Chunk::of("givenup1", &body, 0, 100_000)), 200);
    let chunk = Chunk { flag: '#', ..Chunk::of("givenup1", &body, 100_000, 120_000) };
    large.expect(&large.chunk(&chunk), 200);
    large.expect(&large.chunk(&Chunk::of("withagap", &body, 100_000, 200_000)), 200);
    large.bye();
    let cut = Large::open(alice(&scene), BOB);
    cut.expect(&cut.chunk(&Chunk::of("cutoff01", &body, 0, 100_000)), 200);
    cut.msrp.cut();
    cut.expect_bye();
    scene.nothing_waits(&mut scene.bob());
}

#[test]
fn a_sender_that_stops_or_never_comes_is_let_go() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "bind_timeout = \"1s\""));
    let large = Large::call(alice(&scene), BOB, |request| request);
    large.expect_bye();
    let options = large.client.exchange(&large.within("OPTIONS"));
    assert_eq!(options.code(), 481);
    let open = Large::open(alice(&scene), BOB);
    assert_eq!(open.client.exchange(&open.within("OPTIONS")).code(), 200);
    let refresh = open.within("UPDATE").with("Supported", "timer").with("Session-Expires", "1800;refresher=uac");
    let ok = open.client.exchange(&refresh.with("Contact", open.client.contact.clone()));
    assert_eq!((ok.code(), ok.header("Session-Expires")), (200, Some("1800;refresher=uac")));
    assert_eq!(open.client.exchange(&open.within("INFO")).code(), 405);
    open.deposit("stillgoe", b"it goes on", 100);
    open.bye();
    push_brings(&mut scene.bob(), &[b"it goes on"]);
}

/// What is inside CPIM counts as what stands alone does.
//= RFC 4975 10.6: 415: the request contained a media type that is not understood
#[test]
fn what_is_inside_cpim_is_held_to_what_is_accepted_and_what_says_nothing_later_is_not_kept() {
    let options =
        DaemonOptions::new(DEFERD).line("policy", "accepted_types = [\"text/*\", \"message/cpim\", \"application/*\"]");
    let scene = Scene::with(options);
    let large = Large::open(alice(&scene), BOB);
    let cpim =
        |id: &str, media: &str| selection::asking(id, "display", &"x".repeat(3_000)).replace("text/plain", media);
    for (id, media, status) in [
        ("apicture1", "image/png", 415),
        ("composing", "application/im-iscomposing+xml", 200),
        ("areport01", "message/imdn+xml", 200),
        ("sometext1", "text/html", 200),
    ] {
        let body = cpim(id, media);
        let chunk = Chunk { content_type: "message/cpim", ..Chunk::whole(id, body.as_bytes()) };
        large.expect(&large.chunk(&chunk), status);
    }
    large.expect(&large.chunk(&Chunk { content_type: "image/png", ..Chunk::whole("picture2", b"png") }), 415);
    large.bye();
    let mut bob = scene.bob();
    push_brings(&mut bob, &[cpim("sometext1", "text/html").as_bytes()]);
    scene.nothing_waits(&mut bob);
}
