//! A tier on hosts of its own, two logic servers before it, clients, and what is done to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_tests::history::{Key, Operation, Target};
use lb_tests::logic::Logic;
use lb_tests::redis::{Place, Redis, Tier};
use lb_tests::wait;

/// Longer than Sentinels take for anything.
pub const SOON: Duration = Duration::from_secs(40);

/// How often a flapping server comes and goes, and for how long each time: shorter than any verdict.
const FLAPS: usize = 3;
const FLAP: Duration = Duration::from_millis(80);
/// Of each logic server's log.
const LINES_TOLD: usize = 60;

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Freeze,
    /// Nothing passes between it and anybody.
    CutOff,
    /// The same, after coming and going a few times, faster than anybody can agree on.
    Flap,
    /// Nothing passes between it and the first logic server.
    CutOffFromOne,
    /// Nothing passes between it and the Sentinels; logic servers and its copy reach it.
    CutOffFromSentinels,
}

/// How a killed server comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    Empty,
    OldData,
}

pub struct Scene {
    // Dropped in this order: who uses the servers goes first.
    pub logics: Vec<Logic>,
    pub client: Place,
    pub tier: Tier,
}

impl Scene {
    /// Three servers with copies, three Sentinels, two logic servers with further lines of
    /// `[cache]`.
    pub fn new(settings: &str) -> Result<Self> {
        let tier = Tier::builder().primaries(3).copies().sentinels(3).apart();
        Self::of(tier.build()?, settings)
    }

    pub fn of(tier: Tier, settings: &str) -> Result<Self> {
        let names = ["logic-1", "logic-2"];
        let logics = names.map(|name| tier.start_logic(name, settings));
        let client = tier.host("client")?;
        let logics: Vec<Logic> = logics.into_iter().collect::<Result<_>>()?;
        // Nobody waits for a first connection in a measurement.
        for logic in &logics {
            wait::until("the cache to be served", SOON, || {
                (0..50).all(|number| {
                    let key = format!("warm:{number}");
                    logic
                        .command(&["SET", &key, "1"])
                        .is_ok_and(|reply| !reply.is_error())
                })
            })?;
        }
        Ok(Self {
            logics,
            client,
            tier,
        })
    }

    /// The last that the logic servers logged, for whoever has to say why something failed.
    pub fn logs(&self) -> String {
        let last = |logic: &Logic| {
            let log = logic.log();
            let lines: Vec<_> = log.lines().rev().take(LINES_TOLD).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            format!("--- {}\n{}\n", logic.resp(), lines.join("\n"))
        };
        self.logics.iter().map(last).collect()
    }

    /// Both logic servers, for clients on a host of their own.
    pub fn targets(&self) -> Vec<Target> {
        let target = |logic: &Logic| Target {
            place: self.client.clone(),
            address: logic.resp(),
        };
        self.logics.iter().map(target).collect()
    }

    /// Which server of layer one has which key (a number from 0), as the servers themselves tell.
    pub fn owners(&self) -> Result<HashMap<Key, usize>> {
        let mut owners = HashMap::new();
        for number in 0..self.tier.primaries.len() {
            let keys = self.current(number)?.command(&["KEYS", "*"])?;
            let keys = keys.parts().iter();
            let keys = keys.filter_map(|key| key.text().parse::<Key>().ok());
            owners.extend(keys.map(|key| (key, number)));
        }
        Ok(owners)
    }

    /// Name and address of who Sentinel says holds the keys of a server of layer one.
    fn verdict(&self, number: usize) -> Result<SocketAddr> {
        let name = self.tier.primaries[number].name();
        self.tier.sentinels[0].primary(name)
    }

    fn pair(&self, number: usize) -> [&Redis; 2] {
        [&self.tier.primaries[number], &self.tier.copies[number]]
    }

    /// The server that takes writes now.
    pub fn current(&self, number: usize) -> Result<&Redis> {
        let address = self.verdict(number)?;
        let mut pair = self.pair(number).into_iter();
        pair.find(|server| server.address() == address)
            .with_context(|| format!("nobody is {address}"))
    }

    pub fn inject(&mut self, number: usize, fault: Fault) -> Result<String> {
        let name = self.current(number)?.name().to_owned();
        match fault {
            Fault::Kill => self.tier.server(&name)?.kill()?,
            Fault::Freeze => self.tier.server(&name)?.freeze()?,
            Fault::CutOff => {
                let place = self.tier.server(&name)?.place().clone();
                self.tier.segment()?.isolate(&place)?;
            }
            Fault::Flap => {
                let place = self.tier.server(&name)?.place().clone();
                for _ in 0..FLAPS {
                    self.flap(&place)?;
                }
                self.tier.segment()?.isolate(&place)?;
            }
            Fault::CutOffFromOne | Fault::CutOffFromSentinels => self.cut(&name, fault, true)?,
        }
        Ok(name)
    }

    /// Nothing passes for a moment, then everything.
    fn flap(&self, place: &Place) -> Result<()> {
        let segment = self.tier.segment()?;
        segment.isolate(place)?;
        thread::sleep(FLAP);
        segment.join(place)?;
        thread::sleep(FLAP);
        Ok(())
    }

    fn cut(&mut self, name: &str, fault: Fault, is_cut: bool) -> Result<()> {
        let place = self.tier.server(name)?.place().clone();
        let others: Vec<Place> = match fault {
            Fault::CutOffFromOne => vec![self.logics[0].place().clone()],
            _ => self
                .tier
                .sentinels
                .iter()
                .map(|it| it.place().clone())
                .collect(),
        };
        let segment = self.tier.segment()?;
        for other in &others {
            if is_cut {
                segment.cut(&place, other)?;
            } else {
                segment.mend(&place, other)?;
            }
        }
        Ok(())
    }

    /// Brings a server back; what it then says of itself is old.
    pub fn repair(&mut self, name: &str, fault: Fault, returns: Return) -> Result<()> {
        match (fault, returns) {
            (Fault::Kill, Return::Empty) => self.tier.server(name)?.start_empty(),
            // Its disk holds what was saved last; its file says what it was made as.
            (Fault::Kill, Return::OldData) => self.tier.server(name)?.start_as_first(),
            (Fault::Freeze, _) => self.tier.server(name)?.thaw(),
            (Fault::CutOff | Fault::Flap, _) => {
                let place = self.tier.server(name)?.place().clone();
                self.tier.segment()?.join(&place)?;
                if fault == Fault::Flap {
                    self.flap(&place)?;
                }
                Ok(())
            }
            _ => self.cut(name, fault, false),
        }
    }

    /// Waits until Sentinel has promoted the other of a pair.
    pub fn wait_for_verdict(&self, number: usize, lost: &str) -> Result<Instant> {
        wait::until("the promotion", SOON, || {
            self.current(number)
                .is_ok_and(|current| current.name() != lost)
        })?;
        Ok(Instant::now())
    }

    /// Waits until a server that came back follows the one that took its place.
    pub fn wait_until_follows(&mut self, name: &str) -> Result<()> {
        let server = self.tier.server(name)?;
        wait::until(&format!("{name} to follow"), SOON, || {
            server.info("role").is_ok_and(|role| role == "slave")
                && server.info("master_link_status").is_ok_and(|is| is == "up")
        })?;
        // Sentinels must know it again, or they could not promote it.
        for sentinel in &self.tier.sentinels {
            for primary in &self.tier.primaries {
                sentinel.wait_until_watched(primary.name(), 1, 2)?;
            }
        }
        Ok(())
    }
}

/// Of a history, those operations on keys of one server.
pub fn of_server<'o>(
    operations: &'o [Operation],
    owners: &'o HashMap<Key, usize>,
    number: usize,
) -> impl Iterator<Item = &'o Operation> {
    operations
        .iter()
        .filter(move |operation| owners.get(&operation.key) == Some(&number))
}
