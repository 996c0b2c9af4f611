//! A witness: a vote and nothing else. No virtual address, no HTTP, no root.

use std::sync::Arc;

use anyhow::Context;
use cluster::Passport;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::Told;
use super::chronicle::{self, Chronicle};
use super::reload::Running;
use super::status::{Facts, Speaker};
use super::vantage::Vantage;
use super::watchdog;
use crate::admin;
use crate::config::Node;
use crate::observe::metrics::metrics;

pub(super) async fn run(
    (node, cluster, passport): (Node, cluster::Config, Option<Passport>),
    mut running: Running,
) -> anyhow::Result<()> {
    let listener = admin::server::bind(&node.admin_socket)
        .await
        .with_context(|| format!("node.admin_socket {}", node.admin_socket.display()))?;
    let passport = super::membership::ensure(&node, &cluster, passport)?;
    let vantage = Vantage::witness();
    let (mut member, handle) =
        cluster::Node::start_with(cluster, vantage.presence().clone()).await?;
    let stop = CancellationToken::new();
    let membership = admin::Membership::new(handle.clone());
    let (chronicle, waiting) = Chronicle::new();
    running.tell(chronicle.clone(), node.name.clone());
    let sources = chronicle::Sources {
        name: node.name.clone(),
        cluster: handle.clone(),
        speaker: Speaker::default(),
        tunnels: None,
        certificates: Box::new(Vec::new),
    };
    tokio::spawn(waiting.keep(sources, stop.clone()));
    let facts = Arc::new(Facts::witness((node.name.clone(), passport), handle.clone(), vantage));
    if let Some(metrics) = super::metrics_service(&node, &facts, None, Vec::new(), &stop)? {
        // Ends with `stop`; a witness goes on voting without it.
        tokio::spawn(metrics);
    }
    tokio::spawn(super::alarms::watch(facts.clone(), Vec::new(), stop.clone()));
    let mut signals = super::Signals::listen()?;
    let (reload, mut reloads) = super::reload::orders();
    let watched = facts.clone();
    let status = Arc::new(move || facts.status());
    let source = admin::server::Source {
        status,
        membership: membership.clone(),
        reload,
        orders: None,
        backends: None,
        desk: None,
    };
    if let Some(page) = super::page_service(&node, &source, &chronicle, &stop)? {
        // As the metrics.
        tokio::spawn(page);
    }
    let mut served = tokio::spawn(admin::server::serve(listener, source, stop.clone()));
    tracing::info!(name: "node_started", node = node.name, "witness started");
    metrics().configured();
    let alive = watchdog::Watched { facts: watched, cluster: handle, speaker: Speaker::default() };
    let mut alive = tokio::spawn(watchdog::keep(alive, stop.clone()));
    super::notify(&[NotifyState::Ready]);
    let outcome = loop {
        tokio::select! {
            told = signals.next() => match told {
                // What went wrong is in the log.
                Told::Reload => drop(running.reload().await),
                Told::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    break Ok(());
                }
            },
            // Whoever asked may be gone.
            Some(reply) = reloads.recv() => drop(reply.send(running.reload().await)),
            reason = member.failed() => {
                if membership.is_leaving() {
                    tracing::info!("this node has left the cluster; stopping");
                    break Ok(());
                }
                break Err(anyhow::anyhow!("the cluster stopped: {reason}"));
            }
            _ = &mut alive => break Err(anyhow::anyhow!("the watchdog's feed ended")),
            _ = &mut served => break Err(anyhow::anyhow!("the admin socket ended")),
        }
    };
    super::notify(&[NotifyState::Stopping]);
    stop.cancel();
    member.shutdown().await;
    if !served.is_finished() {
        let _ = served.await;
    }
    tracing::info!(name: "node_stopped", "stopped");
    outcome
}
