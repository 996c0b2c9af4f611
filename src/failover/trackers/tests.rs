use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;

type Told = (String, String, Reading);

/// Checks that hand on what is told.
fn checks(health: BTreeMap<Health, Check>) -> (Checks, mpsc::UnboundedReceiver<Told>) {
    let (sender, told) = mpsc::unbounded_channel();
    let tell = move |router: &str, tracker: &str, reading| {
        let _ = sender.send((router.to_owned(), tracker.to_owned(), reading));
    };
    (Checks { health, tell: Box::new(tell), priority: Box::new(|_router| Some(100)) }, told)
}

fn tracker(router: &str, source: Source) -> Tracker {
    Tracker { router: router.into(), name: source.name().into(), source }
}

fn script(words: &[&str], init_fail: bool) -> Source {
    Source::Script(Script {
        command: words.iter().map(ToString::to_string).collect(),
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(60),
        rise: 2,
        fall: 1,
        init_fail,
        user: None,
    })
}

#[tokio::test]
async fn a_script_is_run_once_for_all_routers_and_told_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (flag, runs) = (dir.path().join("flag"), dir.path().join("runs"));
    let line = format!("echo run >> {}; test -e {}", runs.display(), flag.display());
    let source = script(&["sh", "-c", &line], false);
    let (checks, mut told) = checks(BTreeMap::new());
    let stop = CancellationToken::new();
    let trackers = vec![tracker("one", source.clone()), tracker("two", source)];
    let watching = tokio::spawn(watch(trackers, checks, stop.clone()));
    let mut next = async || {
        let (router, name, reading) = told.recv().await.unwrap();
        assert!(name.starts_with("script sh -c"), "{name}");
        (router, reading)
    };
    // Down until it was run, and a first failure changes nothing.
    assert_eq!(next().await, ("one".into(), Reading::Down));
    assert_eq!(next().await, ("two".into(), Reading::Down));
    std::fs::write(&flag, "").unwrap();
    assert_eq!(next().await, ("one".into(), Reading::Up));
    assert_eq!(next().await, ("two".into(), Reading::Up));
    std::fs::remove_file(&flag).unwrap();
    assert_eq!(next().await, ("one".into(), Reading::Down));
    assert_eq!(next().await, ("two".into(), Reading::Down));
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_and_a_missing_or_odd_one_counts_as_0() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drain");
    let read = || read_number(path.clone());
    assert_eq!(read().await, (0, String::new()));
    for (text, value, problem) in
        [("-5\n", -5, ""), ("", 0, ""), ("many", 0, "no whole number"), ("7", 7, "")]
    {
        std::fs::write(&path, text).unwrap();
        assert_eq!(read().await, (value, problem.to_owned()), "{text:?}");
    }
    std::fs::write(&path, "1".repeat(FILE_BYTES + 1)).unwrap();
    assert_eq!(read().await, (0, "more than a number".to_owned()));
    assert_eq!(read_number(dir.path().to_owned()).await, (0, "no regular file".to_owned()));
}

#[tokio::test]
async fn health_falls_after_some_bad_looks_and_rises_after_some_good_ones() {
    let looks = Arc::new(AtomicUsize::new(0));
    let check: Check = Box::new({
        let looks = Arc::clone(&looks);
        // Bad at the second and from the fourth to the seventh look.
        move || {
            let look = looks.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move { !matches!(look, 2 | 4..=7) })
        }
    });
    let (checks, mut told) = checks(BTreeMap::from([(Health::Listeners, check)]));
    let place = Place { router: "web".into(), name: "health listeners".into() };
    let outlet = Outlet { name: String::new(), places: vec![place], checks: Arc::new(checks) };
    let short = Duration::from_millis(1);
    let rhythm =
        Rhythm { every: short, within: short * 60_000, tally: Tally::new(2, 3, Start::Up) };
    let watching = tokio::spawn(async move {
        watch_health(Health::Listeners, rhythm, &outlet).await;
    });
    for (reading, after) in [(Reading::Up, 0), (Reading::Down, 6), (Reading::Up, 9)] {
        assert_eq!(told.recv().await.unwrap().2, reading);
        assert!(looks.load(Ordering::Relaxed) >= after, "{reading:?}");
    }
    watching.abort();
}
