//! The blocks of the guide (`docs/guide`) are tests of this crate: each is compiled, and run unless it says otherwise.
//!
//! The pages lie outside of the crate. They are read for its tests alone, so that the crate can be packaged without them.

macro_rules! pages {
    ($($name:ident $file:literal)*) => {
        $(#[doc = include_str!(concat!("../../../docs/guide/", $file))] struct $name;)*
    };
}

pages! {
    FromOneToThree "01-one-to-three.md"
    States "02-states.md"
    Calls "03-calls.md"
    Reading "04-reading.md"
    Members "05-members.md"
    Timeouts "06-timeouts.md"
    Upgrades "07-upgrade.md"
    BackupAndDisaster "08-backup-and-disaster.md"
    Observing "09-observing.md"
    Testing "10-testing.md"
    Parts "11-parts.md"
    Promises "12-promises.md"
    Comparison "13-comparison.md"
}
