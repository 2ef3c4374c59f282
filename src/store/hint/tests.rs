//! A hint is read back as it was gathered, and never believed when it is not whole.

use super::*;
use crate::store::layout::RecordHead;
use crate::store::record::{Flags, Kind};
use proptest::prelude::*;

const LOG: CoreId = CoreId(2);
const SEGMENT: SegmentNo = SegmentNo(7);
const SALT: u32 = 99;

fn head(kind: Kind, place: Place, length: u32) -> RecordHead {
    RecordHead {
        kind,
        flags: Flags(1),
        owner_len: 0,
        length,
        stamp: Stamp(u64::from(place.offset) << 12),
        origin: place,
        expiry_s: 77,
        label_len: 0,
        parts: 0,
        fingerprint: u64::from(place.offset) * 3,
        random: [0; 10],
        envelope_len: 0,
    }
}

fn at(offset: u32) -> Place {
    Place { segment: SEGMENT, offset }
}

fn noted<'a>(owner: &'a [u8], envelope: &'a [u8], parts: &'a [u8], body: &'a [u8]) -> Noted<'a> {
    Noted { owner, label: b"key", envelope, parts, body }
}

/// One of everything.
fn sample() -> Builder {
    let mut builder = Builder::new(LOG, SEGMENT, SALT);
    let part = Locator::new(Place { segment: SegmentNo(3), offset: 600 }, Stamp(5), 0, 800, Flags::LARGE);
    let parts: Vec<u8> = part.words().iter().flat_map(|word| word.to_le_bytes()).collect();
    builder.note(&head(Kind::Message, at(520), 100), at(520), noted(b"sip:a@x", b"", b"", b""));
    builder.note(&head(Kind::Message, at(600), 200), at(600), noted(b"sip:b@x", b"", &parts, b""));
    let copy = RecordHead { origin: Place { segment: SegmentNo(1), offset: 512 }, ..head(Kind::Message, at(700), 96) };
    builder.note(&copy, at(700), noted(b"sip:a@x", b"", b"", b""));
    builder.note_group(4, Stamp(900 << 12), 8_192);
    let places: Vec<u8> = [at(9).to_u64(), at(10).to_u64()].iter().flat_map(|place| place.to_le_bytes()).collect();
    builder.note(&head(Kind::Retained, at(1_100), 80), at(1_100), noted(b"", &places, b"", b""));
    let mut owing = vec![4, 0, 0, 0, 1, 0, 1, 0];
    owing.extend_from_slice(&6u64.to_le_bytes());
    owing.extend_from_slice(&2u32.to_le_bytes());
    owing.extend_from_slice(b"okvv");
    owing.extend_from_within(..);
    builder.note(&head(Kind::Tombstones, at(1_200), 80), at(1_200), noted(b"", &places, b"", &owing));
    builder.note(&head(Kind::State, at(1_300), 90), at(1_300), noted(b"sip:a@x", b"", b"", b"value"));
    builder.note_group(5, Stamp(1), 12_288);
    builder
}

#[test]
fn a_hint_is_read_back_and_every_flipped_bit_is_noticed() {
    let octets = sample().finish();
    let hint = Hint::read(octets.clone(), LOG, SEGMENT, SALT).unwrap();
    assert_eq!(
        (hint.groups(), hint.used_to(), hint.highest(), hint.records()),
        (Some((4, 5)), 12_288, Stamp(900 << 12), 6)
    );
    assert_eq!(hint.owners().collect::<Vec<_>>(), [b"sip:a@x", b"sip:b@x"]);
    let messages: Vec<_> = hint.messages().map(|m| (m.owner, m.locator.place().offset, m.locator.octets())).collect();
    assert_eq!(messages, [(0, 520, 104), (1, 600, 200), (0, 700, 96)]);
    assert_eq!(hint.copies().collect::<Vec<_>>(), [(at(700), Place { segment: SegmentNo(1), offset: 512 })]);
    assert_eq!(hint.parts().map(|(n, part)| (n, part.octets())).collect::<Vec<_>>(), [(1, 800)]);
    assert_eq!(hint.dead().collect::<Vec<_>>(), [at(9), at(10)]);
    assert!(hint.retained().eq(hint.dead()));
    let states: Vec<_> =
        hint.states().map(|state| (state.kind, state.value.to_vec(), state.place, state.owed)).collect();
    // Behind 64 octets of head, the label and the two places.
    let (first, second) = (at(1_200 + 83 / 8), at(1_200 + (83 + 24) / 8));
    assert_eq!(states[0], (StateKind::Report, b"vv".to_vec(), first, true));
    assert_eq!(states[1], (StateKind::Report, b"vv".to_vec(), second, true));
    assert_eq!(states[2], (StateKind::Settings, b"value".to_vec(), at(1_300), false));
    for bit in 0..octets.len() * 8 {
        let mut rotten = octets.to_vec();
        rotten[bit / 8] ^= 1 << (bit % 8);
        assert!(Hint::read(rotten.into(), LOG, SEGMENT, SALT).is_err(), "bit {bit}");
    }
    for len in 0..octets.len() {
        assert!(Hint::read(octets.slice(..len), LOG, SEGMENT, SALT).is_err(), "{len}");
    }
    assert_eq!(Hint::read(octets.clone(), LOG, SegmentNo(8), SALT), Err(HintFault::NotTheOne));
    assert_eq!(Hint::read(octets, LOG, SEGMENT, SALT + 1), Err(HintFault::Checksum));
}

#[test]
fn a_builder_goes_on_where_a_hint_ended() {
    let hint = Hint::read(sample().finish(), LOG, SEGMENT, SALT).unwrap();
    let mut resumed = Builder::resume(&hint, SALT);
    assert_eq!(resumed, sample());
    resumed.note(&head(Kind::Message, at(1_600), 100), at(1_600), noted(b"sip:b@x", b"", b"", b""));
    resumed.note_group(6, Stamp(9), 16_384);
    let hint = Hint::read(resumed.finish(), LOG, SEGMENT, SALT).unwrap();
    assert_eq!((hint.owners().count(), hint.messages().last().map(|m| m.owner)), (2, Some(1)));
    assert_eq!(hint.groups(), Some((4, 6)));
}

proptest! {
    #[test]
    fn contents_that_contradict_each_other_are_refused_without_a_panic(
        rot in proptest::collection::vec((24usize..400, any::<u8>()), 1..8)
    ) {
        let mut octets = sample().finish().to_vec();
        for (at, with) in rot {
            if let Some(octet) = octets.get_mut(at) {
                *octet = with;
            }
        }
        let sum = sum(&octets, SEGMENT, SALT);
        octets[20..24].copy_from_slice(&sum.to_le_bytes());
        if let Ok(hint) = Hint::read(octets.into(), LOG, SEGMENT, SALT) {
            let owners = hint.owners().count();
            prop_assert!(hint.messages().all(|message| (message.owner as usize) < owners));
            hint.copies().for_each(drop);
            prop_assert_eq!(hint.parts().len() * 32 + hint.dead().len() * 8 <= hint.octets().len(), true);
            hint.states().for_each(drop);
        }
    }

    #[test]
    fn arbitrary_octets_are_no_hint(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Hint::read(octets.into(), LOG, SEGMENT, SALT).is_err());
    }
}
