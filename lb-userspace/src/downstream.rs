//! Connections of clients, as every daemon that listens needs them: who they are, and how they are
//! told. Called by roles; never decides what a client gets.

pub mod postgres;
