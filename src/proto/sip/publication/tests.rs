//! The life of publications, and of their octets in the log.

use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { min_s: 60, default_s: 3600, max_s: 86_400 };

fn s(seconds: u64) -> Wall {
    Wall(seconds * 1_000_000)
}

fn dice() -> Dice {
    Dice::from_seed([3; 32])
}

fn first(value: u8, expires: Option<u32>) -> PublishRequest<'static> {
    PublishRequest { event: 0, if_match: &[], expires, value: Some(value) }
}

#[test]
fn a_publication_lives_through_create_refresh_modify_and_remove() {
    let (mut all, mut dice) = (Publications::new(), dice());
    let created = all.publish(s(10), &first(1, None), BOUNDS, &mut dice).unwrap();
    assert!(matches!(created, Change::Created { expires_s: 3600, .. }));
    assert_eq!(all.deadline(), Some(s(3_610)));
    let tag = created.tag();
    let refresh = PublishRequest { event: 0, if_match: &[&tag], expires: Some(60), value: None };
    let refreshed = all.publish(s(20), &refresh, BOUNDS, &mut dice).unwrap();
    assert!(matches!(refreshed, Change::Refreshed { expires_s: 60, replaces, .. } if replaces == tag));
    assert_ne!(refreshed.tag(), tag);
    assert_eq!(all.effective(0, s(20)).map(|p| (p.value, p.modified)), Some((1, s(10))));
    let tag = refreshed.tag();
    let modify = PublishRequest { event: 0, if_match: &[&tag], expires: None, value: Some(2) };
    let modified = all.publish(s(30), &modify, BOUNDS, &mut dice).unwrap();
    assert!(matches!(modified, Change::Modified { .. }));
    assert_eq!(all.effective(0, s(30)).map(|p| (p.value, p.modified)), Some((2, s(30))));
    let tag = modified.tag();
    let remove = PublishRequest { event: 0, if_match: &[&tag], expires: Some(0), value: None };
    let removed = all.publish(s(40), &remove, BOUNDS, &mut dice).unwrap();
    assert!(matches!(removed, Change::Removed { expires_s: 0, .. }));
    assert_ne!(removed.tag(), tag, "even the last 200 carries a fresh tag");
    assert!(all.is_empty());
}

#[test]
fn a_used_entity_tag_matches_no_more() {
    let (mut all, mut dice) = (Publications::new(), dice());
    let tag = all.publish(s(1), &first(1, None), BOUNDS, &mut dice).unwrap().tag();
    let refresh = PublishRequest { event: 0, if_match: &[&tag], expires: None, value: None };
    assert!(all.publish(s(2), &refresh, BOUNDS, &mut dice).is_ok());
    assert_eq!(all.publish(s(3), &refresh, BOUNDS, &mut dice), Err(Refusal::ConditionFailed));
}

#[test]
fn refusals_come_in_the_order_of_rfc_3903() {
    let (mut all, mut dice) = (Publications::new(), dice());
    let tag = all.publish(s(1), &first(1, Some(100)), BOUNDS, &mut dice).unwrap().tag();
    let ask = |event, if_match: &[&[u8]], expires, value, now| {
        let request = PublishRequest { event, if_match, expires, value };
        all.decide(now, &request, BOUNDS, &mut Dice::from_seed([9; 32])).map_err(Refusal::status)
    };
    assert_eq!(ask(0, &[&tag, b"other"], Some(1), Some(1), s(2)), Err(400), "several tags");
    assert_eq!(ask(0, &[b"other"], Some(1), Some(1), s(2)), Err(412));
    assert_eq!(ask(1, &[&tag], None, Some(1), s(2)), Err(412), "another event");
    assert_eq!(ask(0, &[&tag], None, Some(1), s(101)), Err(412), "expired, though nobody has swept");
    assert_eq!(ask(0, &[&tag], Some(59), None, s(2)), Err(423));
    assert_eq!(ask(0, &[], Some(59), None, s(2)), Err(423), "the interval is looked at before the body");
    assert_eq!(ask(0, &[], None, None, s(2)), Err(400));
    let shortened = ask(0, &[], Some(u32::MAX), Some(1), s(2)).map(|change| change.expires_s());
    assert_eq!(shortened, Ok(86_400));
}

#[test]
fn a_first_publication_that_expires_at_once_leaves_nothing() {
    let (mut all, mut dice) = (Publications::new(), dice());
    let change = all.publish(s(1), &first(1, Some(0)), BOUNDS, &mut dice).unwrap();
    assert!(matches!(change, Change::Removed { replaces: None, .. }));
    assert!(all.is_empty());
}

#[test]
fn the_seventeenth_publication_of_an_event_drops_the_oldest() {
    let (mut all, mut dice) = (Publications::new(), dice());
    let other = PublishRequest { event: 1, if_match: &[], expires: None, value: Some(99) };
    all.publish(s(0), &other, BOUNDS, &mut dice).unwrap();
    for value in 0..17 {
        all.publish(s(u64::from(value) + 1), &first(value, None), BOUNDS, &mut dice).unwrap();
    }
    let values: Vec<u8> = all.iter().filter(|p| p.event == 0).map(|p| p.value).collect();
    assert_eq!(values, (1..17).collect::<Vec<u8>>());
    assert_eq!(all.iter().filter(|p| p.event == 1).count(), 1);
}

#[test]
fn what_is_decided_is_not_done_before_it_is_applied_and_done_once() {
    let mut all = Publications::new();
    let change = all.decide(s(1), &first(1, None), BOUNDS, &mut dice()).unwrap();
    assert!(all.is_empty());
    all.apply(&change);
    let once = all.clone();
    all.apply(&change);
    assert_eq!(all, once);
}

#[test]
fn expired_publications_are_handed_back() {
    let (mut all, mut dice) = (Publications::new(), dice());
    all.publish(s(0), &first(1, Some(60)), BOUNDS, &mut dice).unwrap();
    all.publish(s(0), &first(2, Some(120)), BOUNDS, &mut dice).unwrap();
    assert_eq!(all.expire(s(59)), []);
    assert_eq!(all.expire(s(60)).iter().map(|p| p.value).collect::<Vec<_>>(), [1]);
    assert_eq!(all.deadline(), Some(s(120)));
}

#[test]
fn damaged_octets_are_told_from_whole_ones() {
    let (mut all, mut octets) = (Publications::new(), Vec::new());
    all.publish(s(0), &first(7, None), BOUNDS, &mut dice()).unwrap();
    all.encode(&mut octets);
    assert_eq!(Publications::decode(&octets), Ok(all));
    assert_eq!(Publications::decode(b""), Err(Damaged::Length));
    assert_eq!(Publications::decode(b"\x02"), Err(Damaged::Version(2)));
    assert_eq!(Publications::decode(&octets[..20]), Err(Damaged::Length));
    octets[5] = b'!';
    assert_eq!(Publications::decode(&octets), Err(Damaged::Tag));
}

proptest! {
    #[test]
    fn any_history_stays_bounded_and_survives_the_log(
        steps in proptest::collection::vec((0u8..3, any::<bool>(), 0u32..200, any::<Option<u8>>(), 0u64..100), 0..120)
    ) {
        let (mut all, mut dice, mut now) = (Publications::new(), dice(), 0);
        let mut tags: Vec<Tag> = Vec::new();
        for (event, with_tag, expires, value, pass) in steps {
            now += pass;
            let tag = tags.last().copied().filter(|_| with_tag);
            let if_match: Vec<&[u8]> = tag.iter().map(|tag| &**tag).collect();
            let request = PublishRequest { event, if_match: &if_match, expires: Some(expires), value };
            if let Ok(change) = all.publish(s(now), &request, BOUNDS, &mut dice) {
                prop_assert!(!tags.contains(&change.tag()));
                tags.push(change.tag());
            }
            let mut octets = Vec::new();
            all.encode(&mut octets);
            prop_assert_eq!(Publications::decode(&octets), Ok(all.clone()));
            for event in 0..3 {
                prop_assert!(all.iter().filter(|p| p.event == event).count() <= PER_EVENT_MAX);
            }
        }
        all.expire(s(now + 200));
        prop_assert!(all.is_empty());
    }

    #[test]
    fn decoding_anything_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Publications::decode(&octets);
    }
}
