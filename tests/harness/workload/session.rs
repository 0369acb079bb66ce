//! One client's connection: made when it is needed, dropped when it failed; every step has a limit.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Statement};

use super::{Failure, Failures, Target};

/// Between two attempts to connect.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

/// A client of one target.
#[derive(Debug)]
pub(super) struct Session {
    target: Target,
    operation_max: Duration,
    open: Option<Open>,
    /// What connecting has failed with.
    pub connect_failures: Failures,
}

#[derive(Debug)]
struct Open {
    client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<&'static str, Statement>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    pub fn new(target: &Target, operation_max: Duration) -> Self {
        Self {
            target: target.clone(),
            operation_max,
            open: None,
            connect_failures: Failures::new(),
        }
    }

    /// Connects if there is no connection. `false` if that failed, which is counted; it took a moment.
    pub async fn connect(&mut self) -> bool {
        if self.open.is_some() {
            return true;
        }
        let connecting = tokio_postgres::connect(&self.target.0, NoTls);
        let failure = match tokio::time::timeout(self.operation_max, connecting).await {
            Ok(Ok((client, connection))) => {
                self.open = Some(Open {
                    client,
                    // How it ends is told to the operation under way.
                    connection: tokio::spawn(async move { drop(connection.await) }),
                    statements: HashMap::new(),
                });
                return true;
            }
            Ok(Err(error)) => failure(&error),
            Err(_) => Failure::Hung,
        };
        *self.connect_failures.entry(failure).or_default() += 1;
        tokio::time::sleep(RECONNECT_AFTER).await;
        false
    }

    /// Simple queries.
    pub async fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        let Some(open) = &self.open else {
            return Err(Failure::Closed);
        };
        let outcome = within(self.operation_max, open.client.batch_execute(sql)).await;
        self.keep(outcome)
    }

    /// A prepared statement with numbers as parameters; the first column of its rows, also numbers.
    pub async fn prepared(
        &mut self,
        sql: &'static str,
        numbers: &[i64],
    ) -> Result<Vec<i64>, Failure> {
        let outcome = self.run_prepared(sql, numbers).await;
        self.keep(outcome)
    }

    async fn run_prepared(
        &mut self,
        sql: &'static str,
        numbers: &[i64],
    ) -> Result<Vec<i64>, Failure> {
        let Some(open) = &mut self.open else {
            return Err(Failure::Closed);
        };
        let statement = match open.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = within(self.operation_max, open.client.prepare(sql)).await?;
                open.statements.insert(sql, statement.clone());
                statement
            }
        };
        let numbers: Vec<_> = numbers
            .iter()
            .map(|number| number as &(dyn tokio_postgres::types::ToSql + Sync))
            .collect();
        let rows = within(self.operation_max, open.client.query(&statement, &numbers)).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The first column of a simple query's rows.
    pub async fn simple_numbers(&mut self, sql: &str) -> Result<Vec<i64>, Failure> {
        let Some(open) = &self.open else {
            return Err(Failure::Closed);
        };
        let outcome = within(self.operation_max, open.client.simple_query(sql)).await;
        let messages = self.keep(outcome)?;
        let numbers = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        Ok(numbers.collect())
    }

    /// Leaves a transaction that failed. A connection that cannot even do that is dropped.
    pub async fn roll_back(&mut self) {
        if self.open.is_some() && self.simple("ROLLBACK").await.is_err() {
            self.open = None;
        }
    }

    /// Whoever was not answered in time, or whose connection ended, needs a new one.
    fn keep<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let is_over = match &outcome {
            Err(Failure::Closed | Failure::Hung) => true,
            // Not a server to write to: the next connection looks for one that is.
            Err(Failure::Sqlstate(code)) if code == "25006" => true,
            _ => self
                .open
                .as_ref()
                .is_some_and(|open| open.client.is_closed()),
        };
        if is_over {
            self.open = None;
        }
        outcome
    }
}

async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, operation).await {
        Ok(outcome) => outcome.map_err(|error| failure(&error)),
        Err(_) => Err(Failure::Hung),
    }
}

fn failure(error: &tokio_postgres::Error) -> Failure {
    error
        .code()
        .map(SqlState::code)
        .map_or(Failure::Closed, |code| Failure::Sqlstate(code.to_owned()))
}
