//! States, commands and replies that `serde` can write, as bytes of `postcard`.
//!
//! Owns how they are written. Must not know what they are.

use std::io;
use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use postcard::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::{Context, State, Version, WriteState};
use crate::state_machine::{BadCommand, BadSnapshot};

/// A [`State`] that `serde` can write, with commands and replies that it can.
///
/// What `postcard` writes has no names in it: a variant may be added at the end of an enum, and nothing else may change, unless
/// the version does. Where versions differ in more, give `encode_command` and its companions bodies of their own.
///
/// A snapshot is made of a clone of the state, during which nothing is applied. For a large state use a type that is cheap to
/// clone, such as an `Arc` of parts or a persistent map.
pub trait SerdeState: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What changes the state.
    type Command: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the caller of a command gets back.
    type Reply: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// See [`State::VERSIONS`].
    const VERSIONS: RangeInclusive<Version> = 1..=1;

    /// See [`State::apply`].
    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Reply;

    /// See [`State::is_prompt`].
    fn is_prompt(&self, command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// See [`State::shares_entry`].
    fn shares_entry(command: &Self::Command) -> bool {
        let _ = command;
        true
    }

    /// See [`State::version_of`].
    fn version_of(command: &Self::Command) -> Version {
        let _ = command;
        *Self::VERSIONS.start()
    }

    /// See [`State::encode_command`].
    fn encode_command(command: &Self::Command, version: Version, buffer: &mut BytesMut) {
        let _ = version;
        encode(command, buffer);
    }

    /// See [`State::decode_command`].
    ///
    /// # Errors
    /// If the bytes are none of this version.
    fn decode_command(version: Version, bytes: &[u8]) -> Result<Self::Command, BadCommand> {
        let _ = version;
        decode(bytes).map_err(BadCommand)
    }

    /// See [`State::reply_bytes`].
    fn reply_bytes(reply: &Self::Reply) -> usize {
        size_of_val(reply)
    }

    /// Writes the state as this version has it.
    ///
    /// # Errors
    /// If `out` fails.
    fn write(&self, version: Version, out: &mut dyn io::Write) -> io::Result<()> {
        let _ = version;
        postcard::to_io(self, out).map(drop).map_err(io::Error::other)
    }

    /// Reads a state back that was written in this version.
    ///
    /// # Errors
    /// If the bytes are none of this version.
    fn read(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot> {
        let _ = version;
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
        decode(&bytes).map_err(BadSnapshot)
    }
}

impl<T: SerdeState> State for T {
    type Command = <T as SerdeState>::Command;
    type Reply = <T as SerdeState>::Reply;

    const VERSIONS: RangeInclusive<Version> = <T as SerdeState>::VERSIONS;

    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Reply {
        SerdeState::apply(self, context, command)
    }

    fn is_prompt(&self, command: &Self::Command) -> bool {
        SerdeState::is_prompt(self, command)
    }

    fn shares_entry(command: &Self::Command) -> bool {
        <T as SerdeState>::shares_entry(command)
    }

    fn version_of(command: &Self::Command) -> Version {
        <T as SerdeState>::version_of(command)
    }

    fn encode_command(command: &Self::Command, version: Version, buffer: &mut BytesMut) {
        <T as SerdeState>::encode_command(command, version, buffer);
    }

    fn decode_command(version: Version, bytes: Bytes) -> Result<Self::Command, BadCommand> {
        <T as SerdeState>::decode_command(version, &bytes)
    }

    fn encode_reply(reply: &Self::Reply, _: Version, buffer: &mut BytesMut) {
        encode(reply, buffer);
    }

    fn decode_reply(_: Version, bytes: Bytes) -> Result<Self::Reply, BadSnapshot> {
        decode(&bytes).map_err(BadSnapshot)
    }

    fn reply_bytes(reply: &Self::Reply) -> usize {
        <T as SerdeState>::reply_bytes(reply)
    }

    fn snapshot(&self, version: Version) -> WriteState {
        let state = self.clone();
        Box::new(move |out| state.write(version, &mut io::BufWriter::with_capacity(1 << 16, out)))
    }

    fn restore(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot> {
        Self::read(version, from)
    }
}

/// Writes a value. One that refuses to be written leaves bytes that are not read back, which is found before they are proposed.
fn encode<V: Serialize>(value: &V, buffer: &mut BytesMut) {
    let before = buffer.len();
    if postcard::to_io(value, (&mut *buffer).writer()).is_err() {
        buffer.truncate(before);
    }
}

fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, left)) => Err(format!("{} bytes too many", left.len())),
        Err(Error::DeserializeUnexpectedEnd) => Err("its bytes end too soon".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
