//! Requests from the control socket.

use lb_common::backend::BackendId;
use tokio::sync::mpsc;

use super::Gateway;
use crate::agent::events::{event, now};
use crate::agent::intent::BackendIntent;
use crate::control::server::Call;
use crate::control::{Answer, Event, Intent, Request};

impl Gateway {
    /// Answers a request, at once or when it has been carried out.
    pub fn answer(&mut self, call: Call) {
        let Call { request, answers } = call;
        let answered = match request {
            Request::Status => Ok(Some(Answer::Status(Box::new(self.status())))),
            Request::Admin {
                backend,
                pool,
                intent,
            } => self.admin(&backend, pool.as_deref(), intent).map(Some),
            Request::Weight {
                backend,
                pool,
                weight,
            } => self.weigh(&backend, pool.as_deref(), weight, answers.clone()),
            Request::Reload { dry_run: true } => self.dry_run(answers.clone()).map(|()| None),
            Request::Reload { dry_run: false } => self.reload(Some(answers.clone())).map(|()| None),
            Request::Route {
                vip,
                protocol,
                from,
            } => self
                .route(vip, &protocol, from)
                .map(|route| Some(Answer::Route(Box::new(route)))),
            Request::Cache => Err(anyhow::anyhow!(
                "the agent has no cache; name the socket of lb logic with --socket"
            )),
            Request::Events { follow } => {
                self.events.send(follow, answers);
                return;
            }
        };
        match answered {
            Ok(Some(answer)) => send(&answers, answer),
            // It follows when the change has been written.
            Ok(None) => {}
            Err(error) => send(&answers, Answer::Error(format!("{error:#}"))),
        }
    }

    fn admin(&mut self, name: &str, pool: Option<&str>, intent: Intent) -> anyhow::Result<Answer> {
        let id = self.find(name, pool)?;
        let (text, change): (_, fn(&mut BackendIntent)) = match intent {
            Intent::Drain => ("drained", |intent| {
                intent.drained.get_or_insert_with(now);
            }),
            Intent::Undrain => ("no longer drained", |intent| intent.drained = None),
            Intent::Disable => ("disabled", |intent| {
                intent.disabled.get_or_insert_with(now);
            }),
            Intent::Enable => ("enabled", |intent| intent.disabled = None),
        };
        self.change_intent(id, "admin", text, change)?;
        let status = self.backend_status(id);
        status
            .map(|status| Answer::Backend(Box::new(status)))
            .ok_or_else(|| anyhow::anyhow!("backend {name} is gone"))
    }

    /// A new weight is written down at once and counts when the table has been built with it.
    fn weigh(
        &mut self,
        name: &str,
        pool: Option<&str>,
        weight: Option<u32>,
        answers: mpsc::Sender<Answer>,
    ) -> anyhow::Result<Option<Answer>> {
        anyhow::ensure!(
            weight.is_none_or(|weight| weight <= crate::config::WEIGHT_MAX),
            "a weight is at most {}",
            crate::config::WEIGHT_MAX
        );
        anyhow::ensure!(
            matches!(self.progress, super::Progress::Idle),
            "another change is under way; try again in a moment"
        );
        let id = self.find(name, pool)?;
        let text = match weight {
            Some(weight) => format!("weight set to {weight}"),
            None => "weight as configured".to_owned(),
        };
        let before = self.weight_intent(id);
        self.change_intent(id, "weight", &text, |intent| intent.weight = weight)?;
        self.reweight(answers, id, before)?;
        Ok(None)
    }

    /// The table could not be written with a weight: the one before counts.
    pub(super) fn take_weight_back(&mut self, id: BackendId, before: Option<u32>) {
        let change = |intent: &mut BackendIntent| intent.weight = before;
        if let Err(error) = self.change_intent(id, "weight", "weight as before", change) {
            tracing::error!("cannot write down the weight as it was: {error:#}");
        }
    }

    fn weight_intent(&self, id: BackendId) -> Option<u32> {
        let record = self.backends.get(id)?;
        self.intents.of(&record.pool, &record.config.name).weight
    }

    /// Writes the intent down first: what was answered must survive a crash right after.
    fn change_intent(
        &mut self,
        id: BackendId,
        kind: &str,
        text: &str,
        change: impl FnOnce(&mut BackendIntent),
    ) -> anyhow::Result<()> {
        let Some(record) = self.backends.get(id) else {
            return Ok(());
        };
        let (pool, backend) = (record.pool.clone(), record.config.name.clone());
        let before = self.intents.clone();
        self.intents.change(&pool, &backend, change);
        if self.intents == before {
            return Ok(());
        }
        if let Err(error) = self.intents.save(&self.config.agent.state) {
            self.intents = before;
            return Err(error.into());
        }
        self.events.record(Event {
            pool: Some(pool.clone()),
            backend: Some(backend.clone()),
            ..event(kind, format!("operator: {pool}/{backend} {text}"))
        });
        let intent = self.intents.of(&pool, &backend);
        self.update(id, None, |record| record.set_intent(&intent));
        Ok(())
    }

    /// The backend of this name, in this pool or in the only one that has it.
    fn find(&self, name: &str, pool: Option<&str>) -> anyhow::Result<BackendId> {
        let found: Vec<_> = self
            .backends
            .iter()
            .filter(|record| record.is_published && !record.is_removed)
            .filter(|record| record.config.name == name)
            .filter(|record| pool.is_none_or(|pool| record.pool == pool))
            .collect();
        match found[..] {
            [record] => Ok(record.id),
            [] => {
                let names: Vec<&str> = self
                    .backends
                    .iter()
                    .map(|record| record.config.name.as_str())
                    .take(20)
                    .collect();
                let place = pool.map_or(String::new(), |pool| format!(" in pool {pool:?}"));
                anyhow::bail!(
                    "no backend {name:?}{place}; there are: {}",
                    names.join(", ")
                )
            }
            _ => {
                let pools: Vec<&str> = found.iter().map(|record| record.pool.as_str()).collect();
                anyhow::bail!(
                    "backend {name:?} is in pools {}: name one with --pool",
                    pools.join(" and ")
                )
            }
        }
    }
}

fn send(answers: &mpsc::Sender<Answer>, answer: Answer) {
    // The client went away, or asked with a channel of its own that is full: it does not listen.
    let _ = answers.try_send(answer);
}
