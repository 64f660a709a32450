//! Settings of either side (RFC 9113 §6.5).

use crate::error::{ConnectionError, ErrorCode, broken, frame_size, protocol};
use crate::frame::BITS_31;

pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// What either window is before anything is said about it.
pub(crate) const WINDOW_AT_FIRST: u32 = 65_535;

/// One setting of the client that matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Setting {
    /// Bytes of the table that the server's fields may take.
    HeaderTableSize(u32),
    /// What may be sent on a stream that is new.
    InitialWindowSize(u32),
}

/// Reads the settings of a frame one by one.
pub(crate) fn read(payload: &[u8], mut each: impl FnMut(Setting)) -> Result<(), ConnectionError> {
    if !payload.len().is_multiple_of(6) {
        return Err(frame_size("settings have six bytes each"));
    }
    for &[a, b, c, d, e, f] in payload.as_chunks::<6>().0 {
        let value = u32::from_be_bytes([c, d, e, f]);
        match u16::from_be_bytes([a, b]) {
            HEADER_TABLE_SIZE => each(Setting::HeaderTableSize(value)),
            ENABLE_PUSH if value > 1 => return Err(protocol("push is on or off")),
            INITIAL_WINDOW_SIZE if value > BITS_31 => {
                return Err(broken(ErrorCode::FlowControlError, "a window of more than 31 bits"));
            }
            INITIAL_WINDOW_SIZE => each(Setting::InitialWindowSize(value)),
            // Longer ones than the shortest are not made here.
            MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                return Err(protocol("frames are of 14 to 24 bits"));
            }
            _ => {}
        }
    }
    Ok(())
}
