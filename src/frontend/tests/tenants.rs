//! Two Nextclouds behind one frontend, with the same ExApp id on the same port.

use super::*;

const OTHER_KEY: &str = "the other key";

struct Two {
    address: SocketAddr,
    /// The default Nextcloud's ExApp and the other one's.
    exapps: [ExApp; 2],
    nextclouds: [Arc<Nextcloud>; 2],
    cluster: Handle,
    stop: CancellationToken,
}

impl Drop for Two {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Two {
    async fn start() -> Self {
        let other = Tenant::new("other");
        let cluster = Handle::in_memory(1);
        let keys =
            guard::SharedKeys::new(Secret::new(KEY)).with(other.clone(), Secret::new(OTHER_KEY));
        let window = Duration::from_secs(300);
        let guard = Guard::new(
            guard::Config { keys, count: 10, window, never_ban: Vec::new() },
            cluster.clone(),
        );
        let (first, first_exapp, first_served) = Self::one(Tenant::default(), KEY).await;
        let (second, second_exapp, second_served) = Self::one(other, OTHER_KEY).await;
        let frontend =
            Frontend::new(Config::default(), first_served, vec![second_served], guard, &cluster);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        tokio::spawn(async move { frontend.serve(listener, token).await });
        let exapps = [first_exapp, second_exapp];
        Self { address, exapps, nextclouds: [first, second], cluster, stop }
    }

    async fn one(tenant: Tenant, key: &'static str) -> (Arc<Nextcloud>, ExApp, Served) {
        let (nextcloud, url) = Nextcloud::start().await;
        *nextcloud.key.lock().unwrap() = Some(key);
        nextcloud.register("demo", "127.0.0.1", 23001, &ROUTES);
        let exapp = ExApp::start().await;
        let tunnels = Arc::new(Tunnels::default());
        let no_engine = tempfile::tempdir().unwrap();
        let docker = docker::calls(&tenant, &no_engine, &tunnels);
        tunnels.up(23001, exapp.address);
        let shared_key = Secret::new(key);
        let client = nextcloud::Config::new(url, shared_key);
        let served = Served {
            tenant,
            hosts: vec!["other.example".to_owned()],
            nextcloud: nextcloud::Client::new(client).unwrap(),
            docker,
            dial: tunnels,
        };
        (nextcloud, exapp, served)
    }

    async fn status(&self, method: &str, path: &str, headers: Headers<'_>) -> u16 {
        send(self.address, request(method, path, headers)).await.status().as_u16()
    }

    fn exapp_requests(&self) -> [usize; 2] {
        [calls(&self.exapps[0].requests), calls(&self.exapps[1].requests)]
    }
}

#[tokio::test]
async fn tenants_visitors_are_told_apart_by_the_host() {
    let two = Two::start().await;
    for (host, expected) in [
        ("cloud.example", [1, 0]),
        ("other.example", [1, 1]),
        ("Other.Example:8780", [1, 2]),
        ("other.example.", [1, 3]),
        ("another.example", [2, 3]),
    ] {
        assert_eq!(two.status("GET", "/exapps/demo/public", &[("host", host)]).await, 200);
        assert_eq!(two.exapp_requests(), expected, "{host}");
    }
    // Each asked its own Nextcloud about the same id.
    assert_eq!(two.nextclouds.each_ref().map(|nextcloud| calls(&nextcloud.meta_calls)), [1, 1]);
}

#[tokio::test]
async fn tenants_do_not_share_what_is_known_about_a_visitor() {
    let two = Two::start().await;
    for host in ["cloud.example", "other.example"] {
        let headers = [("host", host), ("cookie", ALICE)];
        for _ in 0..2 {
            assert_eq!(two.status("GET", "/exapps/demo/user", &headers).await, 200);
        }
    }
    assert_eq!(two.nextclouds.each_ref().map(|nextcloud| calls(&nextcloud.user_calls)), [1, 1]);
}

#[tokio::test]
async fn tenants_calls_are_told_apart_by_the_key_whatever_the_host() {
    let two = Two::start().await;
    let mut theirs = signed();
    theirs.retain(|(name, _)| *name != "harp-shared-key");
    theirs.extend([("harp-shared-key", OTHER_KEY), ("host", "cloud.example")]);
    assert_eq!(two.status("GET", "/exapps/demo/heartbeat", &theirs).await, 200);
    assert_eq!(two.exapp_requests(), [0, 1]);

    let storage = "/exapps/app_api/exapp_storage/demo";
    let (ours, theirs) = ([("harp-shared-key", KEY)], [("harp-shared-key", OTHER_KEY)]);
    let records = || {
        let of = |tenant: &Tenant| two.cluster.view().exapps_of(tenant).count();
        [of(&Tenant::default()), of(&Tenant::new("other"))]
    };
    assert_eq!(two.status("GET", "/exapps/demo/public", &[]).await, 200);
    while records() != [1, 1] {
        tokio::task::yield_now().await;
    }
    assert_eq!(two.status("DELETE", storage, &theirs).await, 204);
    assert_eq!(records(), [1, 0]);
    assert_eq!(two.status("DELETE", storage, &theirs).await, 404);
    assert_eq!(two.status("DELETE", storage, &ours).await, 204);
    assert_eq!(records(), [0, 0]);
}
