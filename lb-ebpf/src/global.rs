//! What global functions give back. The verifier follows each of them once, whoever calls it, and
//! in return knows nothing of what goes in and comes out: a context, and numbers.

use lb_common::verdict::DropReason;

/// A result as a number: 0, or a reason's number and one.
#[inline(always)]
pub fn code(result: Result<(), DropReason>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u32 + 1,
    }
}

/// A result from its number.
#[inline(always)]
pub fn result(code: u32) -> Result<(), DropReason> {
    const NO_BACKEND: u32 = DropReason::NoBackend as u32 + 1;
    const TOO_BIG: u32 = DropReason::TooBig as u32 + 1;
    const NO_HEADROOM: u32 = DropReason::NoHeadroom as u32 + 1;
    const REPLY_LIMIT: u32 = DropReason::ReplyLimit as u32 + 1;
    Err(match code {
        0 => return Ok(()),
        NO_BACKEND => DropReason::NoBackend,
        TOO_BIG => DropReason::TooBig,
        NO_HEADROOM => DropReason::NoHeadroom,
        REPLY_LIMIT => DropReason::ReplyLimit,
        _ => DropReason::Internal,
    })
}
