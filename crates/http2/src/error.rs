//! Why a stream or a connection ends.

use std::fmt;

/// What a frame that ends something gives as its reason (RFC 9113 §7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum ErrorCode {
    /// Nothing is wrong.
    NoError = 0x0,
    /// The other side breaks a rule that has no code of its own.
    ProtocolError = 0x1,
    /// This side has failed.
    InternalError = 0x2,
    /// More was sent than the window allows.
    FlowControlError = 0x3,
    /// Settings were not acknowledged in time.
    SettingsTimeout = 0x4,
    /// A frame has come for a stream that is closed.
    StreamClosed = 0x5,
    /// A frame has a length that it cannot have.
    FrameSizeError = 0x6,
    /// The stream was not begun.
    RefusedStream = 0x7,
    /// The stream is not needed any more.
    Cancel = 0x8,
    /// The fields of a message cannot be decoded.
    CompressionError = 0x9,
    /// The connection that a request asked for is broken.
    ConnectError = 0xa,
    /// The other side causes excessive load.
    EnhanceYourCalm = 0xb,
    /// The transport is not secure enough.
    InadequateSecurity = 0xc,
    /// The request wants HTTP/1.1.
    Http11Required = 0xd,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionError {
    /// What has come is against the rules of HTTP/2.
    Broken {
        /// What the client is told.
        code: ErrorCode,
        /// The rule, in words.
        rule: &'static str,
    },
    /// What has come is too much of something.
    Flood(Flood),
}

impl ConnectionError {
    /// The code that the client is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Broken { code, .. } => code,
            Self::Flood(_) => ErrorCode::EnhanceYourCalm,
        }
    }

    /// The text that the client is told.
    pub fn text(self) -> &'static str {
        match self {
            Self::Broken { rule, .. } => rule,
            Self::Flood(flood) => flood.name(),
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

impl std::error::Error for ConnectionError {}

pub(crate) fn broken(code: ErrorCode, rule: &'static str) -> ConnectionError {
    ConnectionError::Broken { code, rule }
}

pub(crate) fn protocol(rule: &'static str) -> ConnectionError {
    broken(ErrorCode::ProtocolError, rule)
}

pub(crate) fn frame_size(rule: &'static str) -> ConnectionError {
    broken(ErrorCode::FrameSizeError, rule)
}

/// What a client has sent too much of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flood {
    /// Calls that were taken back.
    Resets,
    /// Pings.
    Pings,
    /// Settings.
    Settings,
    /// Priorities.
    Priorities,
    /// Updates of windows.
    WindowUpdates,
    /// Frames of data without content.
    EmptyFrames,
    /// Frames of unknown kinds.
    UnknownFrames,
    /// Bytes of header blocks.
    HeaderBytes,
    /// Parts of one header block.
    Continuations,
    /// Fields of one request, by their decoded size.
    HeaderList,
    /// Frames for which a stream had to be reset.
    StreamErrors,
}

impl Flood {
    /// All there are.
    pub const ALL: [Flood; 11] = [
        Flood::Resets,
        Flood::Pings,
        Flood::Settings,
        Flood::Priorities,
        Flood::WindowUpdates,
        Flood::EmptyFrames,
        Flood::UnknownFrames,
        Flood::HeaderBytes,
        Flood::Continuations,
        Flood::HeaderList,
        Flood::StreamErrors,
    ];

    /// What the client is told. gRPC's clients know the one about pings, and slow down.
    pub fn name(self) -> &'static str {
        match self {
            Flood::Resets => "too_many_resets",
            Flood::Pings => "too_many_pings",
            Flood::Settings => "too_many_settings",
            Flood::Priorities => "too_many_priorities",
            Flood::WindowUpdates => "too_many_window_updates",
            Flood::EmptyFrames => "too_many_empty_frames",
            Flood::UnknownFrames => "too_many_unknown_frames",
            Flood::HeaderBytes => "too_many_header_bytes",
            Flood::Continuations => "too_many_continuations",
            Flood::HeaderList => "header_list_way_too_large",
            Flood::StreamErrors => "too_many_stream_errors",
        }
    }
}
