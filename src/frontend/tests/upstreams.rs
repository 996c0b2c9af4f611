//! The ExApp behind: away, out of reach, silent, and spoken to again.

use super::*;

#[tokio::test]
async fn a_tunnel_that_is_known_but_away_is_waited_for() {
    let bed = Bed::start().await;
    bed.tunnels.lost(23001);
    let waiting = bed.get("/exapps/demo/public", &[]);
    let back = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bed.tunnels.up(23001, bed.exapp.address);
    };
    assert_eq!(tokio::join!(waiting, back).0.status(), 200);
}

#[tokio::test]
async fn unreachable_exapps_are_told_apart() {
    let bed = Bed::start().await;
    let register = |id, port| bed.nextcloud.register(id, "127.0.0.1", port, &[(".*", 0)]);
    register("none", 23002);
    register("away", 23003);
    register("deaf", 23004);
    bed.tunnels.lost(23003);
    bed.tunnels.up(23004, "127.0.0.1:1".parse().unwrap());

    let none = bed.get("/exapps/none/x", &[]).await;
    assert_eq!((none.status().as_u16(), none.headers().get("retry-after")), (503, None));
    let away = bed.get("/exapps/away/x", &[]).await;
    assert_eq!(
        (away.status().as_u16(), &away.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    assert_eq!(bed.status("/exapps/deaf/x", &[]).await, 503);
    assert_eq!(bed.status("/exapps/demo/break", &[]).await, 502);
}

#[tokio::test]
async fn a_silent_exapp_is_given_up_on() {
    let bed = Bed::with(|config| config.timeouts.server = Duration::from_millis(100)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.tunnels.up(23001, silent.local_addr().unwrap());
    assert_eq!(bed.status("/exapps/demo/public", &[]).await, 504);
}

#[tokio::test]
async fn loopback_in_a_record_is_never_a_service_of_this_node() {
    let bed = Bed::start().await;
    bed.nextcloud.register("sly", "localhost", bed.exapp.address.port(), &[(".*", 0)]);
    assert_eq!(bed.status("/exapps/sly/x", &[]).await, 503);
    assert_eq!(calls(&bed.exapp.requests), 0);
}

#[tokio::test]
async fn connections_to_the_exapp_are_used_again() {
    let bed = Bed::start().await;
    for _ in 0..20 {
        assert_eq!(json_of(bed.get("/exapps/demo/public", &[]).await).await["method"], "GET");
    }
    assert!(calls(&bed.tunnels.dials) <= 3, "{} dials", calls(&bed.tunnels.dials));
}
