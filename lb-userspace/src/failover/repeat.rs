//! What becomes of a statement whose server was lost: docs/failures.md as a function.

/// SQLSTATEs that clients are told.
pub mod code {
    /// The connection to the server was lost; nothing is in doubt.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// COMMIT was sent, and its answer was lost: the transaction may be committed.
    pub const RESOLUTION_UNKNOWN: &str = "08007";
    /// A statement that writes was sent, and its answer was lost: it may be done.
    pub const COMPLETION_UNKNOWN: &str = "40003";
    /// There is no primary: nothing was sent.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// What the session has written or seen is in no server's history any more.
    pub const ROLLED_BACK: &str = "40000";
}

/// What a segment does, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Only reads, outside a transaction, that are surely reads.
    Read,
    /// May write, and commits by itself: also CALL, COPY, and several statements in one query.
    Write,
    /// Something within an open transaction, but not its end.
    InTransaction,
    /// The end of a transaction that commits: COMMIT, END, PREPARE TRANSACTION.
    Commit,
    /// The end of a transaction that does not: ROLLBACK.
    Rollback,
}

/// How far it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Progress {
    /// No byte of it reached a server.
    NotSent,
    /// Some did; no byte of an answer went to the client.
    Sent,
    /// The client has some of the answer.
    Begun,
}

/// The state that ReadyForQuery shows after the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `I`: no transaction.
    Idle,
    /// `E`: the client's transaction has failed, and waits for its ROLLBACK.
    Failed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Run it again, on another server.
    Repeat,
    /// Hold it until there is a primary, at most `failover_timeout`; then
    /// [`code::CANNOT_CONNECT_NOW`].
    Wait,
    /// Say that it is done: the transaction that it ends is gone in any case.
    Confirm,
    /// Tell the client.
    Tell(&'static str, State),
}

/// What becomes of a segment whose server was lost while it had come so far.
#[must_use]
pub const fn after_loss(work: Work, progress: Progress) -> Then {
    match (work, progress) {
        (Work::Read, Progress::NotSent | Progress::Sent) => Then::Repeat,
        (Work::Read, Progress::Begun) => Then::Tell(code::CONNECTION_FAILURE, State::Idle),
        (Work::Write, Progress::NotSent) => Then::Wait,
        (Work::Write, Progress::Sent | Progress::Begun) => {
            Then::Tell(code::COMPLETION_UNKNOWN, State::Idle)
        }
        // A server that is gone has rolled back what was not committed.
        (Work::InTransaction, _) => Then::Tell(code::CONNECTION_FAILURE, State::Failed),
        (Work::Commit, Progress::NotSent) => Then::Tell(code::CONNECTION_FAILURE, State::Idle),
        (Work::Commit, Progress::Sent | Progress::Begun) => {
            Then::Tell(code::RESOLUTION_UNKNOWN, State::Idle)
        }
        (Work::Rollback, _) => Then::Confirm,
    }
}
