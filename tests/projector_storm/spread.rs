//! Views spread over the projectors that run.

use std::time::{Duration, Instant};

use super::{
    load::Load,
    projectors::{Projectors, until_folded},
    signals::{self, Recorder},
};
use crate::{
    harness::{Place, Servers, verify},
    storm::random::Random,
};

/// Views have found their projectors within this time after one has come or gone.
const SPREAD_TIME_MAX: Duration = Duration::from_secs(8);

async fn within<const N: usize>(projectors: &Projectors, expected: [usize; N]) {
    let started = Instant::now();
    projectors.until_folding(expected).await;
    let took = started.elapsed();
    println!("{expected:?} after {took:?}");
    assert!(took < SPREAD_TIME_MAX, "{took:?} until {expected:?}");
}

#[tokio::test]
async fn two_projectors_fold_two_views_each_and_one_alone_folds_all() {
    let place = Place::new(Servers::shared().await).await;
    let mut load = Load::start(&place, Random::new(1, 0)).await;
    let mut projectors = Projectors::start(&place, ["", ""]).await;
    within(&projectors, [2, 2]).await;
    load.append_frame(100).await;

    projectors.all[0].stop().await;
    within(&projectors, [0, 4]).await;
    load.append_frame(100).await;
    until_folded(&place, load.position()).await;

    projectors.all[0].restart().await;
    within(&projectors, [2, 2]).await;
    load.append_frame(100).await;
    verify(&place).await;
}

#[tokio::test]
async fn a_projector_of_one_view_leaves_no_other_unfolded() {
    let place = Place::new(Servers::shared().await).await;
    let mut load = Load::start(&place, Random::new(1, 0)).await;
    let mut projectors = Projectors::start(&place, ["", "orders"]).await;
    within(&projectors, [3, 1]).await;
    load.append_frame(100).await;
    until_folded(&place, load.position()).await;

    projectors.all[1].stop().await;
    within(&projectors, [4, 0]).await;
    projectors.all[1].restart().await;
    within(&projectors, [3, 1]).await;
    load.append_frame(100).await;
    verify(&place).await;
}

#[tokio::test]
async fn views_stay_where_they_are_if_nobody_wants_them() {
    let place = Place::new(Servers::shared().await).await;
    let mut load = Load::start(&place, Random::new(1, 0)).await;
    let recorder = Recorder::start(&place).await;
    // Each folds two views. By its own count the first is to leave one of them to the second, which has its share.
    let projectors = Projectors::start(&place, ["accounts,orders", ""]).await;
    // Takes some seconds, within which they have found their views.
    load.append(2_500).await;
    until_folded(&place, load.position()).await;
    let takeovers = signals::takeovers(&recorder.heard().await);
    load.append(2_500).await;
    until_folded(&place, load.position()).await;
    assert_eq!(signals::takeovers(&recorder.heard().await), takeovers, "{}", projectors.said());
    verify(&place).await;
}

#[tokio::test]
async fn a_view_that_is_in_nobodys_share_is_folded_all_the_same() {
    let place = Place::new(Servers::shared().await).await;
    let mut load = Load::start(&place, Random::new(1, 0)).await;
    let projectors = Projectors::start(&place, ["accounts,orders", "", "accounts,orders"]).await;
    within(&projectors, [1, 2, 1]).await;
    // Those who are left have their shares: two of four views, one of two.
    projectors.all[0].kill().await;
    load.append_frame(100).await;
    until_folded(&place, load.position()).await;
    verify(&place).await;
}
