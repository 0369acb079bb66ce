//! The numbers behind the picture.

use std::time::{Duration, Instant};

use lb_tests::load::{Outcome, Record};

use super::Mark;

/// What is counted together.
pub const BUCKET: Duration = Duration::from_millis(100);

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above the picture.
    pub title: String,
    /// Answers by server, from the lowest area to the highest.
    pub servers: Vec<Series>,
    /// Requests that failed.
    pub failed: Series,
    /// What was done.
    pub marks: Vec<Mark>,
}

/// A rate over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// One value for each [`BUCKET`].
    pub per_second: Vec<f64>,
}

impl Series {
    /// A series of these values.
    pub fn new(name: &str, per_second: Vec<f64>) -> Series {
        Series {
            name: name.to_owned(),
            per_second,
        }
    }

    /// Counts what happened at these instants.
    pub fn count(
        name: &str,
        at: impl Iterator<Item = Instant>,
        (start, end): (Instant, Instant),
    ) -> Series {
        let mut series = Series::new(name, vec![0.0; buckets(start, end)]);
        for at in at {
            let since = at.saturating_duration_since(start);
            let bucket = usize::try_from(since.as_millis() / BUCKET.as_millis());
            let value = bucket.ok();
            if let Some(value) = value.and_then(|at| series.per_second.get_mut(at)) {
                *value += 1.0 / BUCKET.as_secs_f64();
            }
        }
        series
    }

    /// The highest value.
    pub fn highest(&self) -> f64 {
        self.per_second.iter().copied().fold(0.0, f64::max)
    }
}

impl Chart {
    /// Counts requests by the time of their end. The last bucket is left out unless it is whole.
    pub fn of(
        title: &str,
        requests: &[Record],
        servers: &[String],
        (start, end): (Instant, Instant),
        marks: Vec<Mark>,
    ) -> Chart {
        let ended = |series: &dyn Fn(&Outcome) -> bool, name: &str| {
            let ours = requests.iter().filter(|request| series(&request.outcome));
            Series::count(name, ours.map(|request| request.end), (start, end))
        };
        let by = |server: &String| {
            let is_its =
                |outcome: &Outcome| matches!(outcome, Outcome::Answered { by } if **by == **server);
            ended(&is_its, server)
        };
        let answered = servers.iter().map(by).collect();
        let failed = ended(&Outcome::is_failure, "failed");
        Chart {
            title: title.to_owned(),
            servers: answered,
            failed,
            marks,
        }
    }

    /// How many values each series has.
    pub fn buckets(&self) -> usize {
        self.failed.per_second.len()
    }

    /// The length of the time axis.
    pub fn seconds(&self) -> f64 {
        self.buckets() as f64 * BUCKET.as_secs_f64()
    }

    /// The highest sum of all series.
    pub fn highest(&self) -> f64 {
        let sum = |bucket: usize| {
            let all = self.servers.iter().chain([&self.failed]);
            all.map(|series| series.per_second[bucket]).sum::<f64>()
        };
        (0..self.buckets()).map(sum).fold(0.0, f64::max)
    }
}

/// Whole buckets; the last one is left out unless it is whole.
fn buckets(start: Instant, end: Instant) -> usize {
    let whole = end.saturating_duration_since(start).as_millis() / BUCKET.as_millis();
    usize::try_from(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_tests::load::Failure;

    use super::*;

    #[test]
    fn requests_count_in_the_bucket_in_which_they_ended() {
        let start = Instant::now();
        let request = |end_ms, outcome| Record {
            start,
            end: start + Duration::from_millis(end_ms),
            from: None,
            outcome,
        };
        let by = |name| Outcome::Answered {
            by: Arc::from(name),
        };
        let requests = [
            request(0, by("a")),
            request(99, by("a")),
            request(100, by("b")),
            request(150, Outcome::Failed(Failure::Reset)),
            request(210, by("a")), // in the bucket that is not whole
        ];
        let span = (start, start + Duration::from_millis(250));
        let chart = Chart::of("", &requests, &["a".into(), "b".into()], span, Vec::new());
        assert_eq!(
            chart.servers,
            [
                Series::new("a", vec![20.0, 0.0]),
                Series::new("b", vec![0.0, 10.0])
            ]
        );
        assert_eq!(chart.failed.per_second, [0.0, 10.0]);
        assert_eq!(chart.highest(), 20.0);
        assert!((chart.seconds() - 0.2).abs() < 1e-9);
    }
}
