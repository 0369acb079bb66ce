//! Round numbers for axes.

/// Steps of an axis, as factors of a power of ten.
const STEPS: [f64; 4] = [1.0, 2.0, 2.5, 5.0];
/// How many steps an axis has at most.
const STEPS_MAX: f64 = 8.0;

/// A little more than `highest`, a whole number of steps.
pub fn ceiling(highest: f64) -> f64 {
    let highest = highest.max(1.0);
    let step = step(highest);
    (highest / step).ceil() * step
}

/// The round numbers from 0 to `end`.
pub fn ticks(end: f64) -> impl Iterator<Item = f64> {
    let step = step(end);
    (0..)
        .map(move |number| f64::from(number) * step)
        .take_while(move |tick| *tick <= end * 1.000_001)
}

/// The smallest round step that needs no more than [`STEPS_MAX`] steps.
fn step(end: f64) -> f64 {
    let least = end / STEPS_MAX;
    let power = 10f64.powf(least.log10().floor());
    STEPS
        .iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

/// 2500 as `2,500`.
pub fn thousands(number: f64) -> String {
    let whole = number.round() as u64;
    if whole < 1000 {
        whole.to_string()
    } else {
        format!("{},{:03}", whole / 1000, whole % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_on_round_numbers() {
        for (highest, end, count) in [(3_130.0, 3_500.0, 8), (96.0, 100.0, 6), (0.0, 1.0, 6)] {
            assert_eq!(ceiling(highest), end, "{highest}");
            assert_eq!(ticks(end).count(), count, "{highest}");
        }
        assert_eq!(ticks(23.4).collect::<Vec<_>>().len(), 5);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(0.0), "0");
        assert_eq!(thousands(2_500.0), "2,500");
        assert_eq!(thousands(12_005.0), "12,005");
    }
}
