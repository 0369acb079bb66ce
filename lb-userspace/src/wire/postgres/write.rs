//! Messages, appended to a buffer. Those of the server first, then those of a client.

/// Appends a message whose body `fill` writes.
pub fn message(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - start).expect("our own messages are short");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a text and its zero byte.
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// AuthenticationOk.
pub const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
/// ParseComplete.
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// CloseComplete.
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// A client's Sync.
pub const SYNC: &[u8] = b"S\0\0\0\x04";
/// A client's Terminate.
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Authentication with `code` and what belongs to it.
pub fn authentication(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    message(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// ReadyForQuery.
pub fn ready(out: &mut Vec<u8>, state: u8) {
    message(out, b'Z', |out| out.push(state));
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name.as_bytes());
        text(out, value.as_bytes());
    });
}

/// BackendKeyData.
pub fn backend_key(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    message(out, b'K', |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// NegotiateProtocolVersion: protocol 3.0, and the options that are not known.
pub fn negotiate(out: &mut Vec<u8>, unknown: &[&str]) {
    message(out, b'v', |out| {
        out.extend_from_slice(&(3u32 << 16).to_be_bytes());
        let count = u32::try_from(unknown.len()).expect("a startup packet is short");
        out.extend_from_slice(&count.to_be_bytes());
        for option in unknown {
            text(out, option.as_bytes());
        }
    });
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| text(out, tag.as_bytes()));
}

/// RowDescription of columns that are all text.
pub fn row_description(out: &mut Vec<u8>, columns: &[&str]) {
    const TEXT_OID: u32 = 25;
    message(out, b'T', |out| {
        count(out, columns.len());
        for column in columns {
            text(out, column.as_bytes());
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&TEXT_OID.to_be_bytes());
            out.extend_from_slice(&(-1i16).to_be_bytes());
            out.extend_from_slice(&(-1i32).to_be_bytes());
            out.extend_from_slice(&0u16.to_be_bytes());
        }
    });
}

/// DataRow of texts.
pub fn data_row(out: &mut Vec<u8>, values: &[String]) {
    message(out, b'D', |out| {
        count(out, values.len());
        for value in values {
            let length = u32::try_from(value.len()).expect("a value of ours is short");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    });
}

fn count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("our own tables are narrow");
    out.extend_from_slice(&count.to_be_bytes());
}

/// A client's Query.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, b'Q', |out| text(out, sql));
}

/// A client's Parse; the definition is the query, its zero byte and the parameters' types.
pub fn parse(out: &mut Vec<u8>, name: &[u8], definition: &[u8]) {
    message(out, b'P', |out| {
        text(out, name);
        out.extend_from_slice(definition);
    });
}

/// A client's Describe (`D`) or Close (`C`) of a statement.
pub fn statement(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    message(out, tag, |out| {
        out.push(b'S');
        text(out, name);
    });
}

/// Parse, Bind, Execute and Sync of an unnamed statement with texts for parameters; rows come as texts.
pub fn run(out: &mut Vec<u8>, sql: &[u8], parameters: &[&str]) {
    // No types: the server finds them out.
    let definition = [sql, b"\0\0\0"].concat();
    parse(out, b"", &definition);
    message(out, b'B', |out| {
        // Portal and statement without names, no format codes.
        out.extend_from_slice(b"\0\0\0\0");
        let count = u16::try_from(parameters.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for value in parameters {
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"\0\0");
    });
    // The portal without a name; all rows.
    message(out, b'E', |out| out.extend_from_slice(b"\0\0\0\0\0"));
    message(out, b'S', |_| {});
}

/// A client's answer to a request for a password, or a SASL response.
pub fn password(out: &mut Vec<u8>, answer: &[u8]) {
    message(out, b'p', |out| out.extend_from_slice(answer));
}

/// A client's first SASL message.
pub fn sasl_initial(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    message(out, b'p', |out| {
        text(out, mechanism.as_bytes());
        let length = u32::try_from(data.len()).expect("SASL messages are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(data);
    });
}
