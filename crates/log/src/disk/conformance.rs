//! What every disk must do, as a test to run on one of your own.
//!
//! [`check`] tries what can be seen while the disk stands, [`check_durability`] what is left when it loses power.
//!
//! ```
//! use vlot_log::disk::{conformance, memory::MemoryDisk};
//!
//! let dir = |disk: &MemoryDisk| disk.open("log").expect("nothing has it");
//! conformance::check(|| dir(&MemoryDisk::new()));
//! let disk = MemoryDisk::new();
//! let lose_power = |_| {
//!     disk.lose_power();
//!     dir(&disk)
//! };
//! conformance::check_durability(dir(&disk), lose_power);
//! ```

use std::collections::BTreeSet;
use std::io::ErrorKind;

use crate::aligned::AlignedBytes;
use crate::disk::Disk;
use crate::disk::sim::Rng;

/// Longer than a sector, a page and a block of most systems together.
const LONG: usize = 40_000;
/// Far enough from what was written for no disk to write it again with it.
const APART: u64 = 1 << 18;

/// Tries everything that a log and the files of snapshots rely on while a disk stands. `new` makes a directory with nothing
/// of anyone's in it; it is called once for each of about a dozen tries.
///
/// # Panics
/// If the disk fails in something; the message says in what.
pub fn check<D: Disk + Clone>(mut new: impl FnMut() -> D) {
    names_are_listed_as_they_are_given_and_taken(new());
    what_has_no_name_is_not_found(new());
    a_file_is_created_empty(new());
    bytes_are_read_as_they_were_written(new());
    sectors_are_bytes_like_others(new());
    nothing_is_read_beyond_the_end(new());
    what_was_never_written_is_zero(new());
    reserved_space_keeps_what_is_there(new());
    a_renamed_file_is_the_same_under_its_new_name(new());
    a_removed_file_stays_as_long_as_it_is_open(new());
    all_openings_and_clones_share_one_file(new());
    no_salt_comes_twice(&mut new(), BTreeSet::new());
    messages_name_the_file(&new());
}

/// Tries what is left when power is lost. `disk` is a directory with nothing of anyone's in it; `lose_power` is given it,
/// takes from it all that need not outlive a loss of power, and opens it again. Where power cannot be lost, to drop it and
/// open it again is worth a try too: then only that nothing durable is gone is checked.
///
/// # Panics
/// If something is gone that must not be, or is there that must not be; the message says what.
pub fn check_durability<D: Disk + Clone>(disk: D, mut lose_power: impl FnMut(D) -> D) {
    let disk = what_is_synced_stays(disk, &mut lose_power);
    let disk = what_is_synced_is_left_alone_by_later_writes(disk, &mut lose_power);
    let disk = a_sync_is_of_all_that_was_written_to_the_file(disk, &mut lose_power);
    let disk = the_length_of_a_file_is_synced_with_it(disk, &mut lose_power);
    let disk = synced_names_stay(disk, &mut lose_power);
    let disk = a_name_leads_to_one_file_or_the_other(disk, &mut lose_power);
    let mut disk = disk;
    let drawn: BTreeSet<u64> = (0..100).map(|_| disk.salt()).collect();
    no_salt_comes_twice(&mut lose_power(disk), drawn);
}

/// What is of the disk's own, such as a lock, is not told apart from files by its name: only names that were given are
/// looked for.
fn lists<D: Disk>(disk: &mut D, name: &str) -> bool {
    let mut names = disk.list().expect("a directory lists its names");
    names.retain(|listed| listed == name);
    assert!(names.len() < 2, "names: {name} is listed {} times", names.len());
    !names.is_empty()
}

fn content<D: Disk>(disk: &mut D, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap_or_else(|error| panic!("names: {name} leads to no file: {error}"));
    let bytes = disk.len(&file).expect("an open file has a length");
    let mut content = vec![0xa5; usize::try_from(bytes).expect("no more than was written")];
    disk.read_at(&file, &mut content, 0).expect("a file is read from its beginning to its end");
    content
}

/// Writes a new file, and makes it durable but for its name.
fn write<D: Disk>(disk: &mut D, name: &str, bytes: &[u8]) -> D::File {
    let file = disk.create(name).expect("a file is created");
    disk.write_at(&file, bytes, 0).expect("a file is written");
    disk.sync_data(&file).expect("a file is synced");
    file
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..bytes).map(|_| rng.draw() as u8).collect()
}

fn names_are_listed_as_they_are_given_and_taken<D: Disk + Clone>(mut disk: D) {
    assert!(!lists(&mut disk, "a"), "names: a new directory lists a file");
    for name in ["a", "b", "0000000000000001.log"] {
        disk.create(name).expect("a file is created");
    }
    for name in ["a", "b", "0000000000000001.log"] {
        assert!(lists(&mut disk, name), "names: {name} was created and is not listed");
    }
    disk.remove("a").expect("a file is removed");
    disk.rename("b", "c").expect("a file is renamed");
    let listed = ["a", "b", "c"].map(|name| lists(&mut disk, name));
    assert_eq!(listed, [false, false, true], "names: a was removed, b is called c");
}

/// Both ways to write lead to one file, in the order of the calls.
fn sectors_are_bytes_like_others<D: Disk + Clone>(mut disk: D) {
    let file = disk.create("sectors").expect("a file is created");
    let mut expected = noise(5, LONG);
    disk.write_at(&file, &expected, 0).expect("a file is written");
    for (seed, offset, bytes) in [(6, 0, 512), (7, 1024, 1536), (8, 4096, 16_384), (9, 7680, 512), (10, 20_480, 512)] {
        let (sectors, others) = (noise(seed, bytes), noise(seed + 10, 700));
        let mut aligned = AlignedBytes::default();
        aligned.extend_from_slice(&sectors);
        disk.write_sectors(&file, &aligned, offset as u64).expect("sectors are written");
        expected[offset..offset + bytes].copy_from_slice(&sectors);
        let found = content(&mut disk, "sectors");
        assert!(found == expected, "sectors: they are read as they were written, at {offset}");
        let at = offset + bytes - 100;
        disk.write_at(&file, &others, at as u64).expect("a file is written");
        expected[at..at + others.len()].copy_from_slice(&others);
    }
    let found = content(&mut disk, "sectors");
    assert!(found == expected, "sectors: what is written over them in part leaves the rest");
    disk.sync_data(&file).expect("a file is synced");
    assert!(content(&mut disk, "sectors") == expected, "sectors: they are the same after a sync");
}

fn what_has_no_name_is_not_found<D: Disk + Clone>(mut disk: D) {
    let opened = disk.open("none").err().map(|error| error.kind());
    assert_eq!(opened, Some(ErrorKind::NotFound), "not found: to open what is not there");
    let removed = disk.remove("none").err().map(|error| error.kind());
    assert_eq!(removed, Some(ErrorKind::NotFound), "not found: to remove what is not there");
    write(&mut disk, "kept", b"kept");
    let renamed = disk.rename("none", "kept").err().map(|error| error.kind());
    assert_eq!(renamed, Some(ErrorKind::NotFound), "not found: to rename what is not there");
    assert_eq!(content(&mut disk, "kept"), b"kept", "not found: what was to be replaced stays");
}

fn a_file_is_created_empty<D: Disk + Clone>(mut disk: D) {
    write(&mut disk, "a", &noise(1, LONG));
    let file = disk.create("a").expect("a file is created in place of another");
    assert_eq!(disk.len(&file).expect("an open file has a length"), 0, "create: a new file is empty");
    disk.write_at(&file, &[7], 9).expect("a file is written");
    assert_eq!(content(&mut disk, "a"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 7], "create: nothing of the replaced file is left");
}

fn bytes_are_read_as_they_were_written<D: Disk + Clone>(mut disk: D) {
    let mut rng = Rng::new(2);
    let (mut expected, file) = (Vec::new(), disk.create("a").expect("a file is created"));
    for round in 0..300 {
        let offset = rng.below(LONG as u64) as usize;
        let bytes = noise(round, rng.below(10_000) as usize + 1);
        disk.write_at(&file, &bytes, offset as u64).expect("a file is written");
        expected.resize(expected.len().max(offset + bytes.len()), 0);
        expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
        if round % 7 == 0 {
            disk.sync_data(&file).expect("a file is synced");
        }
        let from = rng.below(expected.len() as u64 + 1) as usize;
        let mut read = vec![0xa5; rng.below((expected.len() - from) as u64 + 1) as usize];
        disk.read_at(&file, &mut read, from as u64).expect("what is there can be read");
        assert!(read == expected[from..from + read.len()], "bytes: {} at {from} are others than written", read.len());
    }
    assert!(content(&mut disk, "a") == expected, "bytes: a file is what was written to it, in order");
}

fn nothing_is_read_beyond_the_end<D: Disk + Clone>(mut disk: D) {
    let file = write(&mut disk, "a", &noise(3, 1000));
    let mut into = [0; 10];
    assert!(disk.read_at(&file, &mut into, 990).is_ok(), "end: the last bytes can be read");
    assert!(disk.read_at(&file, &mut into, 991).is_err(), "end: a read that ends beyond it is an error");
    assert!(disk.read_at(&file, &mut into, 5000).is_err(), "end: a read that begins beyond it is an error");
}

fn what_was_never_written_is_zero<D: Disk + Clone>(mut disk: D) {
    let file = disk.create("a").expect("a file is created");
    disk.write_at(&file, &[7], LONG as u64).expect("a file is written beyond its end");
    let read = content(&mut disk, "a");
    assert_eq!(read.len(), LONG + 1, "zeros: a write beyond the end makes a file longer");
    assert!(read[..LONG].iter().all(|byte| *byte == 0) && read[LONG] == 7, "zeros: a gap reads as zeros");
}

fn reserved_space_keeps_what_is_there<D: Disk + Clone>(mut disk: D) {
    let bytes = noise(4, 3000);
    let file = write(&mut disk, "a", &bytes);
    disk.preallocate(&file, LONG as u64).expect("space is reserved");
    let read = content(&mut disk, "a");
    assert_eq!(read.len(), LONG, "reserve: the file is as long as what is reserved");
    assert!(read[..3000] == bytes, "reserve: what was written stays");
    assert!(read[3000..].iter().all(|byte| *byte == 0), "reserve: the rest reads as zeros");
}

fn a_renamed_file_is_the_same_under_its_new_name<D: Disk + Clone>(mut disk: D) {
    write(&mut disk, "b", b"replaced");
    let file = write(&mut disk, "a", b"first");
    disk.rename("a", "b").expect("a file is renamed");
    assert_eq!(content(&mut disk, "b"), b"first", "rename: the new name leads to the file");
    assert!(disk.open("a").is_err(), "rename: the old name leads nowhere");
    disk.write_at(&file, b"later", 0).expect("an open file is written");
    assert_eq!(content(&mut disk, "b"), b"later", "rename: a file that was open before is the same file");
    disk.create("a").expect("the old name can be given again");
    assert_eq!(content(&mut disk, "b"), b"later", "rename: the old name has nothing to do with it");
}

fn a_removed_file_stays_as_long_as_it_is_open<D: Disk + Clone>(mut disk: D) {
    let bytes = noise(5, LONG);
    let file = write(&mut disk, "a", &bytes);
    disk.remove("a").expect("a file is removed");
    let mut read = vec![0; LONG];
    disk.read_at(&file, &mut read, 0).expect("remove: a file that is open can be read");
    assert!(read == bytes, "remove: an open file keeps what is in it");
    disk.shorten(&file, 100).expect("remove: an open file can be cut short");
    write(&mut disk, "a", b"new");
    assert!(disk.read_at(&file, &mut read[..101], 0).is_err(), "remove: a file that was cut short is short");
    assert_eq!(content(&mut disk, "a"), b"new", "remove: another file gets the name");
}

fn all_openings_and_clones_share_one_file<D: Disk + Clone>(mut disk: D) {
    let mut clone = disk.clone();
    let file = write(&mut disk, "a", b"one");
    assert!(lists(&mut clone, "a"), "share: a clone sees what another has made");
    let again = disk.open("a").expect("a file is opened twice");
    disk.write_at(&again, b"two", 0).expect("a file is written");
    assert_eq!(content(&mut clone, "a"), b"two", "share: a clone sees what another has written");
    let mut read = [0; 3];
    clone.read_at(&file, &mut read, 0).expect("share: a clone reads a file that another has opened");
    assert_eq!(&read, b"two", "share: an opening sees what was written by another");
    clone.write_at(&file, b"six", 0).expect("share: a clone writes to a file that another has opened");
    clone.sync_data(&file).expect("share: a clone syncs a file that another has opened");
    drop(clone);
    assert_eq!(content(&mut disk, "a"), b"six", "share: what a clone has written stays when it is dropped");
}

fn no_salt_comes_twice<D: Disk + Clone>(disk: &mut D, mut drawn: BTreeSet<u64>) {
    let before = drawn.len();
    let mut clone = disk.clone();
    drawn.extend((0..100).flat_map(|_| [disk.salt(), clone.salt()]));
    assert_eq!(drawn.len(), before + 200, "salt: each number is another, also in a clone and after a restart");
}

fn messages_name_the_file<D: Disk + Clone>(disk: &D) {
    let (path, dir) = (disk.path("0000000000000001.log"), disk.path(""));
    assert!(path.ends_with("0000000000000001.log"), "path: {} does not name the file", path.display());
    assert!(path.starts_with(&dir), "path: {} is not in {}", path.display(), dir.display());
}

fn what_is_synced_stays<D: Disk + Clone>(mut disk: D, lose_power: &mut impl FnMut(D) -> D) -> D {
    let bytes = noise(6, LONG);
    write(&mut disk, "synced", &bytes);
    disk.sync_dir().expect("a directory is synced");
    let mut disk = lose_power(disk);
    assert!(lists(&mut disk, "synced"), "durable: the name of a file is gone that was synced with the directory");
    assert!(content(&mut disk, "synced") == bytes, "durable: bytes are gone that were synced");
    disk
}

fn what_is_synced_is_left_alone_by_later_writes<D: Disk + Clone>(
    mut disk: D,
    lose_power: &mut impl FnMut(D) -> D,
) -> D {
    let bytes = noise(7, LONG);
    let file = write(&mut disk, "later", &bytes);
    disk.sync_dir().expect("a directory is synced");
    disk.write_at(&file, &noise(8, 512), 1024).expect("a file is written");
    disk.write_at(&file, &noise(9, 512), APART).expect("a file is written");
    disk.create("unsynced").expect("a file is created");
    drop(file);
    let mut disk = lose_power(disk);
    let read = content(&mut disk, "later");
    let untouched = read.get(..1024) == Some(&bytes[..1024]) && read.get(1536..LONG) == Some(&bytes[1536..]);
    assert!(untouched, "durable: a write that was not synced has harmed other sectors, which were");
    disk
}

fn a_sync_is_of_all_that_was_written_to_the_file<D: Disk + Clone>(
    mut disk: D,
    lose_power: &mut impl FnMut(D) -> D,
) -> D {
    let (first, mut clone) = (disk.create("openings").expect("a file is created"), disk.clone());
    disk.sync_dir().expect("a directory is synced");
    let second = clone.open("openings").expect("a file is opened twice");
    disk.write_at(&first, b"first", 0).expect("a file is written");
    clone.write_at(&second, b"second", APART).expect("a file is written");
    disk.sync_data(&first).expect("a file is synced");
    drop((first, second, clone));
    let mut disk = lose_power(disk);
    let read = content(&mut disk, "openings");
    let at = APART as usize;
    let both = read.get(..5) == Some(b"first") && read.get(at..at + 6) == Some(b"second");
    assert!(both, "durable: a sync is of all that was written to a file, through whichever opening");
    disk
}

fn the_length_of_a_file_is_synced_with_it<D: Disk + Clone>(mut disk: D, lose_power: &mut impl FnMut(D) -> D) -> D {
    let file = disk.create("length").expect("a file is created");
    disk.preallocate(&file, APART).expect("space is reserved");
    disk.write_at(&file, b"front", 0).expect("a file is written");
    disk.sync_data(&file).expect("a file is synced");
    disk.sync_dir().expect("a directory is synced");
    drop(file);
    let mut disk = lose_power(disk);
    let read = content(&mut disk, "length");
    assert_eq!(read.len() as u64, APART, "durable: the length of a file is synced with it");
    assert!(read[5..].iter().all(|byte| *byte == 0), "durable: what was reserved reads as zeros");
    disk
}

fn synced_names_stay<D: Disk + Clone>(mut disk: D, lose_power: &mut impl FnMut(D) -> D) -> D {
    write(&mut disk, "old", b"renamed");
    write(&mut disk, "target", b"replaced");
    write(&mut disk, "removed", b"removed");
    disk.sync_dir().expect("a directory is synced");
    disk.rename("old", "target").expect("a file is renamed");
    disk.remove("removed").expect("a file is removed");
    disk.sync_dir().expect("a directory is synced");
    let mut disk = lose_power(disk);
    assert_eq!(content(&mut disk, "target"), b"renamed", "durable: a file has the name that was synced");
    assert!(!lists(&mut disk, "old"), "durable: a name is back that was taken from a file, and synced");
    assert!(!lists(&mut disk, "removed"), "durable: a file is back that was removed, and synced");
    disk
}

fn a_name_leads_to_one_file_or_the_other<D: Disk + Clone>(mut disk: D, lose_power: &mut impl FnMut(D) -> D) -> D {
    write(&mut disk, "next", b"after");
    write(&mut disk, "current", b"before");
    disk.sync_dir().expect("a directory is synced");
    disk.rename("next", "current").expect("a file is renamed");
    let mut disk = lose_power(disk);
    assert!(lists(&mut disk, "current"), "durable: a name that is being given to another file leads to neither");
    let read = content(&mut disk, "current");
    assert!(read == b"after" || read == b"before", "durable: a name leads to one file or the other, as a whole");
    disk
}
