//! `trigon backend`: the servers behind this node, whatever they serve, and orders to them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::table::{plain, span, table};
use crate::balance::{Admin, Member};

/// The answer of `GET /backends`, pool by pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Backends(pub Vec<Member>);

/// The order of `POST /backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Name of a backend, with its pool and a slash before it or without.
    pub name: String,
    /// What is wanted of it.
    pub admin: Admin,
}

/// Gives the backend with this full name an order.
pub type Tell = Arc<dyn Fn(&str, Admin) + Send + Sync>;

/// Everything that has backends.
#[derive(Clone)]
pub struct Office {
    /// How they are.
    pub list: Arc<dyn Fn() -> Vec<Member> + Send + Sync>,
    /// Tells one of them something else.
    pub set: Tell,
}

impl Office {
    /// How all backends are.
    pub fn backends(&self) -> Backends {
        Backends((self.list)())
    }

    /// Carries an order out; the answer is the backend as it is then.
    ///
    /// # Errors
    /// [`Refusal::Wrong`] if no backend is called so, or several are.
    pub fn order(&self, order: &Order) -> Result<Member, Refusal> {
        let Order { name, admin } = order;
        let all = (self.list)();
        let meant: Vec<_> = all.iter().filter(|member| member.is_called(name)).collect();
        match meant.as_slice() {
            [] => {
                let known: Vec<_> = all.iter().map(Member::full_name).collect();
                let known = match known.as_slice() {
                    [] => "this node has none".to_owned(),
                    known => format!("known are {}", known.join(", ")),
                };
                Err(Refusal::Wrong(format!("no backend is called {name:?}; {known}")))
            }
            [member] => {
                let name = member.full_name();
                (self.set)(&name, *admin);
                let after = (self.list)().into_iter().find(|member| member.full_name() == name);
                after.ok_or_else(|| Refusal::Failed(format!("{name} is gone")))
            }
            several => {
                let names: Vec<_> = several.iter().map(|member| member.full_name()).collect();
                let names = names.join(" or ");
                Err(Refusal::Wrong(format!("{name:?} may be {names}; name the pool as well")))
            }
        }
    }
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|member| {
            [
                member.full_name(),
                member.address.clone(),
                member.admin.to_string(),
                member.health.to_string(),
                span(member.since_seconds),
                member.in_flight.to_string(),
                member.total.to_string(),
                member.failed.to_string(),
                member.note.clone(),
            ]
        });
        let headings = [
            "BACKEND",
            "ADDRESS",
            "ADMIN",
            "HEALTH",
            "SINCE",
            "IN FLIGHT",
            "TOTAL",
            "FAILED",
            "NOTE",
        ];
        f.write_str(&table(headings, rows.collect()))
    }
}

/// The line of a backend in `trigon status`.
pub(super) fn line(member: &Member) -> String {
    let Member { admin, health, in_flight, .. } = member;
    let since = span(member.since_seconds);
    let note = if member.note.is_empty() { String::new() } else { format!("  {}", member.note) };
    let name = member.full_name();
    let line =
        format!("backend  {name:<24} {health}, {admin}, for {since}, {in_flight} in flight{note}");
    plain(&line)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::balance::roster::Condition;

    fn office() -> (Office, Arc<Mutex<Vec<Member>>>) {
        let member = |pool: &str, name: &str| Member {
            pool: pool.into(),
            name: name.into(),
            address: "10.0.0.1:80".into(),
            admin: Admin::Ready,
            health: Condition::Up,
            since_seconds: 3,
            in_flight: 1,
            total: 2,
            failed: 0,
            note: String::new(),
        };
        let all = [member("web", "web1"), member("web", "both"), member("push", "both")];
        let all = Arc::new(Mutex::new(Vec::from(all)));
        let (shown, told) = (Arc::clone(&all), Arc::clone(&all));
        let office = Office {
            list: Arc::new(move || shown.lock().unwrap().clone()),
            set: Arc::new(move |name, admin| {
                let mut all = told.lock().unwrap();
                let named = all.iter_mut().filter(|member| member.full_name() == name);
                named.for_each(|member| member.admin = admin);
            }),
        };
        (office, all)
    }

    #[test]
    fn an_order_goes_to_exactly_the_one_that_is_meant() {
        let (office, all) = office();
        let order = |name: &str| office.order(&Order { name: name.into(), admin: Admin::Drain });
        assert_eq!(order("web1").unwrap().admin, Admin::Drain);
        assert_eq!(order("push/both").unwrap().full_name(), "push/both");
        let admins: Vec<_> = all.lock().unwrap().iter().map(|member| member.admin).collect();
        assert_eq!(admins, [Admin::Drain, Admin::Ready, Admin::Drain]);
        assert!(order("both").unwrap_err().to_string().contains("web/both or push/both"));
        assert!(order("web9").unwrap_err().to_string().contains("known are web/web1"));
    }

    #[test]
    fn the_list_names_pool_admin_and_health() {
        let text = office().0.backends().to_string();
        assert!(text.starts_with("BACKEND"), "{text}");
        assert!(
            text.contains("push/both") && text.contains("ready") && text.contains("up"),
            "{text}"
        );
    }
}
