//! The protocol, played through with everything that can go wrong: signals that are lost, late or out of order,
//! projectors that freeze and wake up, views that are switched, a standby that lags, entries that are evicted,
//! reads that overlap all of it. Each answer is compared with the history of the database, which the replica
//! cannot see. Everything is drawn from a seed, so that a failure can be repeated.

mod random;
mod world;

use super::rules::Rules;
use world::World;

/// The first schedule of so many that goes wrong, else the number of answers and of those from the cache.
fn play(schedules: u64, rules: Rules) -> Result<(u64, u64), String> {
    let mut sum = (0, 0);
    for seed in 1..=schedules {
        let (answers, hits) =
            World::new(seed, rules).run().map_err(|error| format!("seed {seed}: {error}"))?;
        sum = (sum.0 + answers, sum.1 + hits);
    }
    Ok(sum)
}

#[test]
fn no_answer_is_ever_wrong_or_older_than_what_was_heard() {
    let (answers, hits) = play(10_000, Rules::ALL).unwrap_or_else(|error| panic!("{error}"));
    // A cache that is never used is never wrong.
    assert!(hits > answers / 10, "{hits} of {answers} answers came from the cache");
}

#[test]
fn each_rule_is_needed() {
    type Off = fn(&mut Rules);
    let rules: [(&str, Off); 13] = [
        ("late terms", |rules| rules.late_terms_are_ignored = false),
        ("terms", |rules| rules.terms_begin_anew = false),
        ("a new beginning after silence", |rules| rules.silence_begins_anew = false),
        ("gaps", |rules| rules.gaps_raise_the_floor = false),
        ("stamps", |rules| rules.touched_rows_are_stamped = false),
        ("lost news", |rules| rules.lost_news_is_noticed = false),
        ("serving in silence", |rules| rules.silence_is_not_served = false),
        ("reads of another term", |rules| rules.reads_of_another_term_are_not_kept = false),
        ("what is old already", |rules| rules.what_is_old_already_is_not_kept = false),
        ("standbys behind", |rules| rules.standbys_that_are_behind_are_not_believed = false),
        ("hits of this timeline", |rules| rules.hits_are_of_this_timeline = false),
        ("reads of a new term", |rules| rules.reads_end_the_term_before = false),
        ("what was shown", |rules| rules.nobody_is_taken_back = false),
    ];
    let idle: Vec<&str> = rules
        .iter()
        .filter(|(_, off)| {
            let mut rules = Rules::ALL;
            off(&mut rules);
            play(20_000, rules).is_ok()
        })
        .map(|(name, _)| *name)
        .collect();
    assert!(idle.is_empty(), "nothing goes wrong without {idle:?}");
}
