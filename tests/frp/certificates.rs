//! Certificates that change under stock frpc: what was installed before goes on, until it is
//! told apart on purpose.

use std::fs;
use std::path::{Path, PathBuf};

use trigon::admin::certificates::{Action, Authority, Certificate, Order};
use trigon::admin::client;

use crate::support::eventually;
use crate::support::frpc::{Frpc, Setup, VERSIONS};
use crate::support::node::{A_MOMENT, Node};

/// A container installed now.
fn installed(node: &Node, name: &str) -> PathBuf {
    let dir = node.dir().join(name);
    fs::create_dir(&dir).unwrap();
    for file in ["ca.crt", "client.crt", "client.key"] {
        fs::copy(node.dir().join("state/frp").join(file), dir.join(file)).unwrap();
    }
    dir
}

/// Those of the tunnel port.
async fn listed(node: &Node) -> Vec<Certificate> {
    let all = client::certificates(&node.dir().join("admin.sock")).await.unwrap();
    all.0.into_iter().filter(|one| one.area == "frp").collect()
}

/// Carries an order out and waits until it is in force.
async fn order(node: &Node, action: Action) {
    let in_force = || fs::read(node.dir().join("state/frp/server.crt")).unwrap();
    let before = in_force();
    let order = Order { action, authority: Authority::Tunnels };
    client::change_certificates(&node.dir().join("admin.sock"), order).await.unwrap();
    if action != Action::DropOldCas {
        eventually("the change is in force", || async { (in_force() != before).then_some(()) })
            .await;
    }
}

fn certificates_in(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().matches("BEGIN CERTIFICATE").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exapp_outlives_the_rotation_of_the_authority_and_not_its_end() {
    for version in VERSIONS {
        let node = Node::start("").await;
        let setup = |proxy, port, certificates| Setup {
            proxy,
            port,
            certificates: Some(certificates),
            ..Setup::default()
        };
        let old = installed(&node, "old");
        let first = Setup { certificates: Some(old.clone()), ..Setup::default() };
        let frpc = Frpc::start(version, &node, &first);
        node.page_answers().await;

        order(&node, Action::Renew).await;
        order(&node, Action::RotateCa).await;
        let roles: Vec<_> = listed(&node).await.into_iter().map(|one| one.state).collect();
        assert_eq!(roles, ["signs", "trusted", "in use", "in use"]);
        node.page_answers().await;
        let logins = |frpc: &Frpc| frpc.log().matches("login to server success").count();
        assert_eq!(logins(&frpc), 1, "nothing was dropped");

        // It starts again with what it was given then, and finds its way to the new authority.
        drop(frpc);
        let frpc = Frpc::start(version, &node, &first);
        frpc.says("start proxy success").await;
        node.page_answers().await;
        let new = installed(&node, "new");
        assert_eq!(certificates_in(&new.join("ca.crt")), 2);
        let second = Frpc::start(version, &node, &setup("second", 23_010, new.clone()));
        second.says("start proxy success").await;
        // One that lost the old authority does as well.
        let ca = fs::read_to_string(new.join("ca.crt")).unwrap();
        let end = ca.find("-----END CERTIFICATE-----\n").unwrap() + 26;
        fs::write(new.join("ca.crt"), &ca[..end]).unwrap();
        let third = Frpc::start(version, &node, &setup("third", 23_011, new.clone()));
        third.says("start proxy success").await;
        drop((second, third));

        order(&node, Action::DropOldCas).await;
        eventually("only the newest is left", || async {
            (certificates_in(&node.dir().join("state/frp/ca.crt")) == 1).then_some(())
        })
        .await;
        node.page_answers().await;
        assert_eq!(listed(&node).await.len(), 3);
        let late = Frpc::start(version, &node, &setup("late", 23_012, old));
        late.says("connect to server error").await;
        tokio::time::sleep(A_MOMENT).await;
        assert_eq!(logins(&late), 0);
        let again = Frpc::start(version, &node, &setup("again", 23_013, new));
        again.says("start proxy success").await;
    }
}
