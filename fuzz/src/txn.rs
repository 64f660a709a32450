//! Transactions from clients: the decoder that does not recurse says what the generated one says, but for how deep they are.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::TxnRequest;
use vlot_proto::txn::{BadTxn, decode};

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    match (decode(bytes.clone()), TxnRequest::decode(bytes.clone())) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, theirs);
            // What it becomes is itself.
            assert_eq!(decode(ours.encode_to_vec().into()).as_ref(), Ok(&ours));
        }
        // Ours goes deeper than the generated one, up to its own bound.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("recursion limit"), "{error}"),
        (Err(BadTxn::TooDeep), _) | (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => panic!("{error}: {bytes:?}"),
    }
}
