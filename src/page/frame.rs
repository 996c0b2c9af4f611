//! What stands around the parts: the page itself, the login, the question before an order, and
//! the page that says what went wrong.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::look::Look;
use super::orders::Order;
use super::parts::Part;

/// The script and the style sheet, which the page names.
pub(super) const SCRIPT: &str = include_str!("page.js");
pub(super) const STYLE: &str = include_str!("page.css");

/// Everything, for somebody who is logged in.
pub(super) fn page(
    look: &Look,
    parts: &[Part],
    csrf: &str,
    note: Option<&str>,
    orders: &[Order],
) -> Markup {
    let name = &look.status.name;
    let top = html! {
        nav aria-label="Orders" {
            @for order in orders {
                a.button href={ "/orders/" (order.name()) } { (order) }
            }
            form method="post" action="/logout" {
                input type="hidden" name="csrf" value=(csrf);
                button type="submit" { "Log out" }
            }
        }
    };
    let main = html! {
        @if let Some(note) = note { p.note role="status" { (note) } }
        p #live .quiet {
            "As of the moment this page was loaded; "
            a href="/" { "load it again" }
            "."
        }
        p #news .unseen aria-live="polite" {}
        @for part in parts { (PreEscaped(part.html.as_str())) }
    };
    whole(&format!("{name} - Trigon"), Some(top), main, true)
}

/// The login; `problem` is why the last try failed.
pub(super) fn login(problem: Option<&str>) -> Markup {
    let main = html! {
        section.narrow aria-labelledby="login" {
            h2 #login { "Log in" }
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            form method="post" action="/login" {
                label for="token" { "Admin token" }
                input #token type="password" name="token" required autocomplete="current-password"
                    autofocus;
                button type="submit" { "Log in" }
            }
            p.quiet { "The token is in the file " code { "status_page.token_file" } " names." }
        }
    };
    whole("Log in - Trigon", None, main, false)
}

/// The question before an order; `problem` is what the last answer lacked.
pub(super) fn confirm(order: &Order, node: &str, csrf: &str, problem: Option<&str>) -> Markup {
    let main = html! {
        section.narrow aria-labelledby="order" {
            h2 #order { (order) "?" }
            p { (order.explained(node)) }
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            form method="post" action={ "/orders/" (order.name()) } {
                input type="hidden" name="csrf" value=(csrf);
                @if !order.target().is_empty() {
                    input type="hidden" name="address" value=(order.target());
                }
                label for="reason" { "Reason, for whoever reads the log later" }
                input #reason type="text" name="reason" required maxlength="200" autofocus;
                div.choices {
                    button.danger type="submit" { (order) }
                    a.button href="/" { "Cancel" }
                }
            }
        }
    };
    whole(&format!("{order} - Trigon"), None, main, false)
}

/// Why there is nothing else to see.
pub(super) fn refusal(text: &str) -> Markup {
    let main = html! {
        section.narrow {
            h2 { "This did not work" }
            p.problem role="alert" { (text) }
            p { a href="/" { "Back to the status page" } }
        }
    };
    whole("Refused - Trigon", None, main, false)
}

fn whole(title: &str, top: Option<Markup>, main: Markup, live: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/page.css";
                @if live { script type="module" src="/page.js" {} }
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    h1 { (title) }
                    @if let Some(top) = top { (top) }
                }
                main #main tabindex="-1" { (main) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_is_text_and_no_markup() {
        let order = Order::Unban("<script>alert(1)</script>\"'".into());
        let page = confirm(&order, "<b>", "c", Some("<i>")).into_string();
        assert!(!page.contains("<script>") && !page.contains("<b>") && !page.contains("<i>"));
        assert!(page.contains("value=\"&lt;script&gt;alert(1)&lt;/script&gt;&quot;'\""), "{page}");
    }

    #[test]
    fn nothing_on_a_page_needs_an_exception_from_the_policy() {
        let pages = [login(Some("no")), refusal("no"), confirm(&Order::Drain, "a", "c", None)];
        for page in pages.map(Markup::into_string) {
            for inline in ["<style", " style=", "onclick", "<script>", "javascript:"] {
                assert!(!page.contains(inline), "{inline}: {page}");
            }
        }
    }
}
