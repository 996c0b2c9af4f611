//! Changes on their way to open pages: server-sent events, one for each part that is another than
//! the last one sent on that stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::parts::Part;
use crate::http::body::Body;

/// Between two looks, while anybody watches.
const EVERY: Duration = Duration::from_millis(500);

/// A stream on which nothing changes says so, lest something between closes it.
const BEAT: Duration = Duration::from_secs(15);

/// Most streams at a time.
const MOST: usize = 32;

/// Events that wait for a slow reader.
const WAITING: usize = 8;

/// All parts at one moment.
type Parts = Arc<Vec<Part>>;

/// Renders while anybody watches, and tells them what has changed.
pub(super) struct Live {
    render: Box<dyn Fn() -> Vec<Part> + Send + Sync>,
    newest: watch::Sender<Parts>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Live {
    /// Streams that end with `stop`.
    pub(super) fn new(
        render: impl Fn() -> Vec<Part> + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> Self {
        Self {
            render: Box::new(render),
            newest: watch::Sender::new(Parts::default()),
            places: Arc::new(Semaphore::new(MOST)),
            stop,
        }
    }

    /// All parts now.
    pub(super) fn now(&self) -> Vec<Part> {
        (self.render)()
    }

    /// Looks again and again, until the stop.
    pub(super) async fn run(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            if self.newest.receiver_count() > 0 {
                let parts = self.now();
                self.newest.send_if_modified(|newest| {
                    let changed = **newest != parts;
                    *newest = Arc::new(parts);
                    changed
                });
            }
        }
    }

    /// The body of a new stream; none when there are too many. It ends when `goes_on` is false.
    pub(super) fn stream(&self, goes_on: impl Fn() -> bool + Send + 'static) -> Option<Body> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let first = Arc::new(self.now());
        let stream = Stream { sender, sent: HashMap::new(), _place: place };
        let (newest, stop) = (self.newest.subscribe(), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stream.run(first, newest, goes_on) => {}
                () = stop.cancelled() => {}
            }
        });
        Some(Body::events(receiver))
    }
}

struct Stream {
    sender: mpsc::Sender<Bytes>,
    /// What the reader has of each part.
    sent: HashMap<&'static str, String>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn run(
        mut self,
        first: Parts,
        mut newest: watch::Receiver<Parts>,
        goes_on: impl Fn() -> bool,
    ) {
        let closed = {
            let sender = self.sender.clone();
            async move { sender.closed().await }
        };
        tokio::pin!(closed);
        let mut parts = first;
        loop {
            if !goes_on() {
                let _ = self.sender.send(event("end", "")).await;
                return;
            }
            let news = self.news(&parts);
            if self.sender.send(news).await.is_err() {
                return;
            }
            tokio::select! {
                changed = tokio::time::timeout(BEAT, newest.changed()) => match changed {
                    Ok(Ok(())) => parts = Arc::clone(&newest.borrow_and_update()),
                    Ok(Err(_)) => return,
                    // What has not changed is sent again: nothing but a comment.
                    Err(_) => {}
                },
                () = &mut closed => return,
            }
        }
    }

    /// The events of what the reader does not have yet; a comment when that is nothing.
    fn news(&mut self, parts: &[Part]) -> Bytes {
        let mut text = Vec::new();
        for part in parts {
            if self.sent.get(part.id) != Some(&part.html) {
                text.extend_from_slice(&event("part", &part.html));
                self.sent.insert(part.id, part.html.clone());
            }
        }
        if text.is_empty() { Bytes::from_static(b": nothing new\n\n") } else { text.into() }
    }
}

/// One server-sent event. Whatever ends a line in `data` begins another `data` line: nothing in it
/// can begin an event of its own.
fn event(name: &str, data: &str) -> Bytes {
    let mut text = format!("event: {name}\n");
    let data = data.replace("\r\n", "\n");
    for line in data.split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    fn parts(overview: &str) -> Vec<Part> {
        let part = |id, html: &str| Part { id, html: html.to_owned() };
        vec![part("overview", overview), part("tunnels", "same")]
    }

    async fn next(body: &mut Body) -> String {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    }

    #[test]
    fn no_text_of_a_stranger_begins_an_event() {
        for text in ["a\nevent: end", "a\r\nevent: end", "a\revent: end"] {
            let sent = String::from_utf8(event("part", text).to_vec()).unwrap();
            assert_eq!(sent, "event: part\ndata: a\ndata: event: end\n\n");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_everything_once_then_what_changes_and_the_end_of_its_session() {
        let shown = Arc::new(Mutex::new("one"));
        let stop = CancellationToken::new();
        let live = Arc::new(Live::new(
            {
                let shown = Arc::clone(&shown);
                move || parts(*shown.lock().unwrap())
            },
            stop.clone(),
        ));
        let running = tokio::spawn({
            let live = Arc::clone(&live);
            async move { live.run().await }
        });
        let open = Arc::new(AtomicBool::new(true));
        let goes_on = {
            let open = Arc::clone(&open);
            move || open.load(Ordering::Relaxed)
        };
        let mut body = live.stream(goes_on).unwrap();
        let first = next(&mut body).await;
        assert_eq!(first, "event: part\ndata: one\n\nevent: part\ndata: same\n\n");
        *shown.lock().unwrap() = "two";
        let mut news = next(&mut body).await;
        while news.starts_with(':') {
            news = next(&mut body).await;
        }
        assert_eq!(news, "event: part\ndata: two\n\n");
        open.store(false, Ordering::Relaxed);
        assert_eq!(next(&mut body).await, "event: end\ndata: \n\n");
        assert!(body.frame().await.is_none());
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn there_is_a_bounded_number_of_streams_and_a_place_is_given_back() {
        let live = Live::new(|| parts("x"), CancellationToken::new());
        let mut open: Vec<_> = (0..MOST).map(|_| live.stream(|| true).unwrap()).collect();
        assert!(live.stream(|| true).is_none());
        open.pop();
        while live.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(live.stream(|| true).is_some());
    }
}
