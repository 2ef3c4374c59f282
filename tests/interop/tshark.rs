//! A whole push, captured on loopback. tshark judges SIP and SDP; the strict reader judges MSRP over the captured octets.

use deferd_kit::{
    capture::Capture,
    peer::Transport,
    scene::{BOB, Scene},
    sdp::Setup,
};

use super::DEFERD;

/// What stands in every push INVITE, as tshark names it.
const HEADERS: [&str; 11] = [
    "sip.r-uri",
    "sip.From",
    "sip.To",
    "sip.Call-ID",
    "sip.CSeq",
    "sip.Max-Forwards",
    "sip.Contact",
    "sip.User-Agent",
    "sip.Accept-Contact",
    "sip.Session-Expires",
    "sip.Content-Type",
];

//= 12.2.2.2-1a: Request-URI is the served IM User identity
//= 12.2.2.2-1b: Accept-Contact with +g.oma.sip-im
//= 12.2.2.2-1c: User-Agent with the IM release version
//= 12.2.2.2-1d: +g.oma.sip-im in Contact
//= 12.2.2.2-1e: automata in Contact
//= 12.2.2.2-1f: Session-Expires with refresher uac
//= 12.2.2.2-1g: SDP offer, sendonly
#[test]
fn others_find_nothing_wrong_with_a_push() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (scene, core) = Scene::behind_core(DEFERD, transport, true);
        let proxy_port = core.proxy().rsplit_once(':').unwrap().1.parse().unwrap();
        let (sip, msrp) = ([scene.sip().port(), proxy_port], [scene.msrp_port()]);
        let capture = Capture::start(&[&sip[..], &msrp[..]].concat());
        let alice = scene.alice();
        let large = "x".repeat(30_000);
        let mut deposits: Vec<_> =
            ["", "Watson, come here.", "-------", "gr\u{fc}\u{df}e"].map(|text| alice.message(BOB, text)).to_vec();
        deposits.push(scene.alice_tcp().message(BOB, &large));
        let mut bob = scene.bob();
        core.route(&bob);
        bob.publish_presence(true);
        let pushed = bob.take_push_as(Setup::Active, deposits.len());
        scene.same(&pushed, &deposits);
        let recording = capture.stop(&sip, &msrp);
        recording.assert_clean_sip();
        let invites = recording.fields("sip.Method == \"INVITE\" && !sip.resend-original", &HEADERS);
        assert_eq!(invites.len(), 1, "one INVITE: {invites:?}");
        for (name, value) in HEADERS.iter().zip(&invites[0]) {
            assert!(!value.is_empty(), "tshark sees no {name} in the INVITE");
        }
        assert_eq!(invites[0][0], BOB);
        let media =
            recording.fields("sip.Method == \"INVITE\"", &["sdp.media.media", "sdp.media.proto", "sdp.media_attr"]);
        assert_eq!(media[0][..2], ["message".to_string(), "TCP/MSRP".to_string()]);
        assert!(media[0][2].split(';').any(|attribute| attribute == "sendonly"), "{media:?}");
        let byes = recording.fields("sip.Method == \"BYE\"", &["sip.Call-ID"]);
        assert!(!byes.is_empty(), "a BYE ends the push");
        assert_eq!(recording.judge_msrp(&msrp), pushed);
    }
}
