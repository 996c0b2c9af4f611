//! The Active dies in the middle of an action, and AppAPI's sequence goes on at the standby.

use crate::life::{app, name, nothing_secret_in, split, went_well};
use crate::machine::register;
use crate::pair::with_a_pair;
use crate::support::appapi::{DEPLOY, DISABLE, ENABLE, REMOVE_WITH_DATA, Step};
use crate::support::image::{self, Init};
use crate::support::{eventually, http};

#[tokio::test]
async fn an_installation_goes_on_after_the_active_was_killed() {
    with_a_pair(|mut pair| async move {
        let app = app("pairapp", 23_200);
        let (repository, tag) = app.image.rsplit_once(':').unwrap();
        image::import(&pair.engine, repository, tag, Init::Polite).await;
        register(&pair.nextcloud, &app);
        let (before, after) = split(DEPLOY, Step::InstallCertificates);

        went_well(pair.stage().appapi.act(&app, before).await);
        pair.kill_active().await;
        // At once: the call waits at the standby until the engine's tunnel is back.
        let stage = pair.stage();
        went_well(stage.appapi.act(&app, after).await);
        went_well(stage.appapi.act(&app, ENABLE).await);
        stage.used(&app).await;
        stage.told_nothing(&app).await;

        went_well(stage.appapi.act(&app, DISABLE).await);
        went_well(stage.appapi.act(&app, REMOVE_WITH_DATA).await);
        assert_eq!(pair.engine.container(&name(&app)).await, None);
        for member in &pair.members[..2] {
            nothing_secret_in(&member.log(), &[&app]);
        }
        nothing_secret_in(&pair.tunnel.log(), &[&app]);
    })
    .await;
}

/// AppAPI itself does not ask again; what matters is that the call leaves nothing behind which
/// would stop another node from waiting on.
#[tokio::test]
async fn w25_waiting_for_a_start_goes_on_at_the_other_node() {
    with_a_pair(|mut pair| async move {
        let app = app("waitapp", 23_201);
        let (repository, tag) = app.image.rsplit_once(':').unwrap();
        image::import(&pair.engine, repository, tag, Init::Polite).await;
        register(&pair.nextcloud, &app);
        let appapi = pair.stage().appapi;
        let (before, _after) = split(DEPLOY, Step::FirstStart);
        went_well(appapi.act(&app, before).await);

        // Created and never started: the node polls and would for a while.
        let look = format!("/containers/{}/json", name(&app));
        let (caller, waiting) = (appapi.clone(), app.clone());
        let cut = tokio::spawn(async move { caller.take(&waiting, Step::WaitForStart).await });
        let looks = || pair.engine.log().matches(&look).count();
        let before = looks();
        let waits = || async { (looks() > before + 1).then_some(()) };
        eventually("the Active looks at the container again and again", waits).await;
        pair.kill_active().await;
        cut.abort();

        let (caller, waiting) = (appapi.clone(), app.clone());
        let resumed = tokio::spawn(async move { caller.take(&waiting, Step::WaitForStart).await });
        let path = format!("/containers/{}/start", name(&app));
        let started = pair.engine.call(http::request("POST", &path, &[], "")).await;
        assert_eq!(started.status(), 204);
        let answer = went_well(resumed.await.unwrap()).json();
        assert_eq!(answer["status"], "running");
    })
    .await;
}
