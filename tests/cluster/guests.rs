//! What one node learns about a client holds on the other.

use std::time::Duration;

use trigon::admin::bans::Removal;
use trigon::admin::client;

use crate::machine::Machine;
use crate::place::{Place, Setup};
use crate::support::{eventually, http};

/// Whether the node answers a client that has no key, rather than dropping it.
async fn lets_in(node: &Machine) -> bool {
    let answer = node.ask(http::get("/exapps/app_api/info", &[]));
    tokio::time::timeout(Duration::from_secs(2), answer).await.is_ok_and(|sent| sent.is_some())
}

#[tokio::test]
async fn failures_on_one_node_ban_on_the_other_and_a_pardon_there_lifts_it_here() {
    let mut place = Place::start(Setup::default()).await;
    for _ in 0..10 {
        let _ = place.a.ask(http::get("/exapps/app_api/info", &[])).await;
    }
    assert!(!lets_in(&place.a).await);
    eventually("the other node drops the banned client", || async {
        (!lets_in(&place.b).await).then_some(())
    })
    .await;
    let removal = Removal { address: "127.0.0.1".into() };
    assert!(client::pardon(&place.b.socket(), &removal).await.unwrap().found);
    eventually("the first node lets the client in again", || async {
        lets_in(&place.a).await.then_some(())
    })
    .await;
    let refused = client::bans(&place.witness().socket(), false).await.unwrap_err();
    assert!(refused.to_string().contains("a witness knows no"), "{refused}");
}
