//! What a benchmark found, for people and as JSON.

use std::fmt;

use serde::Serialize;

use crate::load::Measured;
use crate::machine::Machine;

#[derive(Serialize)]
pub struct Report {
    pub benchmark: &'static str,
    /// What was asked for, in words.
    pub settings: String,
    pub machine: Machine,
    pub rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passes: Vec<Pass>,
    pub facts: Vec<Fact>,
    pub targets: Vec<Target>,
}

/// One kind of load on one contestant.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub contestant: &'static str,
    pub what: &'static str,
    pub connections: usize,
    pub per_second: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub errors: u64,
}

/// One contestant's way through all events of a log, or through what they come to.
#[derive(Clone, Debug, Serialize)]
pub struct Pass {
    pub contestant: &'static str,
    pub what: &'static str,
    pub per_second: f64,
    pub seconds: f64,
    /// Processor time for one event, in microseconds: the contestant's own, and that of the servers.
    pub own_us: f64,
    pub nats_us: f64,
    pub postgres_us: f64,
    /// The most memory that the contestant ever had, in megabytes, if that is of interest.
    pub peak_mb: Option<f64>,
}

/// A figure that is neither a load nor has a target.
#[derive(Serialize)]
pub struct Fact {
    pub what: String,
    pub value: String,
}

/// A promise, and whether it was kept.
#[derive(Serialize)]
pub struct Target {
    pub what: String,
    pub wanted: Bound,
    /// The median of the runs.
    pub found: f64,
    pub runs: Vec<f64>,
    pub is_met: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub fn new(
        contestant: &'static str,
        what: &'static str,
        connections: usize,
        measured: &Measured,
    ) -> Self {
        for (error, count) in &measured.errors {
            eprintln!("{contestant}, {what}, {connections} connections: {count} × {error}");
        }
        Self {
            contestant,
            what,
            connections,
            per_second: measured.per_second(),
            mean_ms: measured.mean_ms(),
            p50_ms: measured.quantile_ms(0.5),
            p99_ms: measured.quantile_ms(0.99),
            errors: measured.errors.values().sum(),
        }
    }

    /// The row of another run that is about the same.
    pub fn find_same<'a>(&self, run: &'a [Row]) -> Option<&'a Row> {
        let about = |row: &Row| (row.contestant, row.what, row.connections);
        run.iter().find(|row| about(row) == about(self))
    }

    /// Each figure's median over several runs of the same row; all errors.
    pub fn median(runs: &[Row]) -> Option<Row> {
        let of = |figure: fn(&Row) -> f64| median(runs.iter().map(figure).collect());
        Some(Row {
            per_second: of(|row| row.per_second),
            mean_ms: of(|row| row.mean_ms),
            p50_ms: of(|row| row.p50_ms),
            p99_ms: of(|row| row.p99_ms),
            errors: runs.iter().map(|row| row.errors).sum(),
            ..runs.first()?.clone()
        })
    }
}

impl Pass {
    /// Each figure's median over several runs of the same pass.
    pub fn median(runs: &[&Pass]) -> Option<Pass> {
        let of = |figure: fn(&Pass) -> f64| median(runs.iter().copied().map(figure).collect());
        let first = runs.first()?;
        Some(Pass {
            contestant: first.contestant,
            what: first.what,
            per_second: of(|pass| pass.per_second),
            seconds: of(|pass| pass.seconds),
            own_us: of(|pass| pass.own_us),
            nats_us: of(|pass| pass.nats_us),
            postgres_us: of(|pass| pass.postgres_us),
            peak_mb: first.peak_mb.map(|_| of(|pass| pass.peak_mb.unwrap_or(f64::NAN))),
        })
    }
}

impl Fact {
    pub fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into() }
    }

    /// What [`crate::processes::Others`] has found.
    pub fn others(cores: f64) -> Self {
        Self::new("cores busy with other processes meanwhile", format!("{cores:.2}"))
    }
}

impl Target {
    pub fn new(what: impl Into<String>, wanted: Bound, runs: Vec<f64>) -> Self {
        let found = median(runs.clone());
        let is_met = match wanted {
            Bound::AtLeast(bound) => found >= bound,
            Bound::AtMost(bound) => found <= bound,
        };
        Self { what: what.into(), wanted, found, runs, is_met }
    }
}

/// The middle value; of an even number of values, the lower of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}\n{}", self.benchmark, self.settings, self.machine)?;
        if !self.rows.is_empty() {
            writeln!(
                f,
                "\n| what | connections | contestant | per second | p50 ms | p99 ms | mean ms | errors |"
            )?;
            writeln!(f, "|---|---:|---|---:|---:|---:|---:|---:|")?;
        }
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if !self.passes.is_empty() {
            writeln!(f, "\n| what | contestant | events/s | s | own µs | NATS µs | Postgres µs | peak MB |")?;
            writeln!(f, "|---|---|---:|---:|---:|---:|---:|---:|")?;
        }
        for pass in &self.passes {
            writeln!(f, "{pass}")?;
        }
        if !self.facts.is_empty() {
            writeln!(f, "\n| figure | value |\n|---|---:|")?;
        }
        for Fact { what, value } in &self.facts {
            writeln!(f, "| {what} | {value} |")?;
        }
        if !self.targets.is_empty() {
            writeln!(f, "\n| target | wanted | found | |\n|---|---:|---:|---|")?;
        }
        for Target { what, wanted, found, is_met, .. } in &self.targets {
            let verdict = if *is_met { "met" } else { "MISSED" };
            writeln!(f, "| {what} | {wanted} | {found:.2} | {verdict} |")?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contestant, what, connections, per_second, mean_ms, p50_ms, p99_ms, errors } = self;
        // Not everybody tells the quantiles.
        let quantile = |ms: &f64| if ms.is_nan() { String::new() } else { format!("{ms:.2}") };
        let (p50_ms, p99_ms) = (quantile(p50_ms), quantile(p99_ms));
        write!(f, "| {what} | {connections} | {contestant} | {per_second:.0} ")?;
        write!(f, "| {p50_ms} | {p99_ms} | {mean_ms:.2} | {errors} |")
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contestant, what, per_second, seconds, own_us, nats_us, postgres_us, peak_mb } = self;
        let peak_mb = peak_mb.map(|peak| format!("{peak:.0}")).unwrap_or_default();
        write!(f, "| {what} | {contestant} | {per_second:.0} | {seconds:.3} ")?;
        write!(f, "| {own_us:.2} | {nats_us:.2} | {postgres_us:.2} | {peak_mb} |")
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_judged_by_the_median() {
        assert!(Target::new("", Bound::AtLeast(2.0), vec![1.0, 3.0, 2.0]).is_met);
        assert!(!Target::new("", Bound::AtMost(2.0), vec![9.0, 3.0, 1.0]).is_met);
        assert!(!Target::new("", Bound::AtLeast(2.0), vec![]).is_met);
    }

    fn row(contestant: &'static str, connections: usize) -> Row {
        let (per_second, mean_ms, p50_ms, p99_ms) = (1e3 * connections as f64, 1.0, 1.0, f64::NAN);
        Row { contestant, what: "register", connections, per_second, mean_ms, p50_ms, p99_ms, errors: 0 }
    }

    #[test]
    fn a_report_can_be_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::examine("2.15", folder.path()).unwrap();
        let lone = Row { what: "publish <once>", ..row("bare", 1) };
        let pass = Pass {
            contestant: "count",
            what: "the log",
            per_second: 1e6,
            seconds: 1.0,
            own_us: 0.1,
            nats_us: 0.1,
            postgres_us: 0.0,
            peak_mb: None,
        };
        let report = Report {
            benchmark: "commands",
            settings: "none".to_owned(),
            machine,
            rows: vec![row("ours", 1), row("ours", 16), row("theirs", 1), row("theirs", 16), lone],
            passes: vec![pass],
            facts: Vec::new(),
            targets: Vec::new(),
        };
        let [json, svg] = ["report.json", "plot.svg"].map(|name| folder.path().join(name));
        std::fs::write(&json, serde_json::to_vec(&report).unwrap()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/plot.py");
        let output = std::process::Command::new("python3").arg(script).args([&json, &svg]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let svg = std::fs::read_to_string(svg).unwrap();
        // A line for each of the two, and a bar for each of what is only once; nothing for what nobody knows.
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1 + 2, "{svg}");
        for text in [">ours<", ">theirs<", ">publish &lt;once&gt;<", ">the log<"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
