//! Writing RESP: commands to servers, and the replies that are ours.

/// Appends the head of an array of `count` elements.
pub fn array(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// Appends the head of a map of `count` pairs: in RESP 2 an array of twice as many.
pub fn map(out: &mut Vec<u8>, count: usize, is_resp3: bool) {
    if is_resp3 {
        header(out, b'%', count);
    } else {
        header(out, b'*', count * 2);
    }
}

/// Appends a bulk string.
pub fn bulk(out: &mut Vec<u8>, text: &[u8]) {
    header(out, b'$', text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole number.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    let mut digits = itoa(value.unsigned_abs());
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.text());
    out.extend_from_slice(b"\r\n");
}

/// Appends an error; line ends in it become blanks.
pub fn error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    out.extend(
        text.bytes()
            .map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }),
    );
    out.extend_from_slice(b"\r\n");
}

/// Appends a simple string.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends nil.
pub fn nil(out: &mut Vec<u8>, is_resp3: bool) {
    out.extend_from_slice(if is_resp3 { b"_\r\n" } else { b"$-1\r\n" });
}

/// Appends a command.
pub fn command<T: AsRef<[u8]>>(out: &mut Vec<u8>, words: &[T]) {
    array(out, words.len());
    for word in words {
        bulk(out, word.as_ref());
    }
}

fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(itoa(count as u64).text());
    out.extend_from_slice(b"\r\n");
}

/// Digits of a number, without an allocation.
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    fn text(&mut self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

fn itoa(mut value: u64) -> Digits {
    let mut digits = Digits {
        bytes: [0; 20],
        start: 20,
    };
    loop {
        digits.start -= 1;
        digits.bytes[digits.start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return digits;
        }
    }
}
