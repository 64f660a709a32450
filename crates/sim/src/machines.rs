//! The state machines that the program `vlot-sim` puts to the test.

pub mod registers;
pub mod store;
