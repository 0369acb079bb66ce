//! The simulated world: servers, daemons, and messages between them that take their time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::daemon::{Daemon, FIRST_LOOK, SESSIONS, SHARD};
use super::schedule::{DAEMONS, FOREIGN, SERVERS, Schedule, Step, TICKS};
use super::server::{Refused, Server, Write};
use crate::failover::{Floor, Progress, Reads, ServerId, Then, Work, Writes, after_loss};
use crate::wire::postgres::link::{Epoch, Heartbeat, Lsn};

/// A rule that a run does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// The highest epoch takes writes, not the furthest server.
    HighestEpoch,
    /// Two primaries of an epoch get nothing.
    Dispute,
    /// A server of another cluster gets nothing.
    System,
    /// The highest epoch outlives the daemon.
    Persistence,
    /// What another daemon attested to a proxy counts.
    Gossip,
    /// A proxy fences a primary of an epoch that is over.
    Fence,
    /// A proxy checks the floor.
    FloorAtProxy,
    /// A write carries its session's floor.
    FloorOfWrites,
    /// It checks what this life of the server has replayed.
    Incarnation,
    /// A write that was sent is not sent again.
    Repeat,
    /// A write whose answer is lost is in doubt, and not undone.
    Doubt,
}

impl Lacking {
    pub(super) const ALL: &[Self] = &[
        Self::HighestEpoch,
        Self::Dispute,
        Self::System,
        Self::Persistence,
        Self::Gossip,
        Self::Fence,
        Self::FloorAtProxy,
        Self::FloorOfWrites,
        Self::Incarnation,
        Self::Repeat,
        Self::Doubt,
    ];
}

/// How much of what is promised was put to the test.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) writes_done: u64,
    pub(super) in_doubt: u64,
    pub(super) reads_by_standbys: u64,
    pub(super) reads_by_primaries: u64,
    pub(super) reads_refused: u64,
    pub(super) promotions: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.writes_done += more.writes_done;
        self.in_doubt += more.in_doubt;
        self.reads_by_standbys += more.reads_by_standbys;
        self.reads_by_primaries += more.reads_by_primaries;
        self.reads_refused += more.reads_refused;
        self.promotions += more.promotions;
    }
}

enum Message {
    Beat(usize, usize, Box<Heartbeat>),
    Attest(usize, Epoch),
    Write(Request),
    Read(Request),
    /// The write, where it lies, and its position; or that it was refused.
    Answer(Request, Result<Floor, Refused>),
    /// The connection is given up.
    Broken(Request),
}

#[derive(Clone, Copy)]
struct Request {
    number: u64,
    daemon: usize,
    session: usize,
    server: usize,
    write: Write,
    floor: Floor,
}

pub(super) struct World {
    random: fastrand::Rng,
    lacking: Option<Lacking>,
    began: Instant,
    tick: u32,
    servers: Vec<Server>,
    daemons: Vec<Daemon>,
    requests: u64,
    /// Two servers were primaries of one epoch: a copy was started, or both were promoted at the very
    /// same position. Positions of that epoch mean two things, and nobody can tell until both are
    /// heard. Then writes are refused, as ever.
    is_cloned: bool,
    parted_until: [[u32; SERVERS]; DAEMONS],
    slow_until: [[u32; SERVERS]; DAEMONS],
    messages: Vec<(u32, Message)>,
    next_write: Write,
    /// What clients were told of each write.
    outcomes: HashMap<Write, Outcome>,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Undone,
    Doubt,
}

impl World {
    pub(super) fn new(seed: u64, lacking: Option<Lacking>) -> Self {
        let began = Instant::now();
        // In every other world, the last server is a standby like the others.
        let is_foreign = |id| id == FOREIGN && seed.is_multiple_of(2);
        let server = |id| match is_foreign(id) {
            true => Server::new(2, true),
            false => Server::new(1, id == 0),
        };
        let mut world = Self {
            random: fastrand::Rng::with_seed(!seed),
            lacking,
            began,
            tick: 0,
            servers: (0..SERVERS).map(server).collect(),
            daemons: (0..DAEMONS).map(|_| Daemon::new(began)).collect(),
            requests: 0,
            is_cloned: false,
            parted_until: [[0; SERVERS]; DAEMONS],
            slow_until: [[0; SERVERS]; DAEMONS],
            messages: Vec::new(),
            next_write: 1,
            outcomes: HashMap::new(),
            seen: Seen::default(),
        };
        // The cluster is known before another's server is configured by mistake: who hears only that
        // one, and has nothing persisted, cannot know better.
        for looked in [began, began + FIRST_LOOK] {
            for (daemon, server) in (0..DAEMONS).flat_map(|id| (0..FOREIGN).map(move |it| (id, it)))
            {
                let beat = world.servers[server].heartbeat();
                world.daemons[daemon].hears(server, beat, lacking, looked);
            }
        }
        world
    }

    pub(super) fn run(mut self, schedule: &Schedule) -> Result<Seen, String> {
        let mut steps = schedule.steps.iter().peekable();
        while self.tick < TICKS {
            while let Some((_, step)) = steps.next_if(|(at, _)| *at <= self.tick) {
                self.happens(*step);
            }
            self.replicate();
            self.beat();
            self.clients()?;
            self.deliver()?;
            self.tick += 1;
        }
        self.audit()?;
        Ok(self.seen)
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_millis(u64::from(self.tick) * 10)
    }

    fn happens(&mut self, step: Step) {
        let tick = self.tick;
        match step {
            Step::Promote(id) if !self.servers[id].is_primary => {
                self.servers[id].promote();
                self.seen.promotions += 1;
                let epoch = self.servers[id].epoch();
                let of_it = self.servers.iter().filter(|server| server.epoch() == epoch);
                self.is_cloned |= of_it.count() > 1;
            }
            Step::Promote(_) => {}
            Step::Pause(id, ticks) => self.servers[id].paused_until = tick + ticks,
            Step::Restart(id) => self.servers[id].restart(),
            Step::Rebuild(id) => {
                let newest = self.newest();
                if newest != id {
                    let (attested, life) =
                        (self.servers[id].attested, self.servers[id].incarnation);
                    let mut anew = self.servers[newest].clone();
                    anew.is_primary = false;
                    anew.attested = attested;
                    anew.incarnation = life + 1;
                    self.servers[id] = anew;
                }
            }
            Step::Clone(from, to) => {
                if from != to && self.servers[from].is_primary {
                    let attested = self.servers[to].attested;
                    self.servers[to] = self.servers[from].clone();
                    self.servers[to].attested = attested;
                    self.servers[to].incarnation += 1;
                    self.is_cloned = true;
                }
            }
            Step::Part(daemon, id, ticks) => self.parted_until[daemon][id] = tick + ticks,
            Step::Lag(id, ticks) => self.servers[id].lags_until = tick + ticks,
            Step::Forget(daemon) => {
                let now = self.now();
                self.daemons[daemon].restart(self.lacking, now);
            }
            Step::Slow(daemon, id, ticks) => self.slow_until[daemon][id] = tick + ticks,
        }
    }

    /// The primary that a failover manager means: the last one promoted.
    fn newest(&self) -> usize {
        let primaries = (0..FOREIGN).filter(|id| self.servers[*id].is_primary);
        let newest = primaries.max_by_key(|id| self.servers[*id].epoch().timeline);
        newest.unwrap_or(0)
    }

    fn replicate(&mut self) {
        let primary = self.servers[self.newest()].clone();
        for server in &mut self.servers {
            if server.is_primary || server.paused_until > self.tick {
                continue;
            }
            if server.lags_until <= self.tick
                && primary.is_primary
                && primary.paused_until <= self.tick
            {
                server.follow(&primary, self.random.usize(..3));
            }
            server.replay(self.random.usize(..3));
        }
    }

    fn beat(&mut self) {
        for id in 0..SERVERS {
            if self.servers[id].paused_until > self.tick
                || !(self.tick as usize + id).is_multiple_of(5)
            {
                continue;
            }
            let beat = Box::new(self.servers[id].heartbeat());
            for daemon in 0..DAEMONS {
                self.send(daemon, id, Message::Beat(daemon, id, beat.clone()));
            }
        }
    }

    fn send(&mut self, daemon: usize, server: usize, message: Message) {
        if self.parted_until[daemon][server] > self.tick {
            // What the network swallows shows as a broken connection, sooner or later.
            if let Message::Write(request) | Message::Read(request) | Message::Answer(request, _) =
                message
            {
                self.messages
                    .push((self.tick + 12, Message::Broken(request)));
            }
            return;
        }
        let slow = u32::from(self.slow_until[daemon][server] > self.tick) * 20;
        let delay = 1 + self.random.u32(..3) + self.random.u32(..=slow);
        self.messages.push((self.tick + delay, message));
    }

    fn clients(&mut self) -> Result<(), String> {
        for daemon in 0..DAEMONS {
            let session = self.random.usize(..SESSIONS);
            if self.daemons[daemon].sessions[session].awaits.is_some() {
                continue;
            }
            if self.random.bool() {
                let write = self.next_write;
                self.next_write += 1;
                self.write(daemon, session, write)?;
            } else {
                self.read(daemon, session);
            }
        }
        Ok(())
    }

    fn write(&mut self, daemon: usize, session: usize, write: Write) -> Result<(), String> {
        let now = self.now();
        let Writes::To { server, epoch } = self.daemons[daemon].writes(self.lacking, now) else {
            // It waits in the line, and is told 57P03 in the end: here at once.
            self.outcomes.entry(write).or_insert(Outcome::Undone);
            return Ok(());
        };
        let server = usize::from(server.0);
        let told = &self.daemons[daemon].told;
        let highest = told.highest.unwrap_or_default();
        if epoch.system != highest.system || self.servers[server].system != 1 {
            return Err(format!("write {write} goes to another cluster"));
        }
        if highest.is_after(&epoch) {
            return Err(format!(
                "write {write} goes to {epoch}, and {highest} is known"
            ));
        }
        if told.is_disputed() {
            return Err(format!(
                "write {write} goes to one of two primaries of {epoch}"
            ));
        }
        let request = Request {
            number: self.number(daemon, session),
            daemon,
            session,
            server,
            write,
            // A session that has seen what the new primary lost must hear of it, not write on.
            floor: match self.daemons[daemon].sessions[session].floor {
                floor
                    if floor.epoch.is_unknown() || self.lacking == Some(Lacking::FloorOfWrites) =>
                {
                    Floor {
                        epoch,
                        position: Lsn(0),
                    }
                }
                floor => floor,
            },
        };
        self.send(daemon, server, Message::Write(request));
        Ok(())
    }

    fn read(&mut self, daemon: usize, session: usize) {
        let now = self.now();
        let floor = self.daemons[daemon].sessions[session].floor;
        let mut order = Vec::new();
        let reads = self.daemons[daemon]
            .view
            .reads(SHARD, &floor, session as u64, now, &mut order);
        let (Reads::Some, Some(ServerId(server))) = (reads, order.first()) else {
            self.seen.reads_refused += 1;
            return;
        };
        let request = Request {
            number: self.number(daemon, session),
            daemon,
            session,
            server: usize::from(*server),
            write: 0,
            floor,
        };
        self.send(daemon, request.server, Message::Read(request));
    }

    fn deliver(&mut self) -> Result<(), String> {
        let tick = self.tick;
        let mut due = Vec::new();
        self.messages.retain_mut(|(at, message)| {
            let is_due = *at <= tick;
            if is_due {
                let nothing = Message::Attest(FOREIGN, Epoch::default());
                due.push(std::mem::replace(message, nothing));
            }
            !is_due
        });
        for message in due {
            self.arrives(message)?;
        }
        Ok(())
    }

    fn arrives(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Beat(daemon, server, beat) => {
                let now = self.now();
                let newer = self.daemons[daemon].hears(server, *beat, self.lacking, now);
                if let Some(epoch) = newer {
                    for server in 0..SERVERS {
                        self.send(daemon, server, Message::Attest(server, epoch));
                    }
                }
            }
            Message::Attest(server, epoch) => self.servers[server].attest(epoch),
            Message::Write(request) => self.at_server(request, true)?,
            Message::Read(request) => self.at_server(request, false)?,
            Message::Answer(request, answer) => self.answered(&request, answer)?,
            Message::Broken(request) => self.broken(&request)?,
        }
        Ok(())
    }

    fn at_server(&mut self, request: Request, writes: bool) -> Result<(), String> {
        let (lacking, tick) = (self.lacking, self.tick);
        let server = &mut self.servers[request.server];
        if server.paused_until > tick {
            // It lies in a buffer until the host goes on; the daemon gives up sooner.
            let later = server.paused_until + 1;
            let again = if writes {
                Message::Write(request)
            } else {
                Message::Read(request)
            };
            self.messages.push((later, again));
            self.messages.push((tick + 12, Message::Broken(request)));
            return Ok(());
        }
        if let Err(refused) = server.admits(&request.floor, writes, lacking) {
            self.send(
                request.daemon,
                request.server,
                Message::Answer(request, Err(refused)),
            );
            return Ok(());
        }
        let epoch = server.epoch();
        if writes {
            let attested = server.attested.unwrap_or_default();
            if attested.is_after(&epoch) {
                return Err(format!(
                    "write {} is taken by {epoch} after {attested} was attested",
                    request.write
                ));
            }
            server.log.push(request.write);
            server.replayed = server.log.len();
        } else {
            let is_standby = !server.is_primary;
            self.sees(&request)?;
            if is_standby {
                self.seen.reads_by_standbys += 1;
            } else {
                self.seen.reads_by_primaries += 1;
            }
        }
        let position = Lsn(self.servers[request.server].position() as u64);
        let answer = Ok(Floor { epoch, position });
        self.send(
            request.daemon,
            request.server,
            Message::Answer(request, answer),
        );
        Ok(())
    }

    /// Whether a read shows all that was acknowledged to its session.
    fn sees(&self, request: &Request) -> Result<(), String> {
        if !self.is_awaited(request) || self.is_cloned {
            return Ok(());
        }
        let server = &self.servers[request.server];
        let shown = &server.log[..server.position().min(server.log.len())];
        let written = &self.daemons[request.daemon].sessions[request.session].written;
        match written.iter().find(|write| !shown.contains(write)) {
            None => Ok(()),
            Some(write) => Err(format!(
                "a read on server {} does not see write {write}",
                request.server
            )),
        }
    }

    fn answered(
        &mut self,
        request: &Request,
        answer: Result<Floor, Refused>,
    ) -> Result<(), String> {
        if !self.is_awaited(request) {
            return Ok(());
        }
        let session = &mut self.daemons[request.daemon].sessions[request.session];
        session.awaits = None;
        match answer {
            Ok(floor) if request.write != 0 => {
                session.floor = floor;
                session.written.push(request.write);
                self.outcomes.insert(request.write, Outcome::Done);
                self.seen.writes_done += 1;
            }
            Ok(_) => {}
            Err(Refused::Lost) => {
                // The client is told, and begins anew.
                session.floor = Floor::default();
                session.written.clear();
                self.outcomes
                    .entry(request.write)
                    .or_insert(Outcome::Undone);
            }
            // The proxy answered before anything ran: a write is held for another primary.
            Err(_) if request.write != 0 => {
                self.write(request.daemon, request.session, request.write)?;
            }
            Err(_) => self.seen.reads_refused += 1,
        }
        Ok(())
    }

    fn broken(&mut self, request: &Request) -> Result<(), String> {
        if !self.is_awaited(request) {
            return Ok(());
        }
        self.daemons[request.daemon].sessions[request.session].awaits = None;
        if request.write == 0 {
            // A read is repeated elsewhere: the next one of this session.
            return Ok(());
        }
        let then = match self.lacking {
            Some(Lacking::Repeat) => Then::Wait,
            _ => after_loss(Work::Write, Progress::Sent),
        };
        match then {
            Then::Wait | Then::Repeat | Then::Confirm => {
                self.write(request.daemon, request.session, request.write)?;
            }
            Then::Tell(..) => {
                let outcome = match self.lacking {
                    Some(Lacking::Doubt) => Outcome::Undone,
                    _ => Outcome::Doubt,
                };
                self.outcomes.insert(request.write, outcome);
                self.seen.in_doubt += 1;
            }
        }
        Ok(())
    }

    /// Whether the session still waits for it: the daemon has not restarted, nor given it up.
    fn is_awaited(&self, request: &Request) -> bool {
        let session = &self.daemons[request.daemon].sessions[request.session];
        session.awaits == Some(request.number)
    }

    fn number(&mut self, daemon: usize, session: usize) -> u64 {
        self.requests += 1;
        self.daemons[daemon].sessions[session].awaits = Some(self.requests);
        self.requests
    }

    /// No log has a write twice, and none has one that its client was told is not done.
    fn audit(&self) -> Result<(), String> {
        for (id, server) in self.servers.iter().enumerate() {
            let mut counts: HashMap<Write, u32> = HashMap::new();
            for write in &server.log {
                *counts.entry(*write).or_default() += 1;
            }
            for (write, count) in counts {
                if count > 1 {
                    return Err(format!("server {id} has write {write} {count} times"));
                }
                if self.outcomes.get(&write) == Some(&Outcome::Undone) {
                    return Err(format!(
                        "server {id} has write {write}, which was called undone"
                    ));
                }
            }
        }
        Ok(())
    }
}
