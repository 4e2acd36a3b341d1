//! What the write path promises of its speed.

use super::{BARE, HEADWATER, NAIVE, Run};
use crate::report::{Bound, Row, Target};
use crate::requests::Command;

/// How many times the commands/s of the naive service ours has to reach.
const RATES: [(Command, usize, f64); 4] = [
    (Command::Register, 128, 15.0),
    (Command::Place, 128, 5.0),
    (Command::Register, 16, 5.0),
    (Command::Place, 16, 3.0),
];
/// The same on several NATS nodes.
const TIMES_IN_CLUSTER: f64 = 2.0;
const P99_MS_AT_16: f64 = 12.0;
/// A lone client's latency against that of a bare durable publish.
const TIMES_BARE: f64 = 1.3;

/// The promises that can be judged by what was measured. On several nodes, the rates alone are promised.
pub fn judge(runs: &[Run], nats_nodes: usize) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut judge = |what: String, wanted, of: &dyn Fn(&Run) -> Option<f64>| {
        let found: Vec<f64> = runs.iter().filter_map(of).collect();
        if !found.is_empty() {
            targets.push(Target::new(what, wanted, found));
        }
    };
    for (command, connections, times) in RATES {
        let times = if nats_nodes > 1 { TIMES_IN_CLUSTER } else { times };
        let name = command.name();
        let what = format!("{name}, {connections} connections: commands/s, times those of {NAIVE}");
        judge(what, Bound::AtLeast(times), &|run| {
            let rate = |contestant| find(run, contestant, name, connections).map(|row| row.per_second);
            Some(rate(HEADWATER)? / rate(NAIVE)?)
        });
    }
    let commands = if nats_nodes > 1 { &[][..] } else { &Command::ALL[..] };
    for name in commands.iter().map(|command| command.name()) {
        let ours = |run: &Run, connections| find(run, HEADWATER, name, connections).cloned();
        judge(format!("{name}, 16 connections: p99 ms"), Bound::AtMost(P99_MS_AT_16), &|run| {
            Some(ours(run, 16)?.p99_ms)
        });
        let bare = |run: &Run| find(run, BARE, "publish", 1).cloned();
        judge(format!("{name}, a lone client: p50, times {BARE}"), Bound::AtMost(TIMES_BARE), &|run| {
            Some(ours(run, 1)?.p50_ms / bare(run)?.p50_ms)
        });
        judge(format!("{name}, a lone client: mean, times {BARE}"), Bound::AtMost(TIMES_BARE), &|run| {
            Some(ours(run, 1)?.mean_ms / bare(run)?.mean_ms)
        });
    }
    judge("commands without success".to_owned(), Bound::AtMost(0.0), &|run| {
        Some(run.iter().map(|row| row.errors as f64).sum())
    });
    targets
}

fn find<'a>(run: &'a Run, contestant: &str, what: &str, connections: usize) -> Option<&'a Row> {
    run.iter().find(|row| row.contestant == contestant && row.what == what && row.connections == connections)
}
