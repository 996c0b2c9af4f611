//! The section `[cluster]`: members, control link, certificates.

use std::net::SocketAddr;
use std::path::Path;

use super::file::Section;

pub(super) fn read(
    mut section: Section<'_, '_>,
    node_id: u64,
    state_dir: &Path,
    witness: bool,
) -> cluster::Config {
    let mut config = cluster::Config::single(node_id, state_dir.join("cluster"));
    if !section.is_present() {
        if witness {
            let expected = "a [cluster] section: a witness alone has nothing to vote on";
            section.wrong("listen", "nothing", expected);
        }
        return config;
    }
    if let Some(name) = section.optional("name") {
        config.cluster_name = name;
    }
    if let Some(listen) = section.required("listen") {
        config.listen = listen;
    }
    let files = (section.required("ca"), section.required("certificate"), section.required("key"));
    if let (Some(ca), Some(certificate), Some(key)) = files {
        config.tls = Some(cluster::TlsFiles { ca, certificate, key });
    }
    for mut member in section.sections("members") {
        let id = member.required("id");
        let address = member.required::<SocketAddr>("address");
        let roles = [("node", cluster::Role::Node), ("witness", cluster::Role::Witness)];
        let role = member.choice("role", &roles, cluster::Role::Node);
        member.finish();
        if let (Some(id), Some(address)) = (id, address) {
            config.members.push(cluster::Member { id, address, role });
        }
    }
    check_cluster(&section, &config, witness);
    section.finish();
    config
}

fn check_cluster(section: &Section<'_, '_>, config: &cluster::Config, witness: bool) {
    if config.members.is_empty() {
        let expected = "one [[cluster.members]] for every member, this node included";
        section.wrong("members", "nothing", expected);
        return;
    }
    let is_member = config.members.iter().any(|member| member.id == config.node_id);
    if is_member && (config.role() == cluster::Role::Witness) != witness {
        let expected = "the same role in [node] and in this node's [[cluster.members]]";
        section.wrong("members", "two different roles", expected);
    }
    for problem in config.problems() {
        section.complaint(problem.key, problem.text);
    }
    let Some(files) = &config.tls else { return };
    let loaded = cluster::identity::Identity::load(files, &config.cluster_name, config.node_id);
    if let Err(error) = loaded {
        let (key, text) = (error.key(), error.to_string());
        let text = text.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
        section.complaint(key, format!("{text} (`trigon certs` makes all three files)"));
    }
}
