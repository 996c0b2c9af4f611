//! Who may pass, what refusals look like, and what Nextcloud is asked.

use super::*;

#[tokio::test]
async fn access_levels_hold_for_everyone() {
    let bed = Bed::start().await;
    let basic = format!("Basic {}", STANDARD.encode("alice:right"));
    let wrong = format!("Basic {}", STANDARD.encode("alice:wrong"));
    let no_lax = "oc_sessionPassphrase=p; ocinstance=alice-session";
    let rows: &[(&str, Headers<'_>, u16)] = &[
        ("/exapps/demo/public", &[], 200),
        ("/exapps/demo/public", &[("cookie", ALICE)], 200),
        ("/exapps/demo/user", &[], 403),
        ("/exapps/demo/user", &[("cookie", ALICE)], 200),
        ("/exapps/demo/user", &[("authorization", &basic)], 200),
        ("/exapps/demo/user", &[("authorization", &wrong)], 403),
        ("/exapps/demo/admin", &[("cookie", ALICE)], 403),
        ("/exapps/demo/admin", &[("cookie", ADMIN)], 200),
        ("/exapps/DEMO/public", &[], 200),
        // Nextcloud cannot tell from these cookies: nobody's fault, and public stays public.
        ("/exapps/demo/user", &[("cookie", no_lax)], 503),
        ("/exapps/demo/public", &[("cookie", no_lax)], 200),
        ("/exapps/demo/elsewhere", &[], 404),
        ("/exapps/unknown/public", &[], 404),
        ("/exapps/", &[], 404),
        ("/", &[], 404),
    ];
    for (path, headers, expected) in rows {
        assert_eq!(bed.status(path, headers).await, *expected, "{path} {headers:?}");
    }
    assert_eq!(calls(&bed.nextcloud.meta_calls), 2, "one for demo, one for the unknown app");
}

#[tokio::test]
async fn refusals_look_like_harps() {
    let bed = Bed::start().await;
    for (path, status, text) in [
        ("/exapps/demo/user", 403, "403 Forbidden"),
        ("/exapps/demo/none", 404, "404 Not Found"),
        ("/exapps/app_api/info", 401, "401 Unauthorized"),
    ] {
        let response = bed.get(path, &[]).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert!(!response.headers().contains_key("date"));
        assert_eq!(body_of(response).await, text);
    }
}

#[tokio::test]
async fn the_exapp_sees_its_headers_and_the_untouched_rest() {
    let bed = Bed::start().await;
    let headers = [
        ("cookie", ALICE),
        ("ex-app-id", "forged"),
        ("authorization-app-api", "forged"),
        ("aa-version", "1"),
        ("connection", "close, ex-app-id, x-hop"),
        ("x-hop", "1"),
        ("x-forwarded-for", "192.0.2.7"),
    ];
    let seen = json_of(bed.get("/exapps/Demo/user/a%2Fb?x=%20&y", &headers).await).await;
    assert_eq!(seen["target"], "/user/a%2Fb?x=%20&y");
    let seen = &seen["headers"];
    assert_eq!(seen["ex-app-id"], "Demo");
    assert_eq!(seen["ex-app-version"], "1.2.3");
    assert_eq!(seen["aa-version"], "32");
    assert_eq!(seen["authorization-app-api"], STANDARD.encode("alice:secret"));
    assert_eq!(seen["host"], "cloud.example");
    assert_eq!(seen["cookie"], ALICE);
    assert_eq!(seen["x-forwarded-for"], "192.0.2.7");
    assert!(seen.get("x-hop").is_none() && seen.get("connection").is_none());

    let asked = bed.nextcloud.last_user_headers.lock().unwrap().clone();
    assert_eq!(asked["x-forwarded-for"], "192.0.2.7");
    assert!(!asked.contains_key("ex-app-id"));

    let anonymous = json_of(bed.get("/exapps/demo/public", &[]).await).await;
    assert_eq!(anonymous["headers"]["authorization-app-api"], STANDARD.encode(":secret"));
    assert_eq!(json_of(bed.get("/exapps/demo/public?q", &[]).await).await["target"], "/public?q");
}

#[tokio::test]
async fn no_request_waits_for_a_cluster_that_never_answers() {
    let bed = Bed::start().await;
    bed.cluster.fall_silent();
    let requests = async {
        for _ in 0..3 {
            assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
            assert_eq!(bed.status("/exapps/demo/user", &[("cookie", ALICE)]).await, 200);
            assert_eq!(bed.status("/exapps/demo/heartbeat", &signed()).await, 200);
            assert_eq!(bed.status("/exapps/unknown/", &[]).await, 404, "and it is counted");
        }
    };
    timeout(LONG, requests).await.expect("no request waits");
    assert!(bed.cluster.view().exapps().next().is_none(), "the cluster has said nothing");
}

#[tokio::test]
async fn signed_requests_pass_without_routes_and_keep_the_key_here() {
    let bed = Bed::start().await;
    let seen = json_of(bed.get("/exapps/demo/anything", &signed()).await).await;
    assert_eq!(seen["headers"]["authorization-app-api"], "c2lnbmVk");
    for private in ["harp-shared-key", "ex-app-host", "ex-app-port"] {
        assert!(seen["headers"].get(private).is_none(), "{private}");
    }
    assert_eq!(bed.status("/exapps/demo/heartbeat", &signed()).await, 200);
    // Not in Nextcloud yet: AppAPI's own headers say where it is.
    assert_eq!(bed.status("/exapps/fresh/heartbeat", &signed()).await, 200);

    let mut wrong = signed();
    wrong[5].1 = "guess";
    assert!(bed.dropped("/exapps/demo/anything", &wrong).await);
}

#[tokio::test]
async fn a_contradicted_record_is_fetched_again_before_the_call_goes_out() {
    let bed = Bed::start().await;
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
    let apps = || bed.nextcloud.apps.lock().unwrap();
    apps().get_mut("demo").unwrap()["exapp_version"] = "2.0.0".into();
    let mut newer = signed();
    newer[0].1 = "2.0.0";
    let seen = json_of(bed.get("/exapps/demo/x", &newer).await).await;
    assert_eq!(seen["headers"]["ex-app-version"], "2.0.0");
}

#[tokio::test]
async fn internal_endpoints_and_parent_segments_are_dropped() {
    let bed = Bed::start().await;
    for path in [
        "/exapps/demo/heartbeat",
        "/exapps/demo/init",
        "/exapps/demo/enabled",
        "/exapps/demo/%68eartbeat",
        "/exapps/demo/public/../admin",
        "/exapps/demo/public/%2e%2E/admin",
        "/exapps/demo/public%2f..%2fadmin",
    ] {
        assert!(bed.dropped(path, &[]).await, "{path}");
    }
    assert_eq!(calls(&bed.exapp.requests), 0);
}

#[tokio::test]
async fn ten_failures_ban_the_client_but_never_the_key_holder() {
    let bed = Bed::start().await;
    let from = ("x-forwarded-for", "192.0.2.66");
    for _ in 0..10 {
        assert_eq!(bed.status("/exapps/demo/none", &[from]).await, 404);
    }
    assert!(bed.dropped("/exapps/demo/public", &[from]).await);
    let other = ("x-forwarded-for", "192.0.2.67");
    assert_eq!(bed.status("/exapps/demo/public", &[other]).await, 200);
    assert_eq!(bed.status("/exapps/app_api/info", &[from, ("harp-shared-key", KEY)]).await, 200);
}

#[tokio::test]
async fn listed_response_statuses_count_as_failures() {
    let bed = Bed::start().await;
    for _ in 0..10 {
        assert_eq!(bed.status("/exapps/demo/status/401", &[]).await, 401);
    }
    assert!(bed.dropped("/exapps/demo/public", &[]).await);
}

#[tokio::test]
async fn a_session_is_asked_about_once_however_many_come() {
    let bed = Bed::start().await;
    let cookie = [("cookie", ALICE)];
    let many = (0..20).map(|_| bed.status("/exapps/demo/user", &cookie));
    assert_eq!(futures_util::future::join_all(many).await, [200; 20]);
    assert_eq!(calls(&bed.nextcloud.user_calls), 1);
    assert_eq!(calls(&bed.nextcloud.meta_calls), 1);
    // The same passphrase with another session or Authorization is another visitor.
    assert_eq!(bed.status("/exapps/demo/admin", &[("cookie", ADMIN)]).await, 200);
    let both = [("cookie", ALICE), ("authorization", "Basic Ym9iOnJpZ2h0")];
    assert_eq!(bed.status("/exapps/demo/user", &both).await, 200);
    assert_eq!(calls(&bed.nextcloud.user_calls), 3);
}

#[tokio::test]
async fn credentials_without_a_session_are_asked_about_every_time() {
    let bed = Bed::start().await;
    for _ in 0..3 {
        let basic = [("authorization", "Basic Ym9iOnJpZ2h0")];
        assert_eq!(bed.status("/exapps/demo/user", &basic).await, 200);
    }
    assert_eq!(calls(&bed.nextcloud.user_calls), 3);
}

#[tokio::test]
async fn maintenance_keeps_known_apps_public_and_refuses_the_rest_politely() {
    let bed = Bed::start().await;
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 200);
    bed.nextcloud.fault.store(503, Ordering::SeqCst);
    assert_eq!(bed.status("/exapps/demo/public", &[("cookie", ALICE)]).await, 200);
    let refused = bed.get("/exapps/demo/user", &[("cookie", ALICE)]).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(bed.status("/exapps/other/public", &[]).await, 503);
    bed.nextcloud.fault.store(0, Ordering::SeqCst);
    assert_eq!(bed.status("/exapps/demo/user", &[("cookie", ALICE)]).await, 200);
}
