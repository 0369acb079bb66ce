//! Buffers that are held only while bytes are in them: whoever relays borrows one from a list of its
//! thread when something cannot be passed on at once. Called by sessions of any protocol.

use std::cell::RefCell;

/// How many empty buffers are kept for whoever needs one next.
const KEPT_MAX: usize = 64;
/// A buffer that grew beyond this is not kept.
const KEPT_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Appends to a buffer, taking a kept one if it has none yet.
pub fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if buffer.capacity() == 0
        && !bytes.is_empty()
        && let Some(kept) = KEPT.with_borrow_mut(Vec::pop)
    {
        *buffer = kept;
    }
    buffer.extend_from_slice(bytes);
}

/// Takes away what was dealt with; a buffer that is empty then is given back.
pub fn consume(buffer: &mut Vec<u8>, count: usize) {
    if count >= buffer.len() {
        give_back(buffer);
    } else {
        buffer.drain(..count);
    }
}

/// Leaves nothing in place of a buffer.
pub fn give_back(buffer: &mut Vec<u8>) {
    let mut buffer = std::mem::take(buffer);
    if (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        // At the end of the thread there is no place any more; the buffer just goes.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        });
    }
}
