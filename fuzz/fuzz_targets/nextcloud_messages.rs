//! Bodies of Nextcloud's two endpoints: any bytes. What is read has a port and a lower-cased id,
//! and reads the same when it is written in the plainest way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use trigon::nextcloud::messages::{exapp, user};

/// An array of one-element arrays costs most: four bytes each become a vector with room for four.
const HEAP_PER_BYTE: usize = 512;

fuzz_target!(|body: &[u8]| {
    trigon_fuzz::within(64 * 1024 + HEAP_PER_BYTE * body.len(), || {
        if let Ok(app) = exapp("App", body) {
            assert_eq!(app.id, "app");
            assert_ne!(app.port, 0);
            assert!(app.routes.len() <= body.len());
            let routes: Vec<_> = app
                .routes
                .iter()
                .map(|route| {
                    json!({
                        "url": route.url,
                        "access_level": route.access_level as u8,
                        "bruteforce_protection": route.bruteforce_protection,
                    })
                })
                .collect();
            let plain = json!({
                "exapp_token": app.token,
                "exapp_version": app.version,
                "host": app.host,
                "port": app.port,
                "routes": routes,
            });
            assert_eq!(exapp("app", plain.to_string().as_bytes()).ok(), Some(app));
        }
        if let Ok(found) = user(body) {
            let plain = json!({ "user_id": found.id, "access_level": found.level as u8 });
            assert_eq!(user(plain.to_string().as_bytes()).ok(), Some(found));
        }
    });
});
