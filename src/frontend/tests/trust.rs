//! How far a key holder, an ExApp and a withdrawn record are trusted.

use super::*;
use crate::exapps::upstream::HostPattern;

const CONTROL: &str = "/exapps/app_api/info";
const WITH_KEY: [(&str, &str); 1] = [("harp-shared-key", KEY)];

#[tokio::test]
async fn w03_the_key_from_elsewhere_is_a_wrong_key() {
    let bed = Bed::with(|config| config.control_from = vec!["192.0.2.0/24".parse().unwrap()]).await;
    let at = |client: &'static str| [("harp-shared-key", KEY), ("x-forwarded-for", client)];
    assert_eq!(bed.status(CONTROL, &at("192.0.2.7")).await, 200);
    assert_eq!(bed.status(CONTROL, &at("198.51.100.7")).await, 401);
    let mut signed = signed();
    signed.push(("x-forwarded-for", "198.51.100.7"));
    assert!(bed.dropped("/exapps/demo/heartbeat", &signed).await);
    // It counts, too: nobody may try out where a stolen key is believed.
    for _ in 2..10 {
        bed.status(CONTROL, &at("198.51.100.7")).await;
    }
    assert!(bed.dropped("/exapps/demo/public", &[("x-forwarded-for", "198.51.100.7")]).await);
}

#[tokio::test]
async fn w03_headers_do_not_reach_every_host_for_an_unknown_exapp() {
    let announced = |host: &'static str, port: &'static str| {
        let mut headers = signed();
        headers.retain(|(name, _)| !matches!(*name, "ex-app-host" | "ex-app-port"));
        headers.extend([("ex-app-host", host), ("ex-app-port", port)]);
        headers
    };
    let bed = Bed::start().await;
    assert_eq!(bed.status("/exapps/new/heartbeat", &announced("127.0.0.1", "23001")).await, 200);
    let refused = bed.get("/exapps/new/heartbeat", &announced("192.0.2.1", "22")).await;
    assert_eq!(refused.status(), 503);
    let text = String::from_utf8(body_of(refused).await.to_vec()).unwrap();
    assert!(text.contains("exapps.announced_hosts"), "{text}");

    let any = |config: &mut Config| config.announced_hosts.listed = vec![HostPattern::Any];
    let bed = Bed::with(any).await;
    // Nobody is there, but it was tried.
    let answer = bed.get("/exapps/new/heartbeat", &announced("ip6-localhost.", "1")).await;
    let text = String::from_utf8(body_of(answer).await.to_vec()).unwrap();
    assert!(!text.contains("exapps.announced_hosts"), "{text}");
}

#[tokio::test]
async fn w24_a_stripped_exapp_does_not_see_how_its_visitor_is_logged_in() {
    let visitor = [("cookie", ALICE), ("authorization", "Basic YWxpY2U6eA==")];
    for (strip, cookie, authorization) in [
        (StripSession::Never, Some(ALICE), Some("Basic YWxpY2U6eA==")),
        (StripSession::Apps(vec!["other".into()]), Some(ALICE), Some("Basic YWxpY2U6eA==")),
        (
            StripSession::Apps(vec!["demo".into()]),
            Some("nc_sameSiteCookielax=true; ocinstance=alice-session"),
            None,
        ),
        (StripSession::Always, Some("nc_sameSiteCookielax=true; ocinstance=alice-session"), None),
    ] {
        let bed = Bed::with(|config| config.strip_session = strip.clone()).await;
        let answer = bed.get("/exapps/demo/user", &visitor).await;
        assert_eq!(answer.status(), 200, "Nextcloud is still told: {strip:?}");
        let seen = json_of(answer).await;
        let seen = |name: &str| seen["headers"][name].as_str().map(str::to_owned);
        assert_eq!(seen("cookie").as_deref(), cookie, "{strip:?}");
        assert_eq!(seen("authorization").as_deref(), authorization, "{strip:?}");
        let signature = seen("authorization-app-api");
        assert_eq!(signature, Some(STANDARD.encode("alice:secret")), "{strip:?}");
    }
}

#[tokio::test]
async fn w16_a_disabled_exapp_is_gone_for_visitors_and_asking_for_it_costs_them_nothing() {
    let bed = Bed::start().await;
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
    while bed.cluster.view().exapp(&Tenant::default(), "demo").is_none() {
        tokio::task::yield_now().await;
    }
    let delete = request("DELETE", "/exapps/app_api/exapp_storage/demo", &WITH_KEY);
    assert_eq!(send(bed.address, delete).await.status(), 204);
    for _ in 0..15 {
        assert_eq!(bed.status("/exapps/demo/public", &[]).await, 404);
    }
    // AppAPI gets through, as it does when it enables the ExApp again, and that is the end of it.
    assert_eq!(bed.status("/exapps/demo/heartbeat", &signed()).await, 200);
    while bed.cluster.view().exapp(&Tenant::default(), "demo").is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
}

#[tokio::test]
async fn w05_a_wrong_key_is_charged_to_the_client_and_not_to_the_proxy_in_front() {
    let bed = Bed::start().await;
    let mut guess = signed();
    guess.retain(|(name, _)| *name != "harp-shared-key");
    guess.extend([("harp-shared-key", "guess"), ("x-forwarded-for", "198.51.100.7")]);
    for _ in 0..10 {
        assert!(bed.dropped("/exapps/demo/heartbeat", &guess).await);
    }
    assert!(bed.dropped("/exapps/demo/public", &[("x-forwarded-for", "198.51.100.7")]).await);
    let other = [("x-forwarded-for", "198.51.100.8")];
    assert_eq!(bed.status("/exapps/demo/public", &other).await, 200);
}
