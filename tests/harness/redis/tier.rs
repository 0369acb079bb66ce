//! A whole cache tier: layer one, layer two, Sentinels, and the configuration that fits it.
//!
//! Layer-one servers are `cache-1` …, their copies `cache-1-copy` …, spares `cache-s1` …. On hosts
//! of their own, every server, Sentinel and logic server has one, and any two can be cut apart.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::sentinel::Pace;
use super::{Place, Redis, Segment, Sentinel};
use crate::logic::Logic;
use crate::run_directory::RunDirectory;

/// What tier to build.
#[derive(Debug, Clone)]
pub struct TierBuilder {
    primaries: usize,
    copies: bool,
    spares: usize,
    sentinels: usize,
    apart: bool,
    pace: Pace,
    settings: String,
}

impl Default for TierBuilder {
    fn default() -> Self {
        Self {
            primaries: 3,
            copies: false,
            spares: 0,
            sentinels: 0,
            apart: false,
            pace: Pace::default(),
            settings: String::new(),
        }
    }
}

impl TierBuilder {
    /// So many layer-one servers.
    #[must_use]
    pub fn primaries(mut self, count: usize) -> Self {
        self.primaries = count;
        self
    }

    /// Each layer-one server has a copy.
    #[must_use]
    pub fn copies(mut self) -> Self {
        self.copies = true;
        self
    }

    /// So many spares.
    #[must_use]
    pub fn spares(mut self, count: usize) -> Self {
        self.spares = count;
        self
    }

    /// So many Sentinels, of which a majority decides.
    #[must_use]
    pub fn sentinels(mut self, count: usize) -> Self {
        self.sentinels = count;
        self
    }

    /// How fast they decide.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Everything on a host of its own, instead of all on loopback.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Further lines of every server's configuration.
    #[must_use]
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings = lines.to_owned();
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// If a server does not start, or the Sentinels do not find each other.
    pub fn build(self) -> Result<Tier> {
        let segment = self.apart.then(Segment::new).transpose()?;
        self.build_at(segment)
    }

    /// Builds it on a segment that others are on as well, as a site's.
    ///
    /// # Errors
    /// As [`TierBuilder::build`].
    pub fn build_on(self, segment: Segment) -> Result<Tier> {
        self.build_at(Some(segment))
    }

    fn build_at(self, segment: Option<Segment>) -> Result<Tier> {
        let run = RunDirectory::new()?;
        let place = |name: &str| match &segment {
            Some(segment) => segment.host(name),
            None => Ok(Place::here()),
        };
        let mut primaries = Vec::new();
        let mut copies = Vec::new();
        for number in 1..=self.primaries {
            let name = format!("cache-{number}");
            let primary = Redis::start_new(&run, &place(&name)?, &name, &self.settings)?;
            if self.copies {
                let name = format!("{name}-copy");
                copies.push(primary.copy(&run, &place(&format!("c{number}-copy"))?, &name)?);
            }
            primaries.push(primary);
        }
        let spare = |number| {
            let name = format!("cache-s{number}");
            Redis::start_new(&run, &place(&name)?, &name, &self.settings)
        };
        let spares = (1..=self.spares).map(spare).collect::<Result<_>>()?;
        let watched: Vec<&Redis> = primaries.iter().collect();
        let sentinel = |number| {
            let name = format!("sentinel-{number}");
            let quorum = self.sentinels / 2 + 1;
            Sentinel::start(&run, &place(&name)?, &name, &watched, quorum, self.pace)
        };
        let sentinels: Vec<Sentinel> = (1..=self.sentinels).map(sentinel).collect::<Result<_>>()?;
        for sentinel in &sentinels {
            for primary in &primaries {
                let copies = usize::from(self.copies);
                sentinel.wait_until_watched(primary.name(), copies, self.sentinels - 1)?;
            }
        }
        Ok(Tier {
            primaries,
            copies,
            spares,
            sentinels,
            segment,
            run,
        })
    }
}

/// The servers and their Sentinels; everything goes when it is dropped.
#[derive(Debug)]
pub struct Tier {
    /// Layer one.
    pub primaries: Vec<Redis>,
    /// Layer two: the copy of each layer-one server, if there are any.
    pub copies: Vec<Redis>,
    /// Layer two: the spares.
    pub spares: Vec<Redis>,
    /// Who decides, if anybody.
    pub sentinels: Vec<Sentinel>,
    segment: Option<Segment>,
    // Declared last: the data of all of the above lie in it.
    run: RunDirectory,
}

impl Tier {
    /// Begins with three layer-one servers on loopback, nobody behind them.
    pub fn builder() -> TierBuilder {
        TierBuilder::default()
    }

    /// Where everything lies.
    pub fn run(&self) -> &RunDirectory {
        &self.run
    }

    /// The network, if everything has a host of its own.
    ///
    /// # Errors
    /// If everything is on loopback.
    pub fn segment(&self) -> Result<&Segment> {
        self.segment.as_ref().context("all are on loopback")
    }

    /// A host for somebody else.
    ///
    /// # Errors
    /// If the machine refuses one.
    pub fn host(&self, name: &str) -> Result<Place> {
        match &self.segment {
            Some(segment) => segment.host(name),
            None => Ok(Place::here()),
        }
    }

    /// The table `[cache]` that fits this tier, with further lines.
    pub fn config(&self, settings: &str) -> String {
        let mut text = String::from("[cache]\n");
        if self.sentinels.is_empty() {
            text.push_str("authority = \"local\"\n");
        } else {
            let addresses = self
                .sentinels
                .iter()
                .map(|it| format!("\"{}\"", it.address()));
            let addresses: Vec<String> = addresses.collect();
            let _ = writeln!(
                text,
                "authority = \"sentinel\"\nsentinels = {{ addresses = [{}] }}",
                addresses.join(", ")
            );
        }
        text.push_str("primaries = [\n");
        for (number, primary) in self.primaries.iter().enumerate() {
            let copy = self.copies.get(number);
            let copy = copy.map(|copy| format!(", copy = \"{}\"", copy.address()));
            let _ = writeln!(
                text,
                "  {{ name = \"{}\", address = \"{}\"{} }},",
                primary.name(),
                primary.address(),
                copy.unwrap_or_default()
            );
        }
        text.push_str("]\n");
        if !self.spares.is_empty() {
            text.push_str("spares = [\n");
            for spare in &self.spares {
                let (name, address) = (spare.name(), spare.address());
                let _ = writeln!(text, "  {{ name = \"{name}\", address = \"{address}\" }},");
            }
            text.push_str("]\n");
        }
        text.push_str(settings);
        text.push('\n');
        text
    }

    /// Starts a logic server of this tier, with further lines of `[cache]`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_logic(&self, name: &str, settings: &str) -> Result<Logic> {
        Logic::start(&self.run, &self.host(name)?, name, &self.config(settings))
    }

    /// A layer-one server, a copy or a spare by name.
    ///
    /// # Errors
    /// If there is none.
    pub fn server(&mut self, name: &str) -> Result<&mut Redis> {
        let servers = [&mut self.primaries, &mut self.copies, &mut self.spares];
        let mut servers = servers.into_iter().flatten();
        servers
            .find(|server| server.name() == name)
            .with_context(|| format!("no server {name}"))
    }
}
