//! Fills the ladders rung by rung. Candidates are indices here, in the order of their keys.

use super::draw::Draw;
use super::member::{Member, NONE, members};
use super::{Candidate, RUNGS, Role, Spill, table, turns};

/// The ladder of every slot; [`NONE`] where there is nobody left to name.
pub(super) fn choose(serving: &[&Candidate], slots: usize, spill: Spill) -> Vec<[u16; RUNGS]> {
    let mut ladders = vec![[NONE; RUNGS]; slots];
    first_rung(
        &mut ladders,
        &members(serving, |candidate| candidate.role == Role::Primary),
    );
    let mut groups = groups(serving, slots, spill);
    for rung in 1..RUNGS {
        later_rung(&mut ladders, rung, &mut groups);
    }
    ladders
}

fn first_rung(ladders: &mut [[u16; RUNGS]], primaries: &[Member]) {
    if primaries.is_empty() {
        return;
    }
    let turns = turns::order(primaries, ladders.len());
    for (ladder, index) in ladders.iter_mut().zip(table::fill(primaries, &turns, 0)) {
        ladder[0] = index;
    }
}

fn later_rung(ladders: &mut [[u16; RUNGS]], rung: usize, groups: &mut [Group]) {
    groups.iter_mut().for_each(|group| group.begin_rung(rung));
    for (slot, ladder) in ladders.iter_mut().enumerate() {
        let (taken, rest) = ladder.split_at_mut(rung);
        if let Some(index) = groups.iter_mut().find_map(|group| group.draw(slot, taken)) {
            rest[0] = index;
        }
    }
}

/// The groups in the order in which they are asked.
fn groups(serving: &[&Candidate], slots: usize, spill: Spill) -> Vec<Group> {
    let group = |belongs: fn(&Candidate) -> bool| Group::new(serving, slots, belongs);
    let primaries = || group(|candidate| candidate.role == Role::Primary);
    let standbys = || group(|candidate| candidate.role == Role::Standby);
    match spill {
        Spill::Both => vec![group(|_| true)],
        Spill::StandbysFirst => vec![standbys(), primaries()],
        Spill::PrimariesFirst => vec![primaries(), standbys()],
    }
}

/// Candidates that are asked together.
struct Group {
    /// Draws from zones that the slot does not have yet; absent where no zones are named.
    by_zone: Option<Draw>,
    /// Draws from all that the slot does not have yet.
    by_backend: Draw,
}

impl Group {
    fn new(serving: &[&Candidate], slots: usize, belongs: fn(&Candidate) -> bool) -> Self {
        let members = members(serving, belongs);
        let each_its_own = (0..).take(serving.len()).collect();
        Self {
            by_zone: zones(serving).map(|zones| Draw::new(members.clone(), zones, slots)),
            by_backend: Draw::new(members, each_its_own, slots),
        }
    }

    fn begin_rung(&mut self, rung: usize) {
        self.by_zone
            .iter_mut()
            .for_each(|draw| draw.begin_rung(rung));
        self.by_backend.begin_rung(rung);
    }

    fn draw(&mut self, slot: usize, taken: &[u16]) -> Option<u16> {
        let elsewhere = self
            .by_zone
            .as_mut()
            .and_then(|draw| draw.draw(slot, taken));
        elsewhere.or_else(|| self.by_backend.draw(slot, taken))
    }
}

/// The zone of each candidate as a number, numbers of their own for those without; `None` where no
/// candidate names a zone.
fn zones(serving: &[&Candidate]) -> Option<Vec<u16>> {
    serving.iter().find(|candidate| candidate.zone.is_some())?;
    let first_of_zone = |position: usize, candidate: &Candidate| match &candidate.zone {
        None => position,
        zone => serving
            .iter()
            .take_while(|earlier| earlier.zone != *zone)
            .count(),
    };
    let numbers = serving.iter().enumerate();
    Some(
        numbers
            .map(|(position, candidate)| first_of_zone(position, candidate) as u16)
            .collect(),
    )
}
