//! What a program holds may be sent to any thread, shared, and shown: else it does not compile.

use std::fmt::Debug;

use vlot::storage::MemoryDisk;
use vlot::{
    BadOptions, BeginLogError, ChangeError, CloseError, Figures, Group, GroupError, GroupId, Meter, Node, NodeId,
    OpenError, Options, ProposeError, ReadError, Status, Storage, TransferError,
};

use crate::world::Sum;

fn is_shared<T: Send + Sync + Debug>() {}
fn is_cheap_to_share<T: Send + Sync + Debug + Clone>() {}
fn is_an_error<T: std::error::Error + Send + Sync + 'static>() {}
fn may_be_sent<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn what_a_program_holds_goes_to_any_thread() {
    is_shared::<Node>();
    is_shared::<Options>();
    is_cheap_to_share::<Group<Sum>>();
    is_cheap_to_share::<Meter>();
    is_cheap_to_share::<Storage>();
    is_cheap_to_share::<MemoryDisk>();
    is_cheap_to_share::<Figures>();
    is_cheap_to_share::<Status>();
    is_an_error::<BadOptions>();
    is_an_error::<BeginLogError>();
    is_an_error::<ChangeError>();
    is_an_error::<CloseError>();
    is_an_error::<GroupError>();
    is_an_error::<OpenError>();
    is_an_error::<ProposeError>();
    is_an_error::<ReadError>();
    is_an_error::<TransferError>();

    let node = may_be_sent(Node::open(Options::on(MemoryDisk::new()))).await.unwrap();
    let sum = may_be_sent(node.group(GroupId(1), [NodeId(1)], Sum::default())).await.unwrap();
    assert_eq!(may_be_sent(sum.propose(5)).await, Ok(5));
    assert_eq!(may_be_sent(sum.read(|sum| sum.sum)).await, Ok(5));
    assert_eq!(may_be_sent(sum.transfer_leadership(Some(NodeId(1)))).await, Ok(()));
    may_be_sent(node.close(GroupId(1))).await.unwrap();
    may_be_sent(node.shutdown()).await;
}
