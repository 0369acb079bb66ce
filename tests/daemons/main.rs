//! Daemons that need sockets only: the database proxy in front of real PostgreSQL servers, used by
//! real clients.

mod bad_input;
mod console;
mod drivers;
mod faults;
mod link;
mod login;
mod pooling;
mod programs;
mod setup;
mod state;
