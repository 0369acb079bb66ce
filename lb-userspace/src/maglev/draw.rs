//! Draws a backend for a slot by weight, leaving out what the slot has already.
//!
//! What is left out is a *unit*: one backend, or all backends of a zone. A slot reads its entry in a
//! table over everybody, and if that is left out, looks at other entries: what remains is hit by
//! weight. That would take long if the units left out held nearly all the weight. A slot has three
//! units at most, so tables without the heaviest one, two, and three units are enough to find one in
//! which at most three quarters are left out; they are built when first needed.

use super::hash::{Purpose, affinity, of_key, of_slot};
use super::member::{Member, NONE};
use super::{RUNGS, table, turns};

/// Entries looked at before giving up on chance. Each hits with a probability of at least 1/4, so
/// this is reached only where the table has fewer slots than backends.
const PROBES_MAX: u64 = 48;

pub(super) struct Draw {
    members: Vec<Member>,
    /// The unit of every serving candidate, by index.
    unit_of: Vec<u16>,
    /// The weight of the members in each unit.
    weight_of: Vec<u64>,
    heaviest_first: Vec<u16>,
    total: u64,
    slots: usize,
    rung: usize,
    /// `without[n]`: a table without the `n` heaviest units.
    without: [Option<Table>; RUNGS],
}

impl Draw {
    pub(super) fn new(members: Vec<Member>, unit_of: Vec<u16>, slots: usize) -> Self {
        let units = unit_of
            .iter()
            .max()
            .map_or(0, |unit| usize::from(*unit) + 1);
        let mut weight_of = vec![0; units];
        for member in &members {
            weight_of[usize::from(unit_of[usize::from(member.index)])] += u64::from(member.weight);
        }
        let mut heaviest_first: Vec<u16> = (0..).take(units).collect();
        heaviest_first.sort_by_key(|unit| std::cmp::Reverse(weight_of[usize::from(*unit)]));
        let total = weight_of.iter().sum();
        Self {
            members,
            unit_of,
            weight_of,
            heaviest_first,
            total,
            slots,
            rung: 0,
            without: [const { None }; RUNGS],
        }
    }

    /// Every rung has tables of its own, so that who shares a first choice shares no second.
    pub(super) fn begin_rung(&mut self, rung: usize) {
        self.rung = rung;
    }

    /// A member that shares no unit with `taken`, or `None` where there is none.
    pub(super) fn draw(&mut self, slot: usize, taken: &[u16]) -> Option<u16> {
        let left_out = LeftOut::new(taken, &self.unit_of);
        let mut weight_left_out = left_out
            .units()
            .iter()
            .map(|unit| self.weight(*unit))
            .sum::<u64>();
        let mut weight = self.total;
        if weight_left_out == weight {
            return None;
        }

        let mut heaviest = 0;
        while 4 * weight_left_out > 3 * weight {
            // It is left out itself: were it not, three lighter units could not reach three quarters.
            let lighter_by = self.weight(self.heaviest_first[heaviest]);
            weight_left_out -= lighter_by;
            weight -= lighter_by;
            heaviest += 1;
        }

        self.prepare_without(heaviest);
        let hit = self.probe(slot, heaviest, &left_out);
        hit.or_else(|| self.by_affinity(slot, &left_out))
    }

    fn weight(&self, unit: u16) -> u64 {
        self.weight_of[usize::from(unit)]
    }

    fn probe(&self, slot: usize, heaviest: usize, left_out: &LeftOut) -> Option<u16> {
        let entries = self.without[heaviest].as_ref()?.entries.as_slice();
        let entry = |probe| entries[((slot as u64 + probe) % entries.len() as u64) as usize];
        let fits = |index: &u16| !left_out.contains(self.unit_of[usize::from(*index)]);
        // Most slots can use their own entry; only the others need a hash to go on by.
        Some(entry(0)).filter(fits).or_else(|| {
            let stride = of_slot(slot, Purpose::Probe { rung: self.rung }) >> 32;
            (1..PROBES_MAX)
                .map(|probe| entry(probe * stride))
                .find(fits)
        })
    }

    /// For tables too small to hold every member: whoever fits and wants the slot most.
    fn by_affinity(&self, slot: usize, left_out: &LeftOut) -> Option<u16> {
        let purpose = Purpose::Affinity { rung: self.rung };
        let slot = of_slot(slot, purpose);
        let fits = |m: &&Member| !left_out.contains(self.unit_of[usize::from(m.index)]);
        let wanted = self.members.iter().filter(fits);
        wanted
            .max_by_key(|member| affinity(of_key(member.key, purpose), slot))
            .map(|member| member.index)
    }

    fn prepare_without(&mut self, heaviest: usize) {
        let rung = self.rung;
        let table = self.without[heaviest].get_or_insert_with(|| {
            let left_out = &self.heaviest_first[..heaviest];
            let fits = |m: &&Member| !left_out.contains(&self.unit_of[usize::from(m.index)]);
            Table::new(
                self.members.iter().filter(fits).copied().collect(),
                self.slots,
            )
        });
        table.fill_for(rung);
    }
}

/// A table over some of the members, filled anew for each rung that asks for it.
struct Table {
    members: Vec<Member>,
    turns: Vec<u16>,
    entries: Vec<u16>,
    rung: usize,
}

impl Table {
    fn new(members: Vec<Member>, slots: usize) -> Self {
        let turns = turns::order(&members, slots);
        Self {
            members,
            turns,
            entries: Vec::new(),
            rung: 0,
        }
    }

    fn fill_for(&mut self, rung: usize) {
        if self.rung != rung {
            self.entries = table::fill(&self.members, &self.turns, rung);
            self.rung = rung;
        }
    }
}

/// The units that a slot has already.
struct LeftOut {
    units: [u16; RUNGS - 1],
    count: usize,
}

impl LeftOut {
    fn new(taken: &[u16], unit_of: &[u16]) -> Self {
        let mut left_out = Self {
            units: [NONE; RUNGS - 1],
            count: 0,
        };
        for unit in taken
            .iter()
            .filter_map(|index| unit_of.get(usize::from(*index)))
        {
            if !left_out.contains(*unit) {
                left_out.units[left_out.count] = *unit;
                left_out.count += 1;
            }
        }
        left_out
    }

    fn units(&self) -> &[u16] {
        &self.units[..self.count]
    }

    fn contains(&self, unit: u16) -> bool {
        self.units().contains(&unit)
    }
}
