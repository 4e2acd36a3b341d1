//! Who may do what: real tokens, made here, and services that ask for them.

mod attacks;
mod beyond_loopback;
mod keys;
mod ownership;
mod scopes;
mod stack;
