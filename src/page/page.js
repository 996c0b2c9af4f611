// Replaces the parts of the status page that have changed. Everything it shows was rendered by the
// server; without this script the page can be read and used all the same.

const live = document.getElementById("live");
const news = document.getElementById("news");

function replace(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  const old = fresh && document.getElementById(fresh.id);
  if (!old || old.isEqualNode(fresh)) return;
  // Whoever is at a link or a table by keyboard stays there.
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const href = focused?.getAttribute("href");
  const scrolled = old.querySelector(".scroll")?.scrollLeft ?? 0;
  const said = old.dataset.say;
  old.replaceWith(fresh);
  const scroll = fresh.querySelector(".scroll");
  if (scroll) scroll.scrollLeft = scrolled;
  if (focused) {
    const same = href ? fresh.querySelector(`a[href="${CSS.escape(href)}"]`) : scroll;
    same?.focus({ preventScroll: true });
  }
  if (fresh.dataset.say && fresh.dataset.say !== said) news.textContent = fresh.dataset.say;
}

function tell(state, text) {
  live.dataset.state = state;
  live.textContent = text;
}

const stream = new EventSource("/live");
stream.addEventListener("open", () => tell("live", "Live: changes are shown as they happen."));
stream.addEventListener("part", (event) => replace(event.data));
stream.addEventListener("end", () => {
  stream.close();
  location.assign("/login");
});
stream.addEventListener("error", () => {
  if (stream.readyState === EventSource.CLOSED) {
    tell("ended", "No longer live: log in again, or load this page again.");
  } else {
    tell("lost", "This node does not answer; trying again.");
  }
});
