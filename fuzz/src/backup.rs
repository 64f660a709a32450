//! A file that a client may have saved: `vlot snapshot status` says what it is, or why it is none.

use std::io::Write;

use super::reader::Reader;

const SECTOR_BYTES: usize = 512;
const LENGTH_BYTES: usize = 8;

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let is_framed = reader.flag();
    let has_hash = reader.flag();
    let mut content = reader.bytes(bytes.len()).to_vec();
    if is_framed {
        // As if the rest were a snapshot of the store.
        let length = content.len() as u64;
        content.resize((content.len() + LENGTH_BYTES).next_multiple_of(SECTOR_BYTES) - LENGTH_BYTES, 0);
        content.extend_from_slice(&length.to_le_bytes());
    }
    if has_hash {
        content.extend_from_slice(&[7; 32]);
    }
    let path =
        std::env::temp_dir().join(format!("vlot-fuzz-backup-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut file = std::fs::File::create(&path).expect("a file of this process");
    file.write_all(&content).expect("the disk takes it");
    drop(file);
    match vlot_server::backup_status(&path) {
        Ok(status) => assert!(status.revision != 0 || status.total_keys == 0),
        Err(error) => assert!(error.to_string().contains("vlot-fuzz-backup"), "{error}"),
    }
    let _ = std::fs::remove_file(&path);
}
