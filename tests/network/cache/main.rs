//! The cache tier under faults: real Redis servers, copies and Sentinels, each on a host of its
//! own, which are killed, frozen, cut off and brought back.

mod faults;
mod histories;
mod lag;
mod marker;
mod returns;
mod rig;
mod scene;
mod threads;
mod vip;
