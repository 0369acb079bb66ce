//! The model and the real program side by side: every step is taken by both, and compared.

use anyhow::Result;
use lb_common::maps::name;
use lb_model::count::{Event as Told, Traffic};
use lb_model::duties::{Duties, Event};
use lb_model::generate::{Action, Mood, TIMES, act};
use lb_model::plane::{Plane, Verdict};
use lb_model::rules::Rules;
use lb_model::world::{ALIVE, NEW, OLD, OLDU, World};

use crate::kernel::{FLOWS_ENTRIES, Kernel};
use crate::mirror;
use crate::real_agent::RealAgent;

/// Model and program.
pub struct Bench {
    kernel: Kernel,
    plane: Plane,
    duties: Duties,
    real_agent: Option<RealAgent>,
    mood: Mood,
    /// What the maps hold, as far as this side knows.
    written: Option<World>,
    rules: Rules,
    /// Packets since the run began.
    packets: u64,
}

/// In what the two differ.
pub type Difference = String;

impl Bench {
    /// A bench around a program.
    #[must_use]
    pub fn new(kernel: Kernel, rules: Rules, world: World) -> Self {
        Self {
            kernel,
            duties: Duties::new(&world, TIMES),
            real_agent: None,
            mood: Mood::Calm,
            plane: Plane::new(world, FLOWS_ENTRIES as usize, rules),
            written: None,
            rules,
            packets: 0,
        }
    }

    /// Whether the model is whole, so that a difference is news.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.rules == Rules::ALL
    }

    /// Other rules for the model from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Begins a run: nothing is remembered, nothing counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn begin(&mut self, mut world: World, mood: Mood, now: u64) -> Result<()> {
        world.now = now;
        for map in [name::FLOWS, name::FLOWS_NEW] {
            let keys: Vec<_> = self.kernel.records(map)?.map(|(key, _)| *key).collect();
            for key in keys {
                self.kernel.delete(map, &key)?;
            }
        }
        self.kernel.zero_counters()?;
        while self.kernel.event().is_some() {}
        mirror::write(&self.kernel, self.written.as_ref(), &world)?;
        self.written = Some(world.clone());
        self.plane = Plane::new(world, FLOWS_ENTRIES as usize, self.rules);
        self.duties = Duties::new(&self.plane.world, TIMES);
        self.mood = mood;
        self.real_agent = (mood == Mood::Scheduled).then(|| RealAgent::new(&self.plane.world));
        self.packets = 0;
        Ok(())
    }

    /// What is there to decide on the next step by.
    #[must_use]
    pub fn situation(&self) -> (&World, &Duties) {
        (&self.plane.world, &self.duties)
    }

    /// What a frame meets now.
    #[must_use]
    pub fn describe(&self, frame: &[u8]) -> String {
        self.plane.describe(frame)
    }

    /// Takes one step; what differs then, if anything.
    ///
    /// # Errors
    /// The kernel's.
    pub fn step(&mut self, action: &Action, frame: &[u8]) -> Result<Option<Difference>> {
        if let Action::Frame(interface) = action {
            return self.frame(frame, *interface);
        }
        act(&mut self.plane, action);
        let difference = match (action, self.mood) {
            (Action::Agent(event), _) => self.agent(event)?,
            (Action::Advance(_), Mood::Scheduled) => self.agent(&Event::Tick)?,
            _ => None,
        };
        if let Action::Record(is_new, key, _) | Action::Forget(is_new, key) = action {
            mirror::write_record(&self.kernel, &self.plane, *is_new, key)?;
        }
        if let Some(written) = &mut self.written {
            mirror::follow(&self.kernel, written, &self.plane.world);
        }
        Ok(difference)
    }

    /// An event for both agents, the real one and the model's; the model's writes the maps.
    fn agent(&mut self, event: &Event) -> Result<Option<Difference>> {
        if !self.duties.takes(event) {
            return Ok(None);
        }
        let swept = match event {
            Event::Sweep => self.duties.dead_records(&self.plane),
            _ => Vec::new(),
        };
        let real = &mut self.real_agent;
        let difference = real.as_mut().and_then(|real| real.take(&self.plane, event));
        self.duties.take(&mut self.plane, event);
        for (is_new, key) in swept {
            mirror::write_record(&self.kernel, &self.plane, is_new, &key)?;
        }
        let world = &self.plane.world;
        let differs = |real: &RealAgent| real.difference(world, &self.duties);
        Ok(difference.or_else(|| self.real_agent.as_ref().and_then(differs)))
    }

    fn frame(&mut self, frame: &[u8], interface: u32) -> Result<Option<Difference>> {
        let flow_counts = self.plane.counters.flows;
        let verdict = self.plane.process(frame, interface);
        let (real, length) = self.kernel.run(frame, interface)?;
        self.packets += 1;
        if real != verdict {
            return Ok(Some(format!(
                "the program says {real:?}, the model {verdict:?}"
            )));
        }
        let expected = match verdict {
            Verdict::Drop => return Ok(self.broken(flow_counts)),
            // G6 and G7: what passes is as it came.
            Verdict::Pass => frame,
            Verdict::Transmit | Verdict::Redirect => &self.plane.out,
        };
        let output = &self.kernel.output()[..length];
        if output != expected && !is_other_zero(output, expected) {
            return Ok(Some(
                format!(
                    "{verdict:?}; the program made\n{}\nthe model\n{}",
                    lb_tests::packet::Frame(output.to_vec()).explain(),
                    lb_tests::packet::Frame(expected.to_vec()).explain(),
                ) + &hex(output, expected),
            ));
        }
        Ok(self.broken(flow_counts))
    }

    /// Guarantees that both might break alike.
    fn broken(&self, flow_counts: [u64; 10]) -> Option<Difference> {
        let plane = &self.plane;
        if plane.counters.packets() != self.packets {
            return Some("the model has counted a packet not once".into());
        }
        let state = plane.sent_to.map(|id| plane.world.state(id));
        if state.is_some_and(|state| state & (ALIVE | NEW | OLD | OLDU) == 0) {
            return Some("G2: sent to a backend that is down".into());
        }
        let suspicion = [7, 8, 9];
        let is_flow = |at: &usize| !suspicion.contains(at);
        let moved = (0..10)
            .filter(is_flow)
            .any(|at| plane.counters.flows[at] != flow_counts[at]);
        if plane.was_stable && moved {
            return Some("G4: a stable slot's packet touched the flow maps".into());
        }
        None
    }

    /// Compares all that is remembered, counted and told.
    ///
    /// # Errors
    /// The kernel's.
    pub fn checkpoint(&mut self) -> Result<Option<Difference>> {
        for (map, records) in [
            (name::FLOWS, &self.plane.flows),
            (name::FLOWS_NEW, &self.plane.flows_new),
        ] {
            let mut real = mirror::records(&mut self.kernel, map)?;
            let mut expected: Vec<_> = records
                .iter()
                .map(|(key, record)| (*key, *record))
                .collect();
            real.sort_by_key(|(key, _)| *key);
            expected.sort_by_key(|(key, _)| *key);
            if real != expected {
                return Ok(Some(format!("{map}: {}", lists(&real, &expected))));
            }
        }
        if let Some(difference) = self.counters()? {
            return Ok(Some(difference));
        }
        let mut told = Vec::new();
        while let Some(bytes) = self.kernel.event() {
            told.push(mirror::event(&bytes)?);
        }
        let expected: Vec<Told> = std::mem::take(&mut self.plane.events);
        if told != expected {
            return Ok(Some(format!("events: {}", lists(&told, &expected))));
        }
        Ok(self.states())
    }

    /// The states, which the program may write in one case.
    fn states(&self) -> Option<Difference> {
        (0..self.plane.world.backends.len()).find_map(|id| {
            let real = self.kernel.backend_word(id * 8) as u32;
            let expected = self.plane.world.backends[id].state;
            (real != expected)
                .then(|| format!("state of backend {id}: {real:#x}, model {expected:#x}"))
        })
    }

    fn counters(&mut self) -> Result<Option<Difference>> {
        let expected = &self.plane.counters;
        for (map, expected) in [
            (name::PASSES, &expected.passes[..]),
            (name::REPLIES, &expected.replies[..]),
            (name::DROPS, &expected.drops[..]),
            (name::FLOW_COUNTS, &expected.flows[..]),
        ] {
            let real = self.kernel.sums::<1>(map)?;
            if !real.as_flattened().iter().eq(expected) {
                return Ok(Some(format!(
                    "{map}: {:?}, model {expected:?}",
                    real.as_flattened()
                )));
            }
        }
        for (map, expected) in [
            (name::SERVICE_TRAFFIC, &expected.services),
            (name::BACKEND_TRAFFIC, &expected.backends),
        ] {
            let real = self.kernel.sums::<4>(map)?;
            let real = real.into_iter().map(traffic);
            for (index, (real, expected)) in real.zip(expected).enumerate() {
                if real != *expected {
                    return Ok(Some(format!("{map} {index}: {real:?}, model {expected:?}")));
                }
            }
        }
        let real = self.kernel.sums::<3>(name::SUSPICIONS)?;
        for (id, ([repeated, resets, _], expected)) in
            real.into_iter().zip(&expected.suspicions).enumerate()
        {
            if [repeated, resets] != *expected {
                return Ok(Some(format!(
                    "SUSPICIONS {id}: {repeated} repeated and {resets} resets, model {expected:?}"
                )));
            }
        }
        Ok(None)
    }
}

fn traffic([packets, bytes, new_flows, diverted]: [u64; 4]) -> Traffic {
    Traffic {
        packets,
        bytes,
        new_flows,
        diverted,
    }
}

fn lists<T: std::fmt::Debug + PartialEq>(real: &[T], expected: &[T]) -> String {
    let only = |of: &[T], than: &[T]| -> Vec<String> {
        let missing = of.iter().filter(|it| !than.contains(it));
        missing.take(3).map(|it| format!("{it:?}")).collect()
    };
    format!(
        "{} against {}\n  only the program has: {}\n  only the model has: {}",
        real.len(),
        expected.len(),
        only(real, expected).join("\n    "),
        only(expected, real).join("\n    ")
    )
}

/// Whether the frames differ in a single checksum, by which of the two zeros of one's complement
/// it is: both are right (RFC 1071), and an updated one may be the one that a computed one is not.
fn is_other_zero(real: &[u8], expected: &[u8]) -> bool {
    let pairs = real.iter().zip(expected).enumerate();
    let mut differences = pairs.filter(|(_, (real, expected))| real != expected);
    let (first, second) = (differences.next(), differences.next());
    let (Some((at, high)), Some((next, low))) = (first, second) else {
        return false;
    };
    let is_zero = [high, low].map(|(real, expected)| (*real, *expected)) == [(0xff, 0); 2];
    is_zero && next == at + 1 && real.len() == expected.len() && differences.next().is_none()
}

/// Where two frames differ.
fn hex(real: &[u8], expected: &[u8]) -> String {
    let at: Vec<usize> = (0..real.len().max(expected.len()))
        .filter(|at| real.get(*at) != expected.get(*at))
        .take(24)
        .collect();
    let bytes = |frame: &[u8]| -> Vec<String> {
        let byte = |at: &usize| {
            frame
                .get(*at)
                .map_or("--".into(), |byte| format!("{byte:02x}"))
        };
        at.iter().map(byte).collect()
    };
    format!(
        "\n{} and {} bytes; at {at:?}:\n  {}\n  {}",
        real.len(),
        expected.len(),
        bytes(real).join(" "),
        bytes(expected).join(" ")
    )
}
