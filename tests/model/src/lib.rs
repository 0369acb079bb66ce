//! lb's data plane and its agent's flow duties, written a second time: from the rules of the
//! algorithm and the RFCs, and not from the code that it is compared with.
//!
//! Plain rather than quick, and in another shape on purpose: a mistake would have to be made twice,
//! alike. `tests/datapath/model` runs both side by side.

pub mod count;
pub mod duties;
pub mod flow;
pub mod frame;
pub mod generate;
pub mod hash;
pub mod owners;
pub mod plane;
pub mod rules;
pub mod sum;
pub mod world;

mod describe;
mod error;
mod forward;
mod mss;
mod reply;
mod suspicion;
