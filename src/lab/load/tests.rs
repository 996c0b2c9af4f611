//! The load against the ExApp itself, without anything in between.

use tokio::net::TcpListener;

use super::*;
use crate::lab::trace::steady;

async fn target(base: &str) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(exapp::serve_tcp(listener));
    Target::exapp(address, base, "a=b")
}

#[tokio::test]
async fn an_undisturbed_service_fails_nothing() {
    let target = target("").await;
    assert!(answers(&target).await);
    let (book, sockets) = (Arc::new(Book::default()), Arc::new(Sockets::default()));
    let quit = CancellationToken::new();
    let running = tokio::spawn(run(target, Arc::clone(&book), Arc::clone(&sockets), quit.clone()));
    let (window, settle) = (Duration::from_millis(300), Duration::from_millis(300));
    while sockets.opened() < WEB_SOCKETS as u64
        || lock(&book.records).len() < 20
        || !steady(&lock(&book.probes), Instant::now(), window, settle)
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    quit.cancel();
    running.await.unwrap();
    assert_eq!(sockets.broken(), 0);
    let failures: Vec<Failure> =
        lock(&book.records).iter().filter_map(|record| record.failure.clone()).collect();
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test]
async fn a_dead_kept_connection_is_tried_once_more_on_a_fresh_one() {
    let target = target("").await;
    // A peer that accepts and hangs up: what a new Active does to connections it never knew.
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rude_address = rude.local_addr().unwrap();
    let hang_up = tokio::spawn(async move { drop(rude.accept().await.unwrap()) });
    let dead = connect(rude_address).await.unwrap();
    hang_up.await.unwrap();
    let kept = Mutex::new(vec![dead]);
    let ask = target.asks.iter().find(|ask| ask.keep).unwrap();
    assert_eq!(request(target.address, ask, &kept).await, Ok(()));
    assert_eq!(lock(&kept).len(), 1, "the fresh connection is kept instead");
}

#[tokio::test]
async fn a_fresh_connection_that_fails_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let ask = Ask { path: "/".into(), cookie: None, keep: true };
    let outcome = request(address, &ask, &Mutex::new(Vec::new())).await;
    assert!(matches!(outcome, Err(Failure::Connect(_))), "{outcome:?}");
}

#[tokio::test]
async fn only_status_200_is_success() {
    let target = target("/nowhere").await;
    assert!(!answers(&target).await);
    let outcome = request(target.address, &target.asks[3], &Mutex::new(Vec::new())).await;
    assert_eq!(outcome, Err(Failure::Status(404)));
}
