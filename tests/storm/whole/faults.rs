//! What goes wrong, and how it is put right again.

use std::{fmt, fs, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    members::{Member, Role},
    world::World,
};
use crate::storm::random::Random;

/// Time may be wrong by so much, either way.
const SKEW_SECONDS_MAX: u64 = 3_600;
const DELAYS_MS: std::ops::Range<u64> = 5..200;
/// So many of a hundred wires that freeze do so one way only.
const FREEZE_HALF_PERCENT: u64 = 50;
/// So many of a hundred command-services that are killed lose their state.
const LOSE_STATE_PERCENT: u64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9`, and a while later another start.
    Kill(Role),
    /// SIGSTOP, and a while later SIGCONT.
    Stop(Role),
    /// SIGTERM, and a while later another start.
    Restart(Role),
    /// Nothing comes through, or nothing that is asked, and nobody is told; a while later it comes.
    Freeze(Role, Role),
    /// All connections end, and for a while none can be made.
    Cut(Role, Role),
    Delay(Role, Role),
    /// A disk without room.
    Fill(Role),
    /// The wall clock is wrong.
    Skew(Role),
    /// A standby that receives and does not show.
    Lag,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(role) => write!(f, "{}: kill -9", role.name()),
            Self::Stop(role) => write!(f, "{}: SIGSTOP", role.name()),
            Self::Restart(role) => write!(f, "{}: restart", role.name()),
            Self::Freeze(from, to) => write!(f, "{} to {}: frozen", from.name(), to.name()),
            Self::Cut(from, to) => write!(f, "{} to {}: cut", from.name(), to.name()),
            Self::Delay(from, to) => write!(f, "{} to {}: slow", from.name(), to.name()),
            Self::Fill(role) => write!(f, "{}: disk full", role.name()),
            Self::Skew(role) => write!(f, "{}: clock wrong", role.name()),
            Self::Lag => write!(f, "standby: lags"),
        }
    }
}

/// Who talks to whom.
const LINKS: [(Role, Role); 10] = [
    (Role::Command, Role::Nats),
    (Role::Projector, Role::Nats),
    (Role::Query, Role::Nats),
    (Role::Tasks, Role::Nats),
    (Role::Projector, Role::Postgres),
    (Role::Query, Role::Postgres),
    (Role::Query, Role::Standby),
    (Role::Edge, Role::Command),
    (Role::Edge, Role::Query),
    (Role::Tasks, Role::Mail),
];
const SERVICES: [Role; 4] = [Role::Command, Role::Projector, Role::Query, Role::Tasks];

/// Every fault once, and the rarer ones of a standby some more, in an order that chance decides.
pub fn deck(random: &mut Random) -> Vec<Fault> {
    let mut deck = vec![Fault::Fill(Role::Nats), Fault::Fill(Role::Command)];
    deck.extend([Fault::Lag; 3]);
    deck.extend(SERVICES.map(Fault::Skew));
    for role in Role::ALL {
        deck.push(Fault::Stop(role));
        if role != Role::Mail {
            deck.extend([Fault::Kill(role), Fault::Restart(role)]);
        }
    }
    for (from, to) in LINKS {
        deck.extend([Fault::Freeze(from, to), Fault::Cut(from, to), Fault::Delay(from, to)]);
    }
    if let Ok(only) = std::env::var("HEADWATER_STORM_FAULTS") {
        deck.retain(|fault| only.split(',').any(|part| fault.to_string().contains(part)));
        assert!(!deck.is_empty(), "no fault is called like HEADWATER_STORM_FAULTS={only}");
    }
    random.shuffle(&mut deck);
    deck
}

/// A fault, and which of several it hits: 1, 2, 3 …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blow {
    pub fault: Fault,
    pub number: usize,
}

impl Blow {
    /// None if nothing in this world can have it.
    pub fn aim(fault: Fault, world: &World, random: &mut Random) -> Option<Self> {
        let numbers: Vec<usize> = match fault {
            Fault::Kill(role) | Fault::Stop(role) | Fault::Restart(role) => {
                world.all(role).map(|member| member.number).collect()
            }
            Fault::Freeze(from, to) | Fault::Cut(from, to) | Fault::Delay(from, to) => {
                let links = world.links.iter().filter(|link| (link.from, link.to) == (from, to));
                links.map(|link| link.number).collect()
            }
            Fault::Fill(role) => {
                world.disks.iter().filter(|(of, ..)| *of == role).map(|(_, number, _)| *number).collect()
            }
            Fault::Skew(role) => {
                world.clocks.iter().filter(|(of, ..)| *of == role).map(|(_, number, _)| *number).collect()
            }
            Fault::Lag => vec![1],
        };
        (!numbers.is_empty()).then(|| Self { fault, number: *random.one_of(&numbers) })
    }

    /// The process that it hits itself, rather than what that process needs.
    pub fn victim(&self) -> Option<(Role, usize)> {
        match self.fault {
            Fault::Kill(role) | Fault::Stop(role) | Fault::Restart(role) | Fault::Fill(role) => {
                Some((role, self.number))
            }
            Fault::Lag => Some((Role::Standby, 1)),
            _ => None,
        }
    }

    /// Those that others need are put right first.
    pub fn rank(&self) -> usize {
        let needs_a_start =
            matches!(self.fault, Fault::Kill(_) | Fault::Restart(_) | Fault::Fill(Role::Nats));
        let rank = |role| Role::ALL.iter().position(|other| *other == role).unwrap() + 1;
        self.victim().filter(|_| needs_a_start).map_or(0, |(role, _)| rank(role))
    }

    pub async fn begin(&self, world: &World, random: &mut Random) {
        match self.fault {
            Fault::Kill(role) => {
                self.member(world, role).kill().await;
                if role == Role::Command && random.percent(LOSE_STATE_PERCENT) {
                    fs::remove_dir_all(world.state_of(self.number)).unwrap();
                }
            }
            Fault::Stop(role) => self.member(world, role).pause(),
            Fault::Restart(role) => self.member(world, role).leave().await,
            Fault::Freeze(..) if random.percent(FREEZE_HALF_PERCENT) => {
                self.wires(world).for_each(|wire| wire.freeze_half());
            }
            Fault::Freeze(..) => self.wires(world).for_each(|wire| wire.freeze()),
            Fault::Cut(..) => self.wires(world).for_each(|wire| wire.close()),
            Fault::Delay(..) => {
                let delay = Duration::from_millis(random.within(DELAYS_MS));
                self.wires(world).for_each(|wire| wire.delay(delay));
            }
            Fault::Fill(_) => self.disk(world).fill(),
            Fault::Skew(_) => {
                let seconds = random.within(0..2 * SKEW_SECONDS_MAX).cast_signed();
                self.clock(world).skew(seconds - SKEW_SECONDS_MAX.cast_signed());
            }
            Fault::Lag => replay_of_standby(world, "pause").await,
        }
    }

    /// Puts it right, and waits until what has to start again is ready.
    pub async fn end(&self, world: &mut World) {
        match self.fault {
            Fault::Kill(role) | Fault::Restart(role) => self.member_mut(world, role).restart().await,
            Fault::Stop(role) => self.member(world, role).resume(),
            Fault::Freeze(..) => self.wires(world).for_each(|wire| wire.thaw()),
            Fault::Cut(..) => self.wires(world).for_each(|wire| wire.open()),
            Fault::Delay(..) => self.wires(world).for_each(|wire| wire.delay(Duration::ZERO)),
            Fault::Fill(role) => {
                self.disk(world).free();
                // After a failed write, nats-server 2.15 stores nothing until it is started again.
                if role == Role::Nats {
                    self.member_mut(world, role).restart().await;
                }
            }
            Fault::Skew(_) => self.clock(world).skew(0),
            Fault::Lag => replay_of_standby(world, "resume").await,
        }
    }

    fn member<'a>(&self, world: &'a World, role: Role) -> &'a Member {
        world.all(role).find(|member| member.number == self.number).unwrap()
    }

    fn member_mut<'a>(&self, world: &'a mut World, role: Role) -> &'a mut Member {
        let mut members = world.members.iter_mut();
        members.find(|member| (member.role, member.number) == (role, self.number)).unwrap()
    }

    fn wires<'a>(&self, world: &'a World) -> impl Iterator<Item = &'a crate::wire::Wire> {
        let (Fault::Freeze(from, to) | Fault::Cut(from, to) | Fault::Delay(from, to)) = self.fault else {
            panic!("{} hits no wire", self.fault);
        };
        let number = self.number;
        let links =
            world.links.iter().filter(move |link| (link.from, link.number, link.to) == (from, number, to));
        links.flat_map(|link| &link.wires)
    }

    fn disk<'a>(&self, world: &'a World) -> &'a crate::disk::Disk {
        let victim = self.victim();
        &world.disks.iter().find(|(role, number, _)| Some((*role, *number)) == victim).unwrap().2
    }

    fn clock<'a>(&self, world: &'a World) -> &'a super::clock::Clock {
        let Fault::Skew(role) = self.fault else { panic!("{} hits no clock", self.fault) };
        &world.clocks.iter().find(|(of, number, _)| (*of, *number) == (role, self.number)).unwrap().2
    }
}

async fn replay_of_standby(world: &World, order: &str) {
    let mut connection = PgConnection::connect(&world.standby_admin_url).await.unwrap();
    let order = AssertSqlSafe(format!("select pg_wal_replay_{order}()"));
    sqlx::query(order).execute(&mut connection).await.unwrap();
}
