//! The processes of the system, each of which can be killed, stopped, asked to leave and started again.

use std::fs;

use futures::FutureExt;
use stack::servers::{Envoy, Nats, Postgres};

use crate::{
    instance::{Instance, pause, resume},
    smtp::SmtpServer,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Nats,
    Postgres,
    Standby,
    Mail,
    Command,
    Projector,
    Query,
    Tasks,
    Edge,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats-server",
            Self::Postgres => "Postgres",
            Self::Standby => "standby",
            Self::Mail => "mail server",
            Self::Command => "command-service",
            Self::Projector => "projector",
            Self::Query => "query-service",
            Self::Tasks => "task-worker",
            Self::Edge => "edge",
        }
    }

    /// Those that others need come first.
    pub const ALL: [Self; 9] = [
        Self::Nats,
        Self::Postgres,
        Self::Standby,
        Self::Mail,
        Self::Command,
        Self::Projector,
        Self::Query,
        Self::Tasks,
        Self::Edge,
    ];
}

pub struct Member {
    pub role: Role,
    /// Of several in a role: 1, 2, 3 …
    pub number: usize,
    pub process: Process,
}

pub enum Process {
    Service(Instance),
    Nats(Nats),
    Postgres(Postgres),
    Edge(Envoy),
    Mail(SmtpServer),
}

impl Member {
    /// As the edge calls it in its answers.
    pub fn name(&self) -> String {
        format!("{}-{}", self.role.name(), self.number)
    }

    pub fn service(&self) -> &Instance {
        match &self.process {
            Process::Service(instance) => instance,
            _ => panic!("{} is no service", self.name()),
        }
    }

    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Service(instance) => instance.pid(),
            Process::Nats(nats) => nats.pid(),
            Process::Postgres(postgres) => postgres.pid(),
            Process::Edge(edge) => edge.pid(),
            Process::Mail(smtp) => smtp.pid(),
        }
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        match &self.process {
            Process::Service(instance) => instance.kill().await,
            Process::Nats(nats) => nats.kill().await,
            Process::Postgres(postgres) => postgres.kill().await,
            Process::Edge(edge) => edge.kill().await,
            Process::Mail(_) => unreachable!("its emails would be lost"),
        }
    }

    /// SIGTERM, until it has ended.
    pub async fn leave(&self) {
        match &self.process {
            Process::Service(instance) => instance.stop().await,
            Process::Nats(nats) => nats.stop().await,
            Process::Postgres(postgres) => postgres.stop().await,
            Process::Edge(edge) => edge.stop().await,
            Process::Mail(_) => unreachable!("its emails would be lost"),
        }
    }

    /// Starts it again, and waits until it is ready.
    pub async fn restart(&mut self) {
        match &mut self.process {
            Process::Service(instance) => instance.restart().await,
            Process::Nats(nats) => nats.restart().await.unwrap(),
            Process::Postgres(postgres) => postgres.restart().await.unwrap(),
            Process::Edge(edge) => edge.restart().await.unwrap(),
            Process::Mail(_) => unreachable!("its emails would be lost"),
        }
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.family().into_iter().for_each(pause);
    }

    pub fn resume(&self) {
        self.family().into_iter().for_each(resume);
    }

    /// The process and those that it has started, as Postgres does for each session.
    fn family(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().map(|child| child.parse().unwrap());
        std::iter::once(pid).chain(children).collect()
    }

    /// Whether it has ended though nobody wanted it to.
    pub fn has_ended(&self) -> bool {
        match &self.process {
            Process::Service(instance) => instance.exited().now_or_never().is_some(),
            Process::Nats(nats) => nats.exited().now_or_never().is_some(),
            Process::Postgres(postgres) => postgres.exited().now_or_never().is_some(),
            Process::Edge(edge) => edge.exited().now_or_never().is_some(),
            Process::Mail(_) => false,
        }
    }
}
