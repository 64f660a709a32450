//! The streams of a connection that are not closed, and what is remembered of those that are (RFC 9113 §5.1).
//!
//! Owns how a stream is found. Identifiers only grow, so that a sorted list is enough, and no client can make it slow by those that
//! it chooses. Must not know what is sent on a stream.

use std::collections::VecDeque;

/// Streams of which it is remembered that they were ended before their client had ended them.
const ENDED_EARLY_MAX: usize = 256;

/// Names one stream of a connection for as long as it is open.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StreamKey {
    place: u32,
    id: u32,
}

impl StreamKey {
    /// A small number that no other open stream of the connection has. It is given to another stream when this one is closed.
    pub fn place(self) -> usize {
        self.place as usize
    }

    /// Its identifier on the wire.
    pub fn id(self) -> u32 {
        self.id
    }
}

/// One stream. A request has come on it, and the reply is not sent whole.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What may be sent, beside the window that all streams have at first. It may be less than nothing.
    pub(crate) send_beside_first: i64,
    /// What the client may send still.
    pub(crate) receive_window: i64,
    /// What was taken of what has come and is not told to the client yet.
    pub(crate) untold: u32,
    /// Whether the client has ended its side.
    pub(crate) is_whole: bool,
    /// How much of the announced length has not come.
    pub(crate) missing: Option<u64>,
    /// Whether it waits for its window.
    pub(crate) is_blocked: bool,
}

impl Stream {
    /// So many bytes of the body have come. Returns whether that is against the length that was announced.
    pub(crate) fn takes_wrong_length(&mut self, bytes: u64, is_last: bool) -> bool {
        let Some(missing) = &mut self.missing else { return false };
        match missing.checked_sub(bytes) {
            Some(rest) => {
                *missing = rest;
                is_last && rest > 0
            }
            None => true,
        }
    }
}

/// All open streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// A stream and its identifier; free places are named in `free`.
    places: Vec<Option<(u32, Stream)>>,
    free: Vec<u32>,
    /// Identifiers in their order, and where the stream is; it may be closed.
    by_id: VecDeque<(u32, u32)>,
    /// The last stream that was begun.
    last: u32,
    /// From here to the last one, each stream was begun.
    all_begun_from: u32,
    ended_early: VecDeque<u32>,
}

/// What an identifier stands for that is of no open stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unfound {
    /// None that was begun, yet.
    Idle,
    /// One that was closed without being begun.
    Skipped,
    Closed,
    /// One that the server has ended before the client did, so that the client may not know.
    EndedEarly,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    pub(crate) fn find(&self, id: u32) -> Result<StreamKey, Unfound> {
        let found = match self.by_id.back() {
            Some((newest, place)) if *newest == id => Some(*place),
            _ => self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| self.by_id[at].1),
        };
        let key = found.map(|place| StreamKey { place, id });
        key.filter(|key| self.get(*key).is_some()).ok_or_else(|| self.unfound(id))
    }

    fn unfound(&self, id: u32) -> Unfound {
        if id > self.last {
            Unfound::Idle
        } else if self.ended_early.contains(&id) {
            Unfound::EndedEarly
        } else if id < self.all_begun_from {
            Unfound::Skipped
        } else {
            Unfound::Closed
        }
    }

    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.places.get(key.place()).and_then(Option::as_ref).filter(|(id, _)| *id == key.id).map(|(_, stream)| stream)
    }

    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.places
            .get_mut(key.place())
            .and_then(Option::as_mut)
            .filter(|(id, _)| *id == key.id)
            .map(|(_, stream)| stream)
    }

    /// A stream is begun that may not be opened; those before it that were not are closed.
    pub(crate) fn begin(&mut self, id: u32) {
        if self.last == 0 || id != self.last + 2 {
            self.all_begun_from = id;
        }
        self.last = id;
    }

    /// Opens the stream that was begun last.
    pub(crate) fn open(&mut self, stream: Stream) -> StreamKey {
        let id = self.last;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            // Identifiers have 31 bits, so that there are never more.
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some((id, stream));
        self.by_id.push_back((id, place));
        StreamKey { place, id }
    }

    /// Closes a stream. `None` if it is closed.
    pub(crate) fn close(&mut self, key: StreamKey) -> Option<Stream> {
        self.get(key)?;
        let (_, stream) = self.places[key.place()].take()?;
        self.free.push(key.place);
        if !stream.is_whole {
            self.ended_early(key.id);
        }
        self.forget_closed();
        Some(stream)
    }

    /// The client may not know that this stream is closed.
    pub(crate) fn ended_early(&mut self, id: u32) {
        if self.ended_early.len() == ENDED_EARLY_MAX {
            self.ended_early.pop_front();
        }
        self.ended_early.push_back(id);
    }

    /// The client knows it: it has ended the stream itself.
    pub(crate) fn ended_by_client(&mut self, id: u32) {
        if self.ended_early.back() == Some(&id) {
            self.ended_early.pop_back();
        }
    }

    /// Removes what is closed from the list: at its ends at once, within it when that is most of it.
    fn forget_closed(&mut self) {
        let places = &self.places;
        let is_open = |(id, place): &(u32, u32)| matches!(places.get(*place as usize), Some(Some((of, _))) if of == id);
        while self.by_id.back().is_some_and(|entry| !is_open(entry)) {
            self.by_id.pop_back();
        }
        while self.by_id.front().is_some_and(|entry| !is_open(entry)) {
            self.by_id.pop_front();
        }
        if self.by_id.len() > 2 * (self.places.len() - self.free.len()) + 16 {
            self.by_id.retain(is_open);
        }
        // Many streams at once are rare, and the memory of their places is given back when all are closed.
        if self.by_id.is_empty() && self.places.len() > PLACES_KEPT {
            (self.places, self.free, self.by_id) = Default::default();
        }
    }

    /// All open streams with their keys.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(place, open)| {
            open.as_mut().map(|(id, stream)| (StreamKey { place: place as u32, id: *id }, stream))
        })
    }
}

/// Places that are kept while no stream is open.
const PLACES_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream { send_beside_first: 0, receive_window: 0, untold: 0, is_whole: true, missing: None, is_blocked: false }
    }

    #[test]
    fn streams_are_found_until_they_are_closed_in_whatever_order() {
        let mut streams = Streams::default();
        let keys: Vec<StreamKey> = (0..1000)
            .map(|n| {
                streams.begin(2 * n + 1);
                streams.open(stream())
            })
            .collect();
        // A permutation: 7 and 1000 have no common divisor.
        for n in 0..1000 {
            let key = keys[n * 7 % 1000];
            assert_eq!(streams.find(key.id()), Ok(key));
            assert!(streams.close(key).is_some() && streams.close(key).is_none());
            assert_eq!(streams.find(key.id()), Err(Unfound::Closed));
            assert_eq!(streams.len(), 999 - n);
            assert!(streams.by_id.len() <= 2 * streams.len() + 16);
        }
        assert!(streams.places.is_empty(), "nothing is left of them");
    }

    #[test]
    fn a_place_is_given_to_another_stream_under_another_key() {
        let mut streams = Streams::default();
        streams.begin(1);
        let first = streams.open(stream());
        streams.close(first);
        streams.begin(3);
        let second = streams.open(stream());
        assert_eq!(first.place(), second.place());
        assert!(streams.get(first).is_none() && streams.get(second).is_some());
    }

    #[test]
    fn what_is_not_open_was_closed_or_skipped_or_is_to_come() {
        let mut streams = Streams::default();
        assert_eq!(streams.find(1), Err(Unfound::Idle));
        streams.begin(5);
        let key = streams.open(Stream { is_whole: false, ..stream() });
        streams.begin(7);
        let rows = [(3, Unfound::Skipped), (7, Unfound::Closed), (9, Unfound::Idle)];
        for (id, expected) in rows {
            assert_eq!(streams.find(id), Err(expected), "{id}");
        }
        streams.close(key);
        assert_eq!(streams.find(5), Err(Unfound::EndedEarly));
        streams.ended_by_client(5);
        assert_eq!(streams.find(5), Err(Unfound::Closed));
    }
}
