//! The index against a plain map of lists.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bulk::Builder;
use super::*;

type Plain = BTreeMap<Vec<u8>, Vec<Version>>;

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (twice ^ (twice >> 31)) % bound
    }

    /// Keys that are short, that share long beginnings, that end in zeros, and now and then one that is long.
    fn key(&mut self, keys: u64) -> Vec<u8> {
        let number = self.below(keys);
        match number % 7 {
            0 => vec![b'a'; number as usize % 40],
            1 => [vec![b'a'; 3], vec![0; number as usize % 5]].concat(),
            2 => [vec![b'k'; 5_000], number.to_be_bytes().to_vec()].concat(),
            3 => (number as u16).to_be_bytes().to_vec(),
            _ => format!("/registry/pods/{number:05}").into_bytes(),
        }
    }
}

fn visible(versions: &[Version], revision: i64) -> Option<&Version> {
    let upto = versions.iter().rfind(|version| version.revision().main <= revision);
    upto.filter(|version| !version.is_deletion())
}

fn given_up(versions: &[Version], compacted: i64) -> usize {
    let upto = versions.iter().filter(|version| version.revision().main <= compacted).count();
    match versions[..upto].last() {
        None => 0,
        Some(version) if version.is_deletion() && version.revision().main < compacted => upto,
        Some(_) => upto - 1,
    }
}

fn push(index: &mut KeyIndex, plain: &mut Plain, key: &[u8], revision: Revision, deletes: bool) {
    let versions = plain.entry(key.to_vec()).or_default();
    let last = versions.last().copied();
    let version = if deletes && last.is_some_and(|last| !last.is_deletion()) {
        Version::deletion(revision)
    } else {
        Version::put(revision, revision.main, 1, 0, revision.sub as usize)
    };
    versions.push(version);
    let pushed = index.push(key, |found| {
        assert_eq!(found.copied(), last);
        version
    });
    assert_eq!(pushed, version);
}

/// Looks at everything there is, or at some of it if there is much.
fn assert_same(index: &KeyIndex, plain: &Plain, newest: i64, dice: &mut Dice) {
    assert_eq!(index.keys(), plain.len());
    assert_eq!(index.versions(), plain.values().map(Vec::len).sum::<usize>());
    assert_eq!(index.key_bytes, plain.keys().map(Vec::len).sum::<usize>());
    let everything = KeyRange::From { start: Bytes::new() };
    for revision in [dice.below(newest as u64 + 1) as i64, newest] {
        let expected = plain.iter().filter_map(|(key, versions)| Some((&key[..], visible(versions, revision)?)));
        assert!(index.range_at(&everything, revision).eq(expected), "at {revision}");
    }
}

fn assert_same_key(index: &KeyIndex, plain: &Plain, key: &[u8], newest: i64, dice: &mut Dice) {
    let revision = dice.below(newest as u64 + 1) as i64;
    let none = Vec::new();
    let versions = plain.get(key).unwrap_or(&none);
    assert_eq!(index.at(key, revision), visible(versions, revision));
    assert_eq!(index.newest(key), visible(versions, i64::MAX));
    let mut since = Vec::new();
    index.versions_since(key, revision, |version| {
        since.push(*version);
        ControlFlow::Continue(())
    });
    assert!(since.iter().eq(versions.iter().filter(|version| version.revision().main >= revision)));
    for version in versions {
        assert_eq!(index.exact(key, version.revision()), Some(version));
        let place = versions.iter().position(|other| other == version).unwrap();
        let survives = version.revision().main > revision || place == given_up(versions, revision);
        assert_eq!(index.survives(key, version.revision(), revision), survives);
    }
    let other = dice.key(400);
    let range = match dice.below(3) {
        0 => KeyRange::Single(key.to_vec().into()),
        1 => KeyRange::Span { start: key.to_vec().into(), end: other.into() },
        _ => KeyRange::From { start: key.to_vec().into() },
    };
    let within = plain.iter().filter(|(key, _)| !range.is_empty() && range.contains(key));
    let changed = within.clone().filter(|(_, versions)| versions.last().unwrap().revision().main >= revision);
    let changed: Vec<&[u8]> = changed.map(|(key, _)| &key[..]).collect();
    let keys = within.clone().count();
    assert_eq!(index.changed_since(&range, revision, keys), Some((changed, keys)), "{range:?} since {revision}");
    assert!(keys == 0 || index.changed_since(&range, revision, keys - 1).is_none());
    let expected = within.filter_map(|(key, versions)| Some((&key[..], visible(versions, revision)?)));
    assert!(index.range_at(&range, revision).eq(expected), "{range:?} at {revision}");
}

/// Compacts both, in steps, and says whether it came to the end.
fn compact(index: &mut KeyIndex, plain: &mut Plain, compacted: i64, dice: &mut Dice) {
    let mut dropped = Vec::new();
    let mut next = Some(Vec::new());
    let keys_max = 1 + dice.below(40) as usize;
    while let Some(from) = next {
        next = index.compact(&from, keys_max, compacted, |version| dropped.push(*version));
    }
    let mut expected = Vec::new();
    plain.retain(|_, versions| {
        expected.extend(versions.drain(..given_up(versions, compacted)));
        !versions.is_empty()
    });
    assert_eq!(dropped, expected);
}

/// The same index, built at once.
fn rebuilt(index: &KeyIndex) -> KeyIndex {
    let mut builder = Builder::default();
    let built: Result<(), Vec<u8>> = index.visit_all(&mut |key, versions| {
        let all_follow = versions.iter().all(|version| builder.push(key, *version));
        if all_follow { Ok(()) } else { Err(key.to_vec()) }
    });
    built.expect("the index is in order");
    builder.finish()
}

#[test]
fn does_what_a_map_of_lists_does_and_views_stay_as_they_were() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let keys = [4, 60, 3_000][seed as usize % 3];
        let (mut index, mut plain) = (KeyIndex::default(), Plain::new());
        let mut views: Vec<(KeyIndex, Plain, i64)> = Vec::new();
        let mut revision = Revision { main: 2, sub: 0 };
        for _ in 0..if cfg!(miri) { 200 } else { 6_000 } {
            revision = if dice.below(4) == 0 { revision.after() } else { Revision::first_of(revision.main + 1) };
            let key = dice.key(keys);
            push(&mut index, &mut plain, &key, revision, dice.below(3) == 0);
            let other = dice.key(keys);
            if dice.below(8) == 0 {
                assert_same_key(&index, &plain, &other, revision.main, &mut dice);
            }
            match dice.below(400) {
                0 => {
                    let compacted = dice.below(revision.main as u64 + 1) as i64;
                    compact(&mut index, &mut plain, compacted, &mut dice);
                    assert_same(&index, &plain, revision.main, &mut dice);
                }
                1..=4 => views.push((index.clone(), plain.clone(), revision.main)),
                5..=8 if !views.is_empty() => {
                    let (index, plain, newest) = views.swap_remove(dice.below(views.len() as u64) as usize);
                    assert_same(&index, &plain, newest, &mut dice);
                    assert_same_key(&index, &plain, &key, newest, &mut dice);
                }
                9..=10 => index = rebuilt(&index),
                _ => {}
            }
        }
        // Deletes all keys and gives all of it up.
        for key in plain.keys().cloned().collect::<Vec<_>>() {
            if !plain[&key].last().unwrap().is_deletion() {
                revision = Revision::first_of(revision.main + 1);
                push(&mut index, &mut plain, &key, revision, true);
            }
        }
        compact(&mut index, &mut plain, revision.main + 1, &mut dice);
        assert_eq!((index.keys(), index.versions(), plain.len()), (0, 0, 0));
        push(&mut index, &mut plain, b"again", revision, false);
        assert_same(&index, &plain, revision.main, &mut dice);
        for (index, plain, newest) in views {
            assert_same(&index, &plain, newest, &mut dice);
        }
    }
}

#[test]
fn keys_that_come_in_order_are_found_in_order() {
    let (mut index, mut plain) = (KeyIndex::default(), Plain::new());
    for number in 0..20_000_i64 {
        let revision = Revision::first_of(number + 2);
        push(&mut index, &mut plain, &number.to_be_bytes(), revision, false);
    }
    assert_same(&index, &plain, 20_001, &mut Dice(1));
}

/// Versions from a row of main revisions; negative ones are deletions.
fn index_of(row: &[i64]) -> KeyIndex {
    let mut index = KeyIndex::default();
    for &main in row {
        let revision = Revision::first_of(main.abs());
        index.push(b"k", |_| if main < 0 { Version::deletion(revision) } else { Version::put(revision, 2, 1, 0, 0) });
    }
    index
}

#[test]
fn the_newest_version_at_a_revision_is_seen() {
    let rows = [(1, None), (2, Some(2)), (3, Some(2)), (4, Some(4)), (5, None), (6, None), (7, Some(7)), (9, Some(7))];
    for (revision, expected) in rows {
        let seen = index_of(&[2, 4, -5, 7]).at(b"k", revision).map(|version| version.revision().main);
        assert_eq!(seen, expected, "at {revision}");
    }
}

#[test]
fn compaction_keeps_what_can_still_be_seen() {
    let rows: [(&[i64], i64, usize); 9] = [
        (&[2, 4, -5, 7], 1, 0),
        (&[2, 4, -5, 7], 2, 0),
        (&[2, 4, -5, 7], 3, 0),
        (&[2, 4, -5, 7], 4, 1),
        (&[2, 4, -5, 7], 5, 2),
        (&[2, 4, -5, 7], 6, 3),
        (&[2, 4, -5, 7], 8, 3),
        (&[2, -5], 5, 1),
        (&[2, -5], 6, 2),
    ];
    for (row, compacted, expected) in rows {
        let mut dropped = 0;
        index_of(row).compact(b"", 10, compacted, |_| dropped += 1);
        assert_eq!(dropped, expected, "{row:?} at {compacted}");
    }
}
