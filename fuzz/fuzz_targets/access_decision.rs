//! The access decision for any request, any routes and any answers. Only the holder of the key
//! reaches the control API or passes as signed; a visitor passes only where some route admits
//! that level; parent segments and internal endpoints never pass.

#![no_main]

use std::sync::Arc;

use cluster::record::{AccessLevel, ExApp, Route, User};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use trigon::access::path::has_parent_segment;
use trigon::access::{
    AccessRequest, Answer, Authorization, Decision, Fact, KnownApp, LookupFailed, Outcome, Reason,
    Step, Upstream,
};

const NAMES: [&str; 10] = [
    "ex-app-id",
    "ex-app-version",
    "ex-app-host",
    "ex-app-port",
    "authorization-app-api",
    "harp-shared-key",
    "docker-engine-port",
    "authorization",
    "cookie",
    "x-other",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Below `/exapps/` most of the time, or chance would hardly get there.
    prefix: u8,
    path: &'a str,
    key_valid: bool,
    banned: bool,
    headers: Vec<(u8, &'a [u8])>,
    app: Result<Option<Vec<(&'a str, u8)>>, ()>,
    user: Result<Option<(&'a str, u8)>, ()>,
}

fuzz_target!(|input: Input<'_>| {
    let prefix = ["/exapps/app/", "/exapps/app_api/", "/exapps/", "", "/exapps/app"];
    let path = format!("{}{}", prefix[usize::from(input.prefix) % prefix.len()], input.path);
    let mut headers = HeaderMap::new();
    for (name, value) in input.headers.iter().take(32) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            let name = NAMES[usize::from(*name) % NAMES.len()];
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let app = input.app.map_err(|()| LookupFailed).map(|app| app.map(|routes| known(&routes)));
    let user = input
        .user
        .map_err(|()| LookupFailed)
        .map(|user| user.map(|(id, number)| User { id: id.to_owned(), level: level(number) }));

    let request = AccessRequest::new(&path, &headers, input.key_valid);
    let (mut decision, mut step) = Decision::start(request, input.banned);
    let mut questions = 0;
    let mut asked_user = false;
    let verdict = loop {
        step = match step {
            Step::Done(verdict) => break verdict,
            Step::Need(Fact::ExApp(_)) => decision.supply(Answer::ExApp(app.clone())),
            Step::Need(Fact::User(_)) => {
                asked_user = true;
                decision.supply(Answer::User(user.clone()))
            }
        };
        questions += 1;
        assert!(questions <= 2, "two facts are enough");
    };
    let late = decision.supply(Answer::User(Ok(None)));
    assert!(matches!(late, Step::Done(verdict) if verdict.reason == Reason::OutOfTurn));

    assert!(!input.banned || (verdict.outcome == Outcome::SilentDrop && !verdict.strike));
    assert!(!verdict.reason.as_str().is_empty());
    match verdict.outcome {
        Outcome::Forward(grant) => {
            assert!(!has_parent_segment(&path) && !grant.path.is_empty());
            assert!(!grant.app_id.is_empty() && grant.app_id != "app_api");
            assert!(!verdict.strike);
            assert_ne!(grant.upstream.port(), 0);
            if let Upstream::Announced { host, .. } = &grant.upstream {
                assert!(input.key_valid && !host.is_empty() && grant.upstream.token().is_empty());
            }
            match grant.authorization {
                Authorization::AsSigned => assert!(input.key_valid, "signed without the key"),
                Authorization::Visitor { user_id } => {
                    assert!(!["/heartbeat", "/init", "/enabled"].contains(&grant.path));
                    let visitor = match &user {
                        Ok(Some(user)) if asked_user => Some(user),
                        _ => None,
                    };
                    let level = visitor.map_or(AccessLevel::Public, |user| user.level);
                    let app = app.as_ref().ok().and_then(Option::as_ref).expect("it is known");
                    let least = app.record.routes.iter().map(|route| route.access_level).min();
                    assert!(
                        least.is_some_and(|least| least <= level),
                        "no route admits that level"
                    );
                    assert_eq!(user_id, visitor.map_or("", |user| &user.id));
                }
            }
        }
        Outcome::ControlApi { .. } => assert!(input.key_valid),
        Outcome::DockerEngine { port, .. } => assert!(input.key_valid && port != 0),
        _ => {}
    }
});

fn known(routes: &[(&str, u8)]) -> KnownApp {
    let routes = routes.iter().take(8).map(|(url, number)| Route {
        url: (*url).to_owned(),
        access_level: level(*number),
        bruteforce_protection: vec![401],
    });
    KnownApp::new(Arc::new(ExApp {
        id: "app".into(),
        token: "token".into(),
        version: "1".into(),
        host: "127.0.0.1".into(),
        port: 23000,
        routes: routes.collect(),
    }))
}

fn level(number: u8) -> AccessLevel {
    AccessLevel::from_number(i64::from(number % 3)).expect("in range")
}
