//! The messages of etcd's interface as tables: names, numbers and kinds of their fields, and which RPC takes which.
//!
//! The Rust types of the other modules have lost the names; who reads or writes another notation than protobuf's needs
//! them. Generated with those types, from the same files.

/// A message.
#[derive(Debug)]
pub struct Message {
    /// `package.Message`.
    pub name: &'static str,
    /// In the order of the file, which is that of the numbers.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    pub number: u32,
    /// As the `.proto` file has it.
    pub name: &'static str,
    /// The same in protobuf's JSON notation: `rangeEnd` for `range_end`.
    pub json_name: &'static str,
    pub kind: Kind,
    pub is_repeated: bool,
    /// `package.Message.oneof` of which at most one field is set.
    pub oneof: Option<&'static str>,
}

/// What a field holds, one of it or many.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Int64,
    Uint32,
    Uint64,
    String,
    Bytes,
    Enum(&'static Enum),
    Message(&'static Message),
}

/// An enumeration.
#[derive(Debug)]
pub struct Enum {
    /// `package.Message.Enum`.
    pub name: &'static str,
    pub values: &'static [(&'static str, i32)],
}

/// An RPC.
#[derive(Debug)]
pub struct Method {
    /// `/package.Service/Method`, as gRPC has it.
    pub path: &'static str,
    pub request: &'static Message,
    pub response: &'static Message,
    /// The client sends any number of requests, not one.
    pub is_client_streaming: bool,
    /// The server sends any number of responses, not one.
    pub is_server_streaming: bool,
}

impl Message {
    /// The field of this number.
    #[must_use]
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// The field of this name, in either notation, and its place in the list.
    #[must_use]
    pub fn field_named(&self, name: &str) -> Option<(usize, &'static Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.json_name == name || field.name == name)
    }
}

impl Enum {
    #[must_use]
    pub fn name_of(&self, number: i32) -> Option<&'static str> {
        self.values.iter().find(|(_, value)| *value == number).map(|(name, _)| *name)
    }

    #[must_use]
    pub fn number_of(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(value, _)| *value == name).map(|(_, number)| *number)
    }
}

/// The RPC of this path.
#[must_use]
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

include!("generated/descriptors.rs");
