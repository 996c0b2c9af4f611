//! `trigon vrrp`: asks the running process for its virtual routers.

use std::process::ExitCode;

use super::ask::Question;
use crate::admin::client;

pub(super) fn run(question: &Question) -> ExitCode {
    question.show(client::vrrp(question.socket()))
}
