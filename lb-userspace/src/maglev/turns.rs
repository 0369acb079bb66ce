//! Who claims a slot when: a turn for every slot of a table, shared out by weight.

use super::member::Member;

/// Fixed point for the time of a turn. With tables below 2^21 slots, 41 bits of fraction still fit.
const FRACTION_BITS: u32 = 41;

/// The positions in `members` in the order of their turns, one turn for each slot.
///
/// The k-th turn of a backend is due at `(2k + 1) / weight`, whatever the other backends are. So the
/// order of any two turns survives every change to others, and a change only moves the end of the
/// list, which is what keeps the slots of bystanders where they are. Cutting such a list at any
/// length is the Webster (Sainte-Laguë) apportionment: fair shares, rounded to whole slots. Equal
/// weights come out at most one slot apart.
pub(super) fn order(members: &[Member], slots: usize) -> Vec<u16> {
    let total: u128 = members.iter().map(|member| u128::from(member.weight)).sum();
    let mut due: Vec<(u64, u16)> = Vec::with_capacity(slots + 2 * members.len());
    for (position, member) in (0..).zip(members) {
        // The list ends at time T where round(T/2 * weight) add up to `slots`; every rounding is
        // off by half a turn at most, which bounds T, and with it what this member can get.
        let slots_at_most = (2 * slots + members.len()) as u128 * u128::from(member.weight);
        let turns_at_most = (slots_at_most / (2 * total)) as u64 + 1;
        let time = |turn: u64| ((2 * turn + 1) << FRACTION_BITS) / u64::from(member.weight);
        due.extend((0..turns_at_most).map(|turn| (time(turn), position)));
    }
    // Ties go to the smaller key: members come in the order of their keys.
    due.sort_unstable();
    due.truncate(slots);
    due.into_iter().map(|(_, position)| position).collect()
}
