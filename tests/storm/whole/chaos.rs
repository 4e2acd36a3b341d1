//! Deals faults, one or two at a time, and waits each time until everybody is served again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    faults::{Blow, Fault, deck},
    members::Role,
    readers::Library,
    world::World,
};
use crate::storm::{client::Silence, random::Random};

/// So many of a hundred times two things go wrong at once.
const TWO_PERCENT: u64 = 35;
/// The second begins so long after the first at the most, and ends so long after it.
const BETWEEN_MS_MAX: u64 = 800;
/// Faults last up to so long; so many of a hundred, longer.
const SHORT_MS_MAX: u64 = 2_500;
const LONG_PERCENT: u64 = 30;
const LONG_MS: std::ops::Range<u64> = 3_000..9_000;
/// The storm rests up to so long before the next.
const REST_MS_MAX: u64 = 600;
/// When nothing is wrong any more, everybody is served again within this time.
const RECOVERY_MAX: Duration = Duration::from_secs(45);
/// That is, so many commands are acknowledged and so many queries answered.
const COMMANDS_SERVED: u64 = 20;
const QUERIES_SERVED: u64 = 40;

/// What came of faults of one kind.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub count: usize,
    /// The longest time in which no command was acknowledged, and no query answered, from before the fault until after
    /// its end.
    pub commands_silent: Duration,
    pub queries_silent: Duration,
}

pub struct Chaos {
    pub world: World,
    pub library: Arc<Library>,
    random: Random,
    deck: Vec<Fault>,
    /// Of faults that came alone, and last those that came together.
    pub alone: BTreeMap<String, Tally>,
    pub together: Tally,
    /// How often each kind of fault was dealt, alone or not.
    pub dealt: BTreeMap<String, usize>,
}

impl Chaos {
    pub fn new(world: World, library: Arc<Library>, random: Random) -> Self {
        Self {
            world,
            library,
            random,
            deck: Vec::new(),
            alone: BTreeMap::new(),
            together: Tally::default(),
            dealt: BTreeMap::new(),
        }
    }

    /// One round: something goes wrong, is put right, and everybody is served.
    pub async fn round(&mut self, started: Instant) -> Result<(), String> {
        let blows = self.deal();
        let names: Vec<String> =
            blows.iter().map(|blow| format!("{} ({})", blow.fault, blow.number)).collect();
        for silence in [&self.library.sea.silence, &self.library.silence] {
            *silence.lock().unwrap() = Silence::new();
        }
        let mut begun: Vec<Blow> = Vec::new();
        for blow in blows {
            if !begun.is_empty() {
                self.sleep(0..BETWEEN_MS_MAX).await;
            }
            self.turn_page(blow.fault);
            blow.begin(&self.world, &mut self.random).await;
            begun.push(blow);
        }
        let is_long = self.random.percent(LONG_PERCENT);
        self.sleep(if is_long { LONG_MS } else { 0..SHORT_MS_MAX }).await;
        begun.sort_by_key(Blow::rank);
        for (index, blow) in begun.iter().enumerate() {
            if index > 0 {
                self.sleep(0..BETWEEN_MS_MAX).await;
            }
            blow.end(&mut self.world).await;
            self.turn_page(blow.fault);
        }
        let ended = Instant::now();
        let served = self.until_served().await;
        let longest = |silence: &Mutex<Silence>| silence.lock().unwrap().longest;
        let (commands, queries) = (longest(&self.library.sea.silence), longest(&self.library.silence));
        println!(
            "{:7.1} s  {:70} silent: commands {:.1} s, queries {:.1} s; served {:.1} s after",
            started.elapsed().as_secs_f64(),
            names.join(", "),
            commands.as_secs_f64(),
            queries.as_secs_f64(),
            ended.elapsed().as_secs_f64()
        );
        let tally = match &begun[..] {
            [blow] => self.alone.entry(blow.fault.to_string()).or_default(),
            _ => &mut self.together,
        };
        tally.count += 1;
        tally.commands_silent = tally.commands_silent.max(commands);
        tally.queries_silent = tally.queries_silent.max(queries);
        for blow in &begun {
            *self.dealt.entry(blow.fault.to_string()).or_default() += 1;
        }
        let ended = self.world.members.iter().filter(|member| member.has_ended());
        let ended: Vec<String> = ended.map(|member| member.name()).collect();
        if !served {
            return Err(format!(
                "after {names:?} nobody is served within {RECOVERY_MAX:?}; ended: {ended:?}"
            ));
        }
        if !ended.is_empty() {
            return Err(format!("after {names:?} these had ended by themselves: {ended:?}"));
        }
        self.sleep(0..REST_MS_MAX).await;
        Ok(())
    }

    fn deal(&mut self) -> Vec<Blow> {
        let mut count = if self.random.percent(TWO_PERCENT) { 2 } else { 1 };
        let mut blows: Vec<Blow> = Vec::new();
        while blows.len() < count {
            if self.deck.is_empty() {
                self.deck = deck(&mut self.random);
                // There may be only one that can be dealt.
                count = count.min(self.deck.len());
            }
            let fault = self.deck.pop().expect("it was filled");
            let Some(blow) = Blow::aim(fault, &self.world, &mut self.random) else { continue };
            // Nothing is killed and stopped at once.
            if blows.iter().any(|other| other.victim().is_some() && other.victim() == blow.victim()) {
                continue;
            }
            blows.push(blow);
        }
        blows
    }

    /// A replica that ends or starts is another one to those who ask it.
    fn turn_page(&self, fault: Fault) {
        if matches!(fault, Fault::Kill(Role::Query) | Fault::Restart(Role::Query)) {
            self.library.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn sleep(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.within(milliseconds))).await;
    }

    /// Whether everybody is served in time. Where something is wrong at first sight, nobody need be.
    async fn until_served(&self) -> bool {
        let served = || {
            let Library { sea, read, .. } = &*self.library;
            (sea.acknowledged.load(Ordering::Relaxed), read.load(Ordering::Relaxed))
        };
        let (commands, queries) = served();
        let deadline = Instant::now() + RECOVERY_MAX;
        while Instant::now() < deadline {
            let now = served();
            let is_served = now.0 >= commands + COMMANDS_SERVED && now.1 >= queries + QUERIES_SERVED;
            if is_served || !self.library.complaints.lock().unwrap().is_empty() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}
