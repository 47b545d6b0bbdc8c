//! Black-box tests: every one drives the built programs in a temporary home.

#![allow(unreachable_pub, missing_docs)]

mod house;
mod sandbox;
mod service;
