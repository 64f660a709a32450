//! The compression of fields (RFC 7541).
//!
//! Must not know what a field means to a request beyond its kind (`head.rs`).

mod decoder;
mod encoder;
mod huffman;
mod static_table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

/// What an entry of a table takes besides its name and value (RFC 7541 §4.1).
pub(crate) const ENTRY_OVERHEAD: usize = 32;
/// Bytes of a dynamic table before anything is said about it (RFC 9113 §6.5.2); no other size is asked for.
pub(crate) const TABLE_BYTES_MAX: usize = 4096;

/// A header block that is no header block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Malformed {
    /// It ends within a field.
    Cut,
    /// A number of more than 28 bits.
    Number,
    /// An entry that no table has.
    Index,
    /// What is no Huffman code, or is not padded as one.
    Huffman,
    /// A table that is larger than allowed, or a change of its size behind a field.
    TableSize,
}

impl Malformed {
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Malformed::Cut => "a header block ends within a field",
            Malformed::Number => "a number of a header block is too large",
            Malformed::Index => "a header block names an entry that no table has",
            Malformed::Huffman => "a header block has a string that is no Huffman code",
            Malformed::TableSize => "a header block sets a table's size where or as it may not",
        }
    }
}
