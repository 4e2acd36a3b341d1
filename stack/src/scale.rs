//! How many instances of each service there should be, and in which region.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

use crate::services::{COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER};

/// Of one service. This is one machine.
pub const INSTANCES_MAX: usize = 32;

/// What should run. The first region has everything that is central; query-services are in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub commands: usize,
    pub projectors: usize,
    pub task_workers: usize,
    /// By region, in the order of the regions.
    pub queries: Vec<(String, usize)>,
}

impl Scale {
    /// One of each service, and so many query-services, spread over the regions.
    pub fn new(regions: &[String], replicas: usize) -> Self {
        let queries = regions.iter().map(|region| (region.clone(), 0)).collect();
        let mut scale = Self { commands: 1, projectors: 1, task_workers: 1, queries };
        scale.spread(replicas);
        scale
    }

    /// As evenly as they can be; the first regions have the rest.
    fn spread(&mut self, replicas: usize) {
        let regions = self.queries.len();
        for (index, (_, count)) in self.queries.iter_mut().enumerate() {
            *count = replicas / regions + usize::from(index < replicas % regions);
        }
    }

    /// What it is after all of these changes, if there may be as many.
    pub fn changed(&self, changes: &[Change]) -> Result<Self> {
        let mut scale = self.clone();
        for change in changes {
            scale.change(change)?;
        }
        ensure!(scale.replicas() > 0, "{QUERY_SERVICE}: at least one has to run, in whichever region");
        Ok(scale)
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        let Change { service, region, count } = change;
        ensure!(*count <= INSTANCES_MAX, "{change}: at most {INSTANCES_MAX} run on one machine");
        let central = match service {
            Service::Query => return self.change_queries(change),
            Service::Command => &mut self.commands,
            Service::Projector => &mut self.projectors,
            Service::TaskWorker => &mut self.task_workers,
        };
        ensure!(region.is_none(), "{change}: only query-services have regions");
        ensure!(*count > 0, "{change}: at least one has to run");
        *central = *count;
        Ok(())
    }

    fn change_queries(&mut self, change: &Change) -> Result<()> {
        match &change.region {
            None => self.spread(change.count),
            Some(wanted) => {
                let regions = self.regions().join(", ");
                let found = self.queries.iter_mut().find(|(region, _)| region == wanted);
                found.with_context(|| format!("{change}: the regions are {regions}"))?.1 = change.count;
            }
        }
        ensure!(self.replicas() <= INSTANCES_MAX, "{change}: at most {INSTANCES_MAX} run on one machine");
        Ok(())
    }

    pub fn regions(&self) -> Vec<String> {
        self.queries.iter().map(|(region, _)| region.clone()).collect()
    }

    /// The query-services of all regions.
    pub fn replicas(&self) -> usize {
        self.queries.iter().map(|(_, count)| count).sum()
    }

    /// So many of each service in each region where there may be any.
    pub fn parts(&self) -> Vec<(Service, &str, usize)> {
        let central = &self.queries[0].0;
        let centrals = [
            (Service::Command, self.commands),
            (Service::Projector, self.projectors),
            (Service::TaskWorker, self.task_workers),
        ];
        let centrals = centrals.into_iter().map(|(service, count)| (service, central.as_str(), count));
        let queries = self.queries.iter().map(|(region, count)| (Service::Query, region.as_str(), *count));
        centrals.chain(queries).collect()
    }

    /// Whether clients have to be led to one of several services.
    pub fn needs_edge(&self) -> bool {
        self.queries.len() > 1 || self.replicas() > 1 || self.commands > 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Command,
    Query,
    Projector,
    TaskWorker,
}

impl Service {
    pub const ALL: [Self; 4] = [Self::Command, Self::Query, Self::Projector, Self::TaskWorker];

    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => COMMAND_SERVICE,
            Self::Query => QUERY_SERVICE,
            Self::Projector => PROJECTOR,
            Self::TaskWorker => TASK_WORKER,
        }
    }
}

/// From now on so many of a service, written `query=5` or `query.us=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    service: Service,
    region: Option<String>,
    count: usize,
}

impl FromStr for Change {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = "expected <service>=<number>, such as query=5, query.us=2 or command=2";
        let (what, count) = text.split_once('=').context(form)?;
        let (service, region) = match what.split_once('.') {
            Some((service, region)) => (service, Some(region.to_owned())),
            None => (what, None),
        };
        let service = match service {
            "command" | COMMAND_SERVICE => Service::Command,
            "query" | QUERY_SERVICE => Service::Query,
            "projector" => Service::Projector,
            "task-worker" => Service::TaskWorker,
            other => {
                bail!("there is no service {other}; there are command, query, projector and task-worker")
            }
        };
        let count = count.parse().ok().with_context(|| format!("{count} is not a number of instances"))?;
        Ok(Self { service, region, count })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, region, count } = self;
        let region = region.as_ref().map_or(String::new(), |region| format!(".{region}"));
        write!(f, "{}{region}={count}", service.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Vec<String> {
        vec!["eu".to_owned(), "us".to_owned()]
    }

    fn changed(scale: &Scale, changes: &[&str]) -> Result<Scale> {
        scale.changed(&changes.iter().map(|change| change.parse()).collect::<Result<Vec<_>>>()?)
    }

    fn counts(scale: &Scale) -> Vec<usize> {
        scale.queries.iter().map(|(_, count)| *count).collect()
    }

    #[test]
    fn replicas_are_spread_over_the_regions_unless_one_is_named() {
        let scale = Scale::new(&regions(), 3);
        assert_eq!(counts(&scale), [2, 1]);
        let scale = changed(&scale, &["query.us=4", "command=2"]).unwrap();
        assert_eq!((counts(&scale), scale.commands), (vec![2, 4], 2));
        assert_eq!(counts(&changed(&scale, &["query=2"]).unwrap()), [1, 1]);
        assert_eq!(counts(&changed(&scale, &["query.eu=0"]).unwrap()), [0, 4]);
    }

    #[test]
    fn what_cannot_be_says_why() {
        let scale = Scale::new(&regions(), 2);
        for (changes, complaint) in [
            (&["query"][..], "expected <service>=<number>"),
            (&["queries=2"], "no service queries"),
            (&["query=many"], "many is not a number"),
            (&["query.asia=1"], "the regions are eu, us"),
            (&["query.eu=0", "query.us=0"], "at least one has to run"),
            (&["projector.eu=1"], "only query-services have regions"),
            (&["command=0"], "at least one has to run"),
            (&["query=33"], "at most 32"),
            (&["query.eu=20", "query.us=20"], "at most 32"),
        ] {
            let error = changed(&scale, changes).unwrap_err().to_string();
            assert!(error.contains(complaint), "{changes:?}: {error}");
        }
    }

    #[test]
    fn one_of_each_needs_no_edge() {
        let alone = Scale::new(&regions()[..1], 1);
        assert!(!alone.needs_edge());
        assert!(Scale::new(&regions(), 2).needs_edge());
        assert!(changed(&alone, &["command=2"]).unwrap().needs_edge());
        assert!(!changed(&alone, &["projector=2", "task-worker=3"]).unwrap().needs_edge());
    }

    #[test]
    fn a_change_is_written_as_it_is_read() {
        for text in ["query-service.us=2", "command-service=1", "task-worker=3"] {
            assert_eq!(text.parse::<Change>().unwrap().to_string(), text);
        }
    }
}
