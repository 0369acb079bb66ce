//! Which connections were lost, which of them rightly, and how long their clients took to know.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lb_tests::connections::{End, Life};
use lb_tests::distribution::Distribution;

use super::Size;
use super::action::{Fault, Kind};

/// Complaints that are told one by one.
const COMPLAINTS_MAX: usize = 20;
/// One in so many lost connections may end without its client being told. A flow that nothing is
/// known of any more goes to its slot's owner, whose kernel refuses it, unless it has a half-open
/// connection of the same addresses and ports: one that was reset earlier, at the client's end only.
const UNTOLD_SHARE: usize = 500;
/// From the agent's notice to the client's: its next packet, sent again if one went astray.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

/// The judgement over all lives.
pub struct Verdict<'a> {
    lives: usize,
    /// Lost although nothing was done to their server.
    wronged: Vec<&'a Life>,
    /// Lost with their server, each with the latest fault before.
    lost: Vec<(&'a Life, &'a Fault)>,
    /// Alive on a server that was taken away, for certain and noticed by the agent.
    should_have_lost: usize,
    /// Of these, those that live on.
    spared: Vec<&'a Life>,
    slowest: Duration,
}

impl<'a> Verdict<'a> {
    pub fn of(
        lives: &'a [Life],
        faults: &'a [Fault],
        silences: &[(Instant, Option<Instant>)],
        size: Size,
    ) -> Verdict<'a> {
        let slack = size.check.notices_within();
        let certain = slack + size.pause_max + TOLD_WITHIN;
        let mut verdict = Verdict {
            lives: lives.len(),
            wronged: Vec::new(),
            lost: Vec::new(),
            should_have_lost: 0,
            spared: Vec::new(),
            slowest: Duration::ZERO,
        };
        for life in lives {
            let of_its_server = || faults.iter().filter(|it| *it.backend == *life.owner);
            let is_doomed = of_its_server().any(|fault| {
                is_alive_at(life, fault.began) && is_certain(fault, silences, certain)
            });
            verdict.should_have_lost += usize::from(is_doomed);
            let Some((lost, end)) = life.end else {
                if is_doomed {
                    verdict.spared.push(life);
                }
                verdict.slowest = verdict.slowest.max(life.slowest);
                continue;
            };
            // What began first and lasts is the reason; else what was last.
            let mut causes = of_its_server().filter(|fault| {
                let is_after = fault.ended.is_some_and(|ended| life.opened > ended + slack);
                fault.began <= lost && !is_after
            });
            let latest = causes.clone().next_back();
            let lasts = |fault: &&Fault| fault.ended.is_none_or(|ended| lost <= ended + slack);
            let cause = causes.find(lasts).or(latest);
            match cause.filter(|_| end != End::Swapped) {
                Some(fault) => verdict.lost.push((life, fault)),
                None => verdict.wronged.push(life),
            }
        }
        verdict
    }

    pub fn is_good(&self) -> bool {
        let lost = self.lost.len();
        let untold = (self.lost.iter()).filter(|(life, _)| is_ended_by(life, End::Silent));
        self.wronged.is_empty()
            && self.spared.is_empty()
            && lost > 0
            && untold.count() <= lost / UNTOLD_SHARE
    }

    pub fn report(&self) -> String {
        let mut text = String::new();
        let ended = |by: End| {
            let lost = self.lost.iter();
            lost.filter(|(life, _)| is_ended_by(life, by)).count()
        };
        let did = self.should_have_lost - self.spared.len();
        let _ = writeln!(
            text,
            "  connections            {} in all, slowest answer on one that lived {:.2?}",
            self.lives, self.slowest
        );
        let _ = writeln!(text, "  lost, protected        {}", self.wronged.len());
        let _ = writeln!(
            text,
            "  should have been lost  {}, of which were {did}; with faults too short to be certain {}",
            self.should_have_lost,
            self.lost.len()
        );
        let _ = writeln!(
            text,
            "  told by                RST {}, FIN {}, nobody {}",
            ended(End::Reset),
            ended(End::Closed),
            ended(End::Silent)
        );
        let mut times: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
        for (life, fault) in &self.lost {
            if let Some((at, _)) = life.end {
                times.entry(fault.kind).or_default().push(at - fault.began);
            }
        }
        for (kind, times) in times {
            let times = Distribution::of_durations(times);
            let _ = writeln!(text, "  known after            {times}  ({kind:?})");
        }
        text
    }

    /// What is wrong, connection by connection.
    pub fn complaints(&self, began: Instant) -> String {
        let mut text = String::new();
        let mut tell = |what: &str, life: &Life| {
            let at = |instant: Instant| instant.saturating_duration_since(began).as_secs_f64();
            let end = life.end.map(|(lost, end)| (at(lost), end));
            let _ = writeln!(
                text,
                "{what}: {} to {} on {}, open from {:.2} s, end {end:.2?}",
                life.from,
                life.to,
                life.owner,
                at(life.opened),
            );
        };
        for life in self.wronged.iter().take(COMPLAINTS_MAX) {
            tell("lost although its server lived", life);
        }
        for life in self.spared.iter().take(COMPLAINTS_MAX) {
            tell("lives although its server was taken away", life);
        }
        for (life, fault) in &self.lost {
            if is_ended_by(life, End::Silent) {
                tell(&format!("nobody told of {:?}", fault.kind), life);
            }
        }
        text
    }
}

fn is_ended_by(life: &Life, by: End) -> bool {
    life.end.is_some_and(|(_, end)| end == by)
}

fn is_alive_at(life: &Life, instant: Instant) -> bool {
    life.answered <= instant && life.end.is_none_or(|(lost, _)| lost >= instant)
}

/// Whether no flow of its server can have outlived it: the process died, or it lasted until the
/// agent had noticed and every client had sent a packet.
fn is_certain(fault: &Fault, silences: &[(Instant, Option<Instant>)], certain: Duration) -> bool {
    let ended = fault.ended.unwrap_or_else(Instant::now);
    let is_watched = silences
        .iter()
        .all(|(began, end)| *began > ended || end.is_some_and(|end| end < fault.began));
    fault.kind == Kind::Killed || is_watched && ended - fault.began >= certain
}
