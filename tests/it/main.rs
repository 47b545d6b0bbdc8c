//! Black-box tests: every one drives the built programs in a temporary home.

mod alert;
mod sandbox;
