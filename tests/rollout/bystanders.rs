//! Who stands around a rolled-out pair in `tests/rollout/run`: a Nextcloud and an ExApp for a stock
//! frpc to bring along (`world`), and a visitor who asks again and again and writes down what came
//! of it (`visitor`). Both run until they are told to end.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use trigon::lab::exapp;
use trigon::lab::nextcloud::{App, Directory, Nextcloud};
use trigon::secret::Secret;

#[derive(Parser)]
enum Bystander {
    /// Serves Nextcloud and the ExApp.
    World(World),
    /// Asks for a page at a steady rate, each time on a new connection.
    Visitor(Visitor),
}

#[derive(Parser)]
struct World {
    /// Where Nextcloud is served.
    #[arg(long)]
    nextcloud: SocketAddr,
    /// Where the ExApp is served, for its frpc.
    #[arg(long)]
    exapp: SocketAddr,
    /// The shared key.
    #[arg(long)]
    key: String,
    /// ExApps Nextcloud knows, such as `demo=23000`.
    #[arg(long, value_parser = app_and_port)]
    app: Vec<(String, u16)>,
}

#[derive(Parser)]
struct Visitor {
    /// Address and port asked.
    #[arg(long)]
    at: SocketAddr,
    /// The page.
    #[arg(long)]
    path: String,
    /// Milliseconds between the beginnings of two requests.
    #[arg(long, default_value_t = 25)]
    every: u64,
    /// One line for each request: begun (milliseconds since the epoch), how long it took
    /// (milliseconds), `ok` or what went wrong.
    #[arg(long)]
    log: PathBuf,
}

fn app_and_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.split_once('=').ok_or("NAME=PORT is expected")?;
    Ok((name.to_owned(), port.parse().map_err(|_| "a port is expected behind =")?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Bystander::parse() {
        Bystander::World(world) => serve(world).await,
        Bystander::Visitor(visitor) => visit(&visitor).await,
    }
}

async fn serve(world: World) -> anyhow::Result<()> {
    let apps = world.app.into_iter().map(|(name, port)| (name, App::open(port))).collect();
    let directory = Directory { apps, ..Directory::new(Secret::new(world.key)) };
    let nextcloud = TcpListener::bind(world.nextcloud).await.context("--nextcloud")?;
    let exapp = TcpListener::bind(world.exapp).await.context("--exapp")?;
    tokio::join!(Nextcloud::new(directory).serve(nextcloud), exapp::serve_tcp(exapp));
    Ok(())
}

async fn visit(visitor: &Visitor) -> anyhow::Result<()> {
    let mut log = File::create(&visitor.log).context("--log")?;
    let (noted, mut notes) = mpsc::unbounded_channel::<String>();
    let asking = async {
        let mut clock = tokio::time::interval(Duration::from_millis(visitor.every));
        loop {
            clock.tick().await;
            let (noted, at, path) = (noted.clone(), visitor.at, visitor.path.clone());
            tokio::spawn(async move {
                let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let since = Instant::now();
                let asked = tokio::time::timeout(Duration::from_secs(20), ask(at, &path)).await;
                let result = match asked {
                    Ok(Ok(())) => "ok".to_owned(),
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(_) => "no answer for 20 s".to_owned(),
                };
                let took = since.elapsed().as_millis();
                // Nobody listens any more only when this program ends.
                let _ = noted.send(format!("{}\t{took}\t{result}\n", begun.as_millis()));
            });
        }
    };
    let writing = async {
        while let Some(line) = notes.recv().await {
            log.write_all(line.as_bytes())?;
        }
        Ok(())
    };
    tokio::select! {
        () = asking => Ok(()),
        written = writing => written,
    }
}

/// One page on one connection, as the ExApp itself answers it.
async fn ask(at: SocketAddr, path: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(at).await.context("connect")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: cloud\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("receive")?;
    let head = answer.lines().next().unwrap_or("nothing");
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    anyhow::ensure!(answer.ends_with(exapp::PAGE), "not the page of the ExApp");
    Ok(())
}
