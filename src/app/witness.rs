//! A witness: a vote and nothing else. No virtual address, no HTTP, no root.

use std::sync::Arc;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::status::Facts;
use crate::admin;
use crate::config::parse::Node;

pub(super) async fn run(node: Node, cluster: cluster::Config) -> anyhow::Result<()> {
    let (member, handle) = cluster::Node::start(cluster).await.context("the cluster")?;
    let stop = CancellationToken::new();
    let facts = Facts::witness(node.name.clone(), handle);
    let listener = admin::server::bind(&node.admin_socket).await.context("node.admin_socket")?;
    let served = tokio::spawn(admin::server::serve(
        listener,
        Arc::new(move || facts.status()),
        stop.clone(),
    ));
    tracing::info!(node = node.name, "witness started");
    super::notify(&[NotifyState::Ready]);
    let outcome = tokio::select! {
        signal = super::told_to_stop() => signal.map(|signal| tracing::info!(signal, "stopping")),
        reason = member.failed() => Err(anyhow::anyhow!("the cluster stopped: {reason}")),
    };
    super::notify(&[NotifyState::Stopping]);
    stop.cancel();
    member.shutdown().await;
    let _ = served.await;
    outcome
}
