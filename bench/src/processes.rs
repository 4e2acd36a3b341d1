//! What a process uses of the machine, as Linux tells it in `/proc`.

use std::fs;
use std::ops::Sub;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Processor time since a process began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessorTime {
    pub user: Duration,
    pub system: Duration,
}

impl ProcessorTime {
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("cannot read /proc")?;
        Self::parse(&stat).with_context(|| format!("cannot read what process {pid} used"))
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

    fn parse(stat: &str) -> Option<Self> {
        // The program's name, in brackets, may contain anything; utime and stime are fields 14 and 15 of proc(5).
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11).map(|field| field.parse().ok().map(from_ticks));
        Some(Self { user: fields.next()??, system: fields.next()?? })
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
    ours: Vec<u32>,
    since: Instant,
    at_first: ProcessorTime,
}

impl Others {
    /// From now on, all but `ours`.
    pub fn than(ours: Vec<u32>) -> Result<Self> {
        Ok(Self { at_first: Self::so_far(&ours)?, since: Instant::now(), ours })
    }

    /// How many cores they have kept busy.
    pub fn cores(&self) -> Result<f64> {
        let used = Self::so_far(&self.ours)? - self.at_first;
        Ok(used.total().as_secs_f64() / self.since.elapsed().as_secs_f64())
    }

    fn so_far(ours: &[u32]) -> Result<ProcessorTime> {
        let machine = ProcessorTime::of_machine()?;
        ours.iter().try_fold(machine, |rest, pid| Ok(rest - ProcessorTime::of(*pid)?))
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

    #[test]
    fn times_are_found_behind_any_name() {
        let tick = from_ticks(1);
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 5 1000 200";
        let time = ProcessorTime::parse(stat).unwrap();
        assert_eq!((time.user, time.system), (tick * 30, tick * 12));
    }

    #[test]
    fn memory_is_told_in_megabytes() {
        let memory =
            Memory::parse("Name:\tx\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\nRssAnon:\t  500 kB\n").unwrap();
        assert_eq!((memory.resident_mb, memory.peak_mb, memory.anonymous_mb), (1.024, 2.048, 0.512));
    }
}
