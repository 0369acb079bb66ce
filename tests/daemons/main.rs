//! Daemons that need sockets only: the database proxy in front of real PostgreSQL servers, used by
//! real clients.

mod auth_query;
mod bad_input;
mod bystander;
mod console;
mod drivers;
mod faults;
mod fuzz;
mod link;
mod logic;
mod login;
mod pooling;
mod programs;
mod regress;
mod rounds;
mod setup;
mod sql;
mod state;
