//! What a process uses of the machine, as Linux tells it in `/proc`.

use std::collections::HashMap;
use std::fs;
use std::iter::Sum;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Processor time since a process began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessorTime {
    pub user: Duration,
    pub system: Duration,
}

impl ProcessorTime {
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("cannot read /proc")?;
        let stat = Stat::parse(&stat).with_context(|| format!("cannot read what process {pid} used"))?;
        Ok(stat.own)
    }

    /// Of a process and of all that it started, and that these started; those that have ended included.
    pub fn of_family(pid: u32) -> Result<Self> {
        let processes = fs::read_dir("/proc").context("cannot read /proc")?.filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            // One that has ended meanwhile is in its parent's count, or will be.
            Some((pid, Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        });
        Ok(family(&processes.collect(), pid))
    }

    /// Of the whole machine, everybody's.
    pub fn of_machine() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc")?;
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // Of proc(5): user, nice, system, idle, iowait, irq, softirq.
        let at = |index: usize| ticks.get(index).copied().unwrap_or_default();
        Ok(Self { user: from_ticks(at(0) + at(1)), system: from_ticks(at(2) + at(5) + at(6)) })
    }

    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// What `/proc/<pid>/stat` tells.
struct Stat {
    parent: u32,
    own: ProcessorTime,
    /// Of those of its children that have ended, and that it has waited for.
    ended: ProcessorTime,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The program's name, in brackets, may contain anything; then comes field 3 of proc(5), the state.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let time = |field: usize| Some(from_ticks(fields.get(field - 3)?.parse().ok()?));
        Some(Self {
            parent: fields.get(4 - 3)?.parse().ok()?,
            own: ProcessorTime { user: time(14)?, system: time(15)? },
            ended: ProcessorTime { user: time(16)?, system: time(17)? },
        })
    }
}

fn family(processes: &HashMap<u32, Stat>, pid: u32) -> ProcessorTime {
    let own = processes.get(&pid).map_or(ProcessorTime::default(), |stat| stat.own + stat.ended);
    let children = processes.iter().filter(|(_, stat)| stat.parent == pid);
    own + children.map(|(child, _)| family(processes, *child)).sum()
}

impl Add for ProcessorTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sum for ProcessorTime {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), Add::add)
    }
}

impl Sub for ProcessorTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// What all other processes of the machine use meanwhile: more than a little, and they were measured, too.
pub struct Others {
    since: Instant,
    at_first: ProcessorTime,
}

impl Others {
    /// From now on, all but this one and what it started.
    pub fn watch() -> Result<Self> {
        Ok(Self { at_first: Self::so_far()?, since: Instant::now() })
    }

    /// How many cores they have kept busy.
    pub fn cores(&self) -> Result<f64> {
        let used = Self::so_far()? - self.at_first;
        Ok(used.total().as_secs_f64() / self.since.elapsed().as_secs_f64())
    }

    fn so_far() -> Result<ProcessorTime> {
        Ok(ProcessorTime::of_machine()? - ProcessorTime::of_family(std::process::id())?)
    }
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of a process, in megabytes (of 1,000,000 bytes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What is resident now.
    pub resident_mb: f64,
    /// The most that ever was.
    pub peak_mb: f64,
    /// Of what is resident, the part that is not files mapped into memory.
    pub anonymous_mb: f64,
}

impl Memory {
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("cannot read /proc")?;
        Self::parse(&status).with_context(|| format!("cannot read the memory of process {pid}"))
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kilobytes * 1024.0 / 1e6)
        };
        Some(Self { resident_mb: field("VmRSS")?, peak_mb: field("VmHWM")?, anonymous_mb: field("RssAnon")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that used 30 ticks as user and 12 in the kernel, its ended children 7 and 3.
    fn stat(pid: u32, parent: u32) -> (u32, Stat) {
        let stat =
            format!("{pid} (a) b) c) S {parent} 7 7 0 -1 4194560 100 0 0 0 30 12 7 3 20 0 1 0 5 1000 200");
        (pid, Stat::parse(&stat).unwrap())
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let tick = from_ticks(1);
        let (_, stat) = stat(7, 1);
        assert_eq!(stat.parent, 1);
        assert_eq!((stat.own.user, stat.own.system), (tick * 30, tick * 12));
        assert_eq!((stat.ended.user, stat.ended.system), (tick * 7, tick * 3));
    }

    #[test]
    fn a_family_is_all_that_a_process_started_and_nobody_else() {
        let processes = HashMap::from([stat(7, 1), stat(8, 7), stat(9, 8), stat(10, 1)]);
        let tick = from_ticks(1);
        let time = family(&processes, 7);
        assert_eq!((time.user, time.system), (tick * 3 * 37, tick * 3 * 15));
    }

    #[test]
    fn memory_is_told_in_megabytes() {
        let memory =
            Memory::parse("Name:\tx\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\nRssAnon:\t  500 kB\n").unwrap();
        assert_eq!((memory.resident_mb, memory.peak_mb, memory.anonymous_mb), (1.024, 2.048, 0.512));
    }
}
