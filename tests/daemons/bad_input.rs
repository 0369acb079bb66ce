//! Whatever a client or a server sends, and however it leaves: it is told what was wrong, and nobody
//! else notices.

mod leaving;
mod logins;
mod messages;
mod openings;
mod operators;
mod raw;
mod servers;
