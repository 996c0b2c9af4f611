//! What may be sent again, and how often: a retry must neither do anything twice nor double the
//! load on servers that are already in trouble. Sans-io.
//!
//! A request that no server has begun to read may go to another one, always. One that may have
//! been read goes out again only if its method changes nothing and it can be repeated whole, and
//! only as long as the budget lasts: each request pays in a part of a retry, so that retries stay
//! below that part of the requests.

/// How far a request got at the server that failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Not at all: no connection, or one that was dead already.
    Nobody,
    /// It may have been read and acted upon.
    Server,
}

/// What is known of the request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// Its method changes nothing at the server (RFC 9110 section 9.2.1).
    pub is_safe: bool,
    /// Its body is at hand whole, or there is none.
    pub is_whole: bool,
}

/// Whether methods of this name change nothing: those of RFC 9110 and WebDAV's queries (RFC 4918,
/// 3253, 5323). `DELETE` and `PUT` are idempotent too, but their second answer is another one.
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PROPFIND" | "REPORT" | "SEARCH")
}

/// Retries that may still be made.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Hundredths of a retry.
    credit: u32,
    percent: u32,
}

impl Budget {
    /// Most retries that are saved up, which is also what a quiet pool starts with.
    const RESERVE: u32 = 50;

    /// Lets at most `percent` of a hundred requests be sent again, beyond a reserve.
    pub fn new(percent: u32) -> Self {
        let percent = percent.min(100);
        let reserve = if percent == 0 { 0 } else { Self::RESERVE };
        Self { credit: reserve * 100, percent }
    }

    /// A request came.
    pub fn pay_in(&mut self) {
        self.credit = (self.credit + self.percent).min(Self::RESERVE * 100);
    }

    /// Whether the request may be sent to another server; a retry that costs is paid at once.
    pub fn may_retry(&mut self, reached: Reached, nature: Nature) -> bool {
        match reached {
            Reached::Nobody => true,
            Reached::Server if !nature.is_safe || !nature.is_whole => false,
            Reached::Server if self.credit < 100 => false,
            Reached::Server => {
                self.credit -= 100;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_may_have_begun_is_repeated_only_if_that_changes_nothing() {
        use Reached::{Nobody, Server};
        for (reached, is_safe, is_whole, expected) in [
            (Nobody, true, true, true),
            (Nobody, false, true, true),
            (Nobody, false, false, true),
            (Server, true, true, true),
            (Server, true, false, false),
            (Server, false, true, false),
            (Server, false, false, false),
        ] {
            let nature = Nature { is_safe, is_whole };
            let may = Budget::new(20).may_retry(reached, nature);
            assert_eq!(may, expected, "{reached:?} {nature:?}");
        }
    }

    #[test]
    fn methods_that_change_something_are_not_safe() {
        for method in ["GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH"] {
            assert!(is_safe(method), "{method}");
        }
        for method in [
            "PUT",
            "POST",
            "DELETE",
            "PATCH",
            "MOVE",
            "COPY",
            "MKCOL",
            "LOCK",
            "UNLOCK",
            "PROPPATCH",
            "MKCALENDAR",
            "ACL",
            "get",
            "",
        ] {
            assert!(!is_safe(method), "{method}");
        }
    }

    #[test]
    fn no_budget_leaves_what_nobody_has_read() {
        let mut none = Budget::new(0);
        let nature = Nature { is_safe: true, is_whole: true };
        none.pay_in();
        assert!(!none.may_retry(Reached::Server, nature));
        assert!(none.may_retry(Reached::Nobody, nature));
    }

    proptest! {
        /// Over any stretch, retries stay within the reserve and the percentage.
        #[test]
        fn retries_stay_below_their_part(percent in 0u32..=100, events in proptest::collection::vec(any::<bool>(), 0..2000)) {
            let mut budget = Budget::new(percent);
            let (mut requests, mut retries) = (0u32, 0u32);
            for is_request in events {
                if is_request {
                    requests += 1;
                    budget.pay_in();
                } else if budget.may_retry(Reached::Server, Nature { is_safe: true, is_whole: true }) {
                    retries += 1;
                }
            }
            prop_assert!(retries * 100 <= requests * percent + Budget::RESERVE * 100);
        }
    }
}
