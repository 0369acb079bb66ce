//! One data tier at work: clients ask, servers are counted, something is done to a server, and what
//! came of it is kept.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Data;
use super::clients::{Asked, Client, Clients};
use super::cost;
use super::served::{Count, Served};
use crate::act::Act;
use crate::measure::{Fault, Kind};
use crate::picture::{Chart, Series};
use crate::stage::Stage;
use crate::story::{ACT, Story};

/// What a tier is called, and how its part is shown.
#[derive(Clone, Copy)]
pub struct Show {
    /// In the report.
    pub tier: &'static str,
    /// Above the picture.
    pub title: &'static str,
    /// Below the table: why writes wait.
    pub why_writes_wait: &'static str,
}

/// A tier at work.
pub struct Scene<'a> {
    /// Where it plays.
    pub stage: &'a mut Stage,
    /// The tiers.
    pub data: &'a mut Data,
    show: Show,
    clients: Clients,
    served: Rc<Served>,
    story: Story,
}

impl<'a> Scene<'a> {
    /// Starts the clients and the counting.
    pub fn begin<C: Client>(
        stage: &'a mut Stage,
        data: &'a mut Data,
        show: Show,
        counts: Vec<Count>,
        client: impl Fn(usize) -> C + Clone + Send + Sync + 'static,
    ) -> Self {
        let served = Rc::new(Served::start(counts));
        let start = Instant::now();
        let clients = Clients::start(&data.client, client);
        stage.show(Some(Rc::clone(&served) as Rc<dyn crate::stage::Seen>));
        let story = Story::begin(stage, start);
        Self {
            stage,
            data,
            show,
            clients,
            served,
            story,
        }
    }

    /// Lets the undisturbed beginning pass.
    ///
    /// # Errors
    /// [`crate::interrupt::Interrupted`].
    pub fn warm_up(&mut self) -> Result<()> {
        self.stage.pass_until(self.story.start + ACT)
    }

    /// Says what will be done; the returned instant is right before it is.
    pub fn mark(&mut self, whom: &str, word: &str, text: &str) -> Instant {
        self.story.mark(self.stage, whom, word, text)
    }

    /// Waits until something is known; when that was.
    ///
    /// # Errors
    /// If it does not become so, or the demo is interrupted.
    pub fn known(&mut self, what: &str, is_so: impl Fn(&Data) -> bool) -> Result<Instant> {
        let data = &*self.data;
        self.stage.wait_until(what, || is_so(data))
    }

    /// Lets the time after a fault pass, and keeps it.
    ///
    /// # Errors
    /// [`crate::interrupt::Interrupted`].
    pub fn finish(
        &mut self,
        name: &'static str,
        whom: &str,
        kind: Kind,
        at: Instant,
        known: Instant,
    ) -> Result<()> {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let took = ms(known.saturating_duration_since(at));
        let text = format!("    every logic server knows {took:.0} ms after the fault");
        self.stage.console.happened(known, &text);
        let fault = Fault {
            tier: self.show.tier,
            name,
            whom: whom.to_owned(),
            kind,
            at,
            stored: known,
            stall: Duration::ZERO,
        };
        let until = Instant::now() + ACT;
        let finished = self.story.finish(self.stage, fault, until);
        let now = Instant::now();
        let (read, write) = cost::longest(&self.clients.so_far(), at, now);
        let (read, write) = (ms(read), ms(write));
        let text =
            format!("    since then a read took at most {read:.0} ms, a write {write:.0} ms");
        self.stage.console.happened(now, &text);
        finished
    }

    /// Stops the clients, and adds what came of it; returns all that they asked.
    pub fn end(mut self, acts: &mut Vec<Act>) -> Vec<Asked> {
        self.story.end();
        let asked = self.clients.stop();
        self.stage.show(None);
        self.stage.console.finish_rates();
        let span = self.story.span();
        let failed = asked
            .iter()
            .filter(|asked| asked.record.outcome.is_failure());
        let failed = failed.map(|asked| asked.record.end);
        let chart = Chart {
            title: self.show.title.to_owned(),
            servers: self.served.series(span),
            failed: Series::count("failed", failed, span),
            marks: self.story.marks.clone(),
        };
        let notes = format!(
            "detection: until every logic server knows; recovery: until the last request that failed or \
             took longer\nthan {:?}, reads and writes alike. {}",
            cost::HELD,
            self.show.why_writes_wait
        );
        let served = &self.served;
        acts.push(Act::new(
            self.story,
            served.names(),
            chart,
            notes,
            |fault, until| cost::cost(fault, until, &asked, served.between(fault.at, until)),
        ));
        asked
    }
}
