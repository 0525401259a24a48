//! Tests of the manager: by a client and an origin on loopback (`client`), called directly (`manager`),
//! and from several processes (`processes`). One program, for each would link the client again.

mod client;
mod common;
mod manager;
mod processes;
