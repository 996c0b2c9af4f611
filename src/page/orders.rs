//! What an admin may order from the page, and the words around it. What an order does lies in other
//! rooms; here it is recognised, explained, and carried on.

use std::fmt;
use std::sync::Arc;

use cluster::record::MAX_REASON;

use super::form::Form;
use crate::net::BoxFuture;

/// What came of an order: a sentence for the admin, or why it was refused.
pub(super) type Answer = BoxFuture<'static, Result<String, String>>;

/// Keeps a sentence about an order, for the timeline.
pub type Audit = Arc<dyn Fn(String) + Send + Sync>;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// No new work, addresses to the other node.
    Drain,
    /// The end of that.
    Undrain,
    /// The addresses to the other node; work goes on.
    Failover,
    /// Lets this address or network in again.
    Unban(String),
}

impl Order {
    /// The order of this name, the last part of the path; `form` has the rest.
    pub(super) fn read(name: &str, form: &Form) -> Option<Self> {
        match name {
            "drain" => Some(Self::Drain),
            "undrain" => Some(Self::Undrain),
            "failover" => Some(Self::Failover),
            "unban" => Some(Self::Unban(form.get("address").to_owned())),
            _ => None,
        }
    }

    /// The last part of its path.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Failover => "failover",
            Self::Unban(_) => "unban",
        }
    }

    /// What is about to happen on the node called `node`.
    pub(super) fn explained(&self, node: &str) -> String {
        match self {
            Self::Drain => format!(
                "{node} takes no new work, gives its virtual addresses to the other node and lets \
                 the requests it has begun end. It stays that way until it is told to serve again."
            ),
            Self::Undrain => format!("{node} serves again and may hold the virtual addresses."),
            Self::Failover => format!(
                "The virtual addresses {node} holds move to the other node. Connections to them \
                 end and are made anew."
            ),
            Self::Unban(address) => {
                format!("Every ban within {address} is lifted and the failures are forgotten.")
            }
        }
    }

    /// What it is about, for the log; empty when it is about the node.
    pub(super) fn target(&self) -> &str {
        match self {
            Self::Unban(address) => address,
            Self::Drain | Self::Undrain | Self::Failover => "",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain => f.write_str("Drain this node"),
            Self::Undrain => f.write_str("Serve again"),
            Self::Failover => f.write_str("Fail over to the other node"),
            Self::Unban(address) => write!(f, "Let {address} in again"),
        }
    }
}

/// Why an admin does it, as it stands in the form.
///
/// # Errors
/// What is expected.
pub(super) fn reason(form: &Form) -> Result<&str, String> {
    let reason = form.get("reason");
    if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(format!("a reason is needed: one line of at most {MAX_REASON} bytes"));
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(query: &str) -> Form {
        Form::query(Some(query)).unwrap()
    }

    #[test]
    fn every_order_is_found_by_its_own_name() {
        let orders = [Order::Drain, Order::Undrain, Order::Failover, Order::Unban("::1".into())];
        for order in orders {
            assert_eq!(Order::read(order.name(), &form("address=::1")), Some(order));
        }
        assert_eq!(Order::read("reboot", &form("")), None);
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason(&form("reason=+kernel+update+")), Ok("kernel update"));
        let long = format!("reason={}", "x".repeat(MAX_REASON + 1));
        for wrong in ["", "reason=+", "reason=a%0Ab", &long] {
            assert!(reason(&form(wrong)).is_err(), "{wrong}");
        }
    }
}
