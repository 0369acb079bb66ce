//! Packets through the gateway's program, one at a time, by BPF_PROG_TEST_RUN (root).
//!
//! What comes out is compared byte for byte with what the harness's packet builder makes, which
//! shares no code with the program.

mod echo;
mod flood;
mod flow_duties;
mod fuzz;
mod ipip;
mod jumbo;
mod l2;
mod ladder;
mod loading;
mod not_ours;
mod on_empty;
mod outcomes;
mod ports;
mod reopen;
mod sequences;
mod services;
mod setup;
mod tables;
