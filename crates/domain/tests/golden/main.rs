//! Golden samples: what stands in logs and in stores, kept as files, so that no change of the code makes
//! it unreadable or gives it another meaning unnoticed.
//!
//! To change an event, see `domain::upcast`; to change a state, raise its `STATE_VERSION`. Then
//! `GOLDEN=write cargo test -p domain` writes the files that are missing; read them before committing
//! them. It never changes a file, and nor should anybody: such bytes may stand in a log.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod changes;
mod events;
mod files;
mod samples;
mod schema;
mod states;

use domain::{Aggregate, Kind, account::Account, order::Order};

use files::Golden;

#[test]
fn every_event_ever_written_reads_as_it_did() {
    let golden = Golden::of_the_application();
    none(&[
        events::complaints(&golden, Account::NAME, Account::UPCASTS, samples::of_accounts),
        events::complaints(&golden, Order::NAME, Order::UPCASTS, samples::of_orders),
    ]);
}

#[test]
fn every_state_is_stored_as_it_was_under_its_version() {
    let golden = Golden::of_the_application();
    none(&[
        states::complaints::<Account>(&golden, samples::account_histories),
        states::complaints::<Order>(&golden, samples::order_histories),
    ]);
}

#[test]
fn the_tests_above_know_every_aggregate() {
    let aggregates = Kind::ALL.iter().map(|kind| kind.name());
    assert!(aggregates.eq([Account::NAME, Order::NAME]));
}

#[track_caller]
fn none(complaints: &[Vec<String>]) {
    let complaints = complaints.concat();
    assert!(
        complaints.is_empty(),
        "{}\n\nA changed event needs a new version (see domain::upcast), a changed state a new \
         STATE_VERSION. Missing files are written by GOLDEN=write cargo test -p domain.\n",
        complaints.join("\n")
    );
}
