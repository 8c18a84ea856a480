//! Parked events, sent again because somebody asked for it.

use super::{delivered_but, refusing, without};
use crate::fixture::eventually;
use audittrail_crds::report::State;
use audittrail_source::script::{PoisonAnswer, Standing, Step};

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_accepted_is_delivered_and_one_that_is_refused_stays_parked() {
    let (setup, _forwarder) = delivered_but(10, &[2, 5, 8]).await;
    let before = setup.parked().await;
    assert_eq!(before.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["evt_2", "evt_5", "evt_8"]);

    setup.refuse(&[5]);
    assert_eq!(setup.ask_for_replay().await, 3);
    let facts = setup.until("the replays", |facts| facts.parked == 1 && facts.delivered == 9).await;
    assert_eq!((facts.delivered_sequence, facts.state), (Some(9), State::Accepting));
    assert_eq!(setup.received(), [without(0..10, &[2, 5, 8]), vec![2, 8]].concat());
    let left = eventually("the answer to the refused one", async || {
        setup.parked().await.into_iter().find(|row| row.replay_asked_at.is_none())
    })
    .await;
    assert_eq!(left.id, "evt_5");
    assert!(left.parked_at > before[1].parked_at);

    // And what comes later goes on.
    setup.append(10..12).await;
    setup.until_delivered().await;
    assert_eq!(setup.received()[9..], [10, 11]);
}

/// Whatever it makes of them: events that come are not kept waiting by one of the past.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_the_source_fails_on_holds_up_nothing_and_stays_parked() {
    let (setup, _forwarder) = delivered_but(10, &[2, 5]).await;

    setup.source.set_standing(refusing(&[2], PoisonAnswer::Fail));
    assert_eq!(setup.ask_for_replay().await, 2);
    setup.append(10..12).await;
    setup.until("what came and the other replay", |facts| facts.delivered == 11 && facts.parked == 1).await;
    let left = eventually("the answer to the one that it fails on", async || {
        setup.parked().await.into_iter().find(|row| row.replay_asked_at.is_none())
    })
    .await;
    assert_eq!((left.id.as_str(), left.code), ("evt_2", Some(500)));
    setup.append(12..13).await;
    assert_eq!(setup.until_delivered().await.state, State::Accepting);
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_wait_for_a_source_that_takes_nothing() {
    let (setup, _forwarder) = delivered_but(4, &[2]).await;

    let always = Some(Step::Status { code: 503, retry_after: None });
    setup.source.set_standing(Standing { always, ..Standing::default() });
    let before = setup.requests();
    assert_eq!(setup.ask_for_replay().await, 1);
    setup.until_requests(before + 4).await;
    assert!(setup.parked().await[0].replay_asked_at.is_some(), "the wish stands");
    setup.accept_all();
    setup.until_parked(0).await;
    assert_eq!(setup.received(), [0, 1, 3, 2]);
}
