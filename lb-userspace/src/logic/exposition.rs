//! Prometheus's text format.

use std::fmt::Write;

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Comes and goes.
    Gauge,
}

/// Text under way; every name gets the prefix `lb_logic_`.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// Begins a metric; its lines follow.
    pub fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = write!(
            self.0,
            "# HELP lb_logic_{name} {help}\n# TYPE lb_logic_{name} {kind}\n"
        );
    }

    /// One line of it.
    pub fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "lb_logic_{name}");
        for (position, (label, text)) in labels.iter().enumerate() {
            let open = if position == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            let text = text.replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// A metric of one line.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::default();
        out.single("up", Kind::Gauge, "One.", 1.0);
        out.head("errors_total", Kind::Counter, "Two.");
        out.line("errors_total", &[("a", "b\"\\\n"), ("c", "d")], 2.0);
        assert_eq!(
            out.finish(),
            "# HELP lb_logic_up One.\n# TYPE lb_logic_up gauge\nlb_logic_up 1\n\
             # HELP lb_logic_errors_total Two.\n# TYPE lb_logic_errors_total counter\n\
             lb_logic_errors_total{a=\"b\\\"\\\\\\n\",c=\"d\"} 2\n"
        );
    }
}
