//! Which answers a server still owes, in their order. That is how a message of the server is known
//! to belong to a client's message, to one of ours, or to nobody any more.

use std::collections::VecDeque;

use super::awaited_room;
use super::statements::Prepared;

/// What one message that was sent is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Whatever comes up to ReadyForQuery: a simple query or a function call.
    Query,
    /// ReadyForQuery, which the client gets; nothing else does it get of a query that we sent by
    /// ourselves.
    OwnQuery,
    /// ReadyForQuery.
    Sync,
    /// ParseComplete. The statement's id if it is one of ours, else 0.
    Parse(u64),
    /// ParseComplete of a statement that we sent by ourselves: the client does not get it.
    OwnParse(u64),
    /// CloseComplete of a statement that we let the server forget: the client does not get it.
    OwnClose(u64),
    Bind,
    Describe,
    Execute,
    Close,
    /// Nothing: the end of COPY data.
    CopyEnd,
    /// Not the server but we answer: ParseComplete for what the server knows already.
    AnswerParse,
    /// Not the server but we answer: CloseComplete for what the server is to keep.
    AnswerClose,
}

/// What becomes of a message of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The client gets it.
    Pass,
    /// It answers something that we sent by ourselves.
    Swallow,
}

/// The answers that are owed, and the transaction's state.
#[derive(Debug)]
pub struct Answers {
    pub awaited: VecDeque<Awaited>,
    /// As the last ReadyForQuery said: `I`, `T` or `E`.
    pub state: u8,
    /// An error came: the server ignores everything up to the next Sync, which is yet to be sent.
    pub skipping: bool,
    /// The server takes COPY data, of which the end was not sent yet.
    pub copying_in: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            awaited: awaited_room(),
            state: b'I',
            skipping: false,
            copying_in: false,
        }
    }
}

impl Answers {
    /// Whether nothing is owed and no transaction is open.
    pub fn is_idle(&self) -> bool {
        self.awaited.is_empty() && self.state == b'I' && !self.skipping
    }

    /// Whether what comes answers a query that we sent by ourselves.
    pub fn is_own_query(&self) -> bool {
        self.awaited.front() == Some(&Awaited::OwnQuery)
    }

    /// A message was sent.
    pub fn sent(&mut self, awaited: Awaited, prepared: &mut Prepared) {
        match awaited {
            // Ignored by a server that takes COPY data.
            Awaited::Sync if self.copying_in => {}
            Awaited::Sync | Awaited::Query | Awaited::OwnQuery => {
                self.skipping = false;
                self.awaited.push_back(awaited);
            }
            Awaited::CopyEnd => {
                self.copying_in = false;
                self.awaited.push_back(awaited);
            }
            _ if self.skipping => undo(awaited, prepared),
            _ => self.awaited.push_back(awaited),
        }
    }

    /// A message came that completes what is owed first, if that is what it completes.
    pub fn complete(&mut self, tag: u8) -> Fate {
        while self.awaited.front() == Some(&Awaited::CopyEnd) {
            self.awaited.pop_front();
        }
        let fate = match (tag, self.awaited.front()) {
            (b'1', Some(Awaited::OwnParse(_))) | (b'3', Some(Awaited::OwnClose(_))) => {
                Fate::Swallow
            }
            (b'1', Some(Awaited::Parse(_)))
            | (b'2', Some(Awaited::Bind))
            | (b'3', Some(Awaited::Close))
            | (b'T' | b'n', Some(Awaited::Describe))
            | (b'C' | b'I' | b's', Some(Awaited::Execute)) => Fate::Pass,
            _ => return Fate::Pass,
        };
        self.awaited.pop_front();
        fate
    }

    /// An error came. Outside a simple query, nothing up to the next Sync is answered.
    pub fn fail(&mut self, prepared: &mut Prepared) {
        self.copying_in = false;
        loop {
            match self.awaited.front() {
                Some(Awaited::Query | Awaited::OwnQuery | Awaited::Sync) => return,
                Some(&ignored) => {
                    undo(ignored, prepared);
                    self.awaited.pop_front();
                }
                None => {
                    self.skipping = true;
                    return;
                }
            }
        }
    }

    /// The server takes COPY data now. A Sync before their end is not answered.
    pub fn copy_in(&mut self) {
        let end = self
            .awaited
            .iter()
            .position(|awaited| *awaited == Awaited::CopyEnd);
        if self.awaited.front() == Some(&Awaited::Execute) {
            let mut place = 0;
            self.awaited.retain(|awaited| {
                let is_before = end.is_none_or(|end| place < end);
                place += 1;
                !(is_before && *awaited == Awaited::Sync)
            });
        }
        self.copying_in = end.is_none();
    }

    /// ReadyForQuery came.
    pub fn ready(&mut self, state: u8, prepared: &mut Prepared) {
        self.state = state;
        self.copying_in = false;
        while let Some(awaited) = self.awaited.pop_front() {
            if matches!(awaited, Awaited::Query | Awaited::OwnQuery | Awaited::Sync) {
                break;
            }
            undo(awaited, prepared);
        }
    }

    /// What we are to answer now by ourselves.
    pub fn own(&mut self) -> Option<Awaited> {
        while self.awaited.front() == Some(&Awaited::CopyEnd) {
            self.awaited.pop_front();
        }
        match self.awaited.front() {
            Some(&own @ (Awaited::AnswerParse | Awaited::AnswerClose)) => {
                self.awaited.pop_front();
                Some(own)
            }
            _ => None,
        }
    }
}

/// A statement whose Parse was ignored is not known to the server; one whose Close was is.
fn undo(awaited: Awaited, prepared: &mut Prepared) {
    match awaited {
        Awaited::Parse(id) | Awaited::OwnParse(id) => prepared.forget(id),
        Awaited::OwnClose(id) => prepared.keeps(id),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(awaited: &[Awaited]) -> (Answers, Prepared) {
        let (mut answers, mut prepared) = (Answers::default(), Prepared::default());
        for &one in awaited {
            answers.sent(one, &mut prepared);
        }
        (answers, prepared)
    }

    #[test]
    fn answers_to_our_own_messages_are_swallowed() {
        let (mut answers, mut prepared) = with(&[
            Awaited::OwnParse(1),
            Awaited::Bind,
            Awaited::Execute,
            Awaited::Sync,
        ]);
        assert_eq!(answers.complete(b'1'), Fate::Swallow);
        for tag in [b'2', b'D', b'C'] {
            assert_eq!(answers.complete(tag), Fate::Pass);
        }
        assert!(!answers.is_idle());
        answers.ready(b'I', &mut prepared);
        assert!(answers.is_idle());
    }

    #[test]
    fn an_error_voids_everything_up_to_the_sync() {
        let (mut answers, mut prepared) = with(&[Awaited::OwnParse(1), Awaited::Bind]);
        let _ = prepared.learn(1, 9);
        answers.fail(&mut prepared);
        assert!(!prepared.touch(1), "the server never learned it");
        answers.sent(Awaited::Execute, &mut prepared);
        assert!(answers.awaited.is_empty() && !answers.is_idle());
        answers.sent(Awaited::Sync, &mut prepared);
        answers.ready(b'I', &mut prepared);
        assert!(answers.is_idle());
    }

    #[test]
    fn an_unnamed_statement_that_was_ignored_is_nobodys() {
        for (what, sent_after, is_known) in [
            ("parsed", false, true),
            ("ignored with what came before it", true, false),
        ] {
            let (mut answers, mut prepared) = with(&[Awaited::Bind]);
            if !sent_after {
                answers.complete(b'2');
            }
            prepared.unnamed = 7;
            answers.sent(Awaited::Parse(0), &mut prepared);
            if sent_after {
                answers.fail(&mut prepared);
            } else {
                answers.complete(b'1');
            }
            assert_eq!(prepared.unnamed == 7, is_known, "{what}");
        }
        // The error was known before it was sent.
        let (mut answers, mut prepared) = with(&[]);
        answers.fail(&mut prepared);
        prepared.unnamed = 7;
        answers.sent(Awaited::Parse(0), &mut prepared);
        assert_ne!(prepared.unnamed, 7);
    }

    #[test]
    fn a_sync_that_copy_ignores_is_not_waited_for() {
        let (mut answers, mut prepared) = with(&[Awaited::Bind, Awaited::Execute, Awaited::Sync]);
        answers.complete(b'2');
        answers.copy_in();
        answers.sent(Awaited::Sync, &mut prepared);
        answers.sent(Awaited::CopyEnd, &mut prepared);
        answers.sent(Awaited::Sync, &mut prepared);
        assert_eq!(answers.complete(b'C'), Fate::Pass);
        answers.ready(b'I', &mut prepared);
        assert!(answers.is_idle());
    }

    #[test]
    fn a_sync_after_copy_data_that_were_sent_ahead_is_waited_for() {
        let (mut answers, mut prepared) =
            with(&[Awaited::Execute, Awaited::CopyEnd, Awaited::Sync]);
        answers.copy_in();
        assert!(!answers.copying_in);
        answers.complete(b'C');
        assert!(!answers.is_idle());
        answers.ready(b'I', &mut prepared);
        assert!(answers.is_idle());
    }

    #[test]
    fn what_we_answer_comes_in_its_turn() {
        let (mut answers, _) = with(&[Awaited::Bind, Awaited::AnswerParse, Awaited::Sync]);
        assert_eq!(answers.own(), None);
        answers.complete(b'2');
        assert_eq!(answers.own(), Some(Awaited::AnswerParse));
        assert_eq!(answers.own(), None);
    }
}
