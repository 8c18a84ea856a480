//! A network between a collector and its database that breaks when told to.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long connections are waited for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Size of the buffer of one direction, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// A proxy of one port on 127.0.0.1. Ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    weather: watch::Sender<Weather>,
    connections: watch::Sender<u64>,
    held: watch::Sender<u64>,
    accepting: AbortHandle,
}

/// What happens to connections, by the order they were made in.
#[derive(Clone, Copy, Default)]
struct Weather {
    /// Nothing passes, and nothing is closed: packets get lost.
    stalled: bool,
    /// New connections are closed at once.
    closed: bool,
    /// Connections with a lower number are closed.
    cut_below: u64,
    /// On connections with a lower number nothing passes any more, and nobody tells.
    silent_below: u64,
    /// What a client sends is kept back from the packet on that has this text.
    hold_at: Option<&'static str>,
}

impl Proxy {
    /// Starts a proxy to this port.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let weather = watch::Sender::new(Weather::default());
        let connections = watch::Sender::new(0);
        let held = watch::Sender::new(0);
        let accepting = tokio::spawn(accept(listener, to, weather.subscribe(), connections.clone(), held.clone()));
        Self { port, weather, connections, held, accepting: accepting.abort_handle() }
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        *self.connections.borrow()
    }

    /// Waits until so many were made.
    ///
    /// # Panics
    /// When they were not.
    pub async fn until_connections(&self, count: u64) {
        let mut made = self.connections.subscribe();
        let made = timeout(DEADLINE, made.wait_for(|made| *made >= count)).await;
        made.expect("connections are made in time").expect("it accepts");
    }

    /// Closes every connection, and new ones at once.
    pub fn cut(&self) {
        let made = self.connections();
        self.weather.send_modify(|weather| (weather.closed, weather.cut_below) = (true, made));
    }

    /// Lets nothing pass, on new connections either, without a word.
    pub fn stall(&self) {
        self.weather.send_modify(|weather| weather.stalled = true);
    }

    /// Lets nothing pass on the connections there are, without a word; new ones work.
    pub fn forget(&self) {
        let made = self.connections();
        self.weather.send_modify(|weather| weather.silent_below = made);
    }

    /// Keeps back what a client sends, from the packet on that has this text.
    pub fn hold_at(&self, text: &'static str) {
        self.weather.send_modify(|weather| weather.hold_at = Some(text));
    }

    /// Waits until something was kept back.
    ///
    /// # Panics
    /// When nothing was.
    pub async fn until_held(&self) {
        let mut held = self.held.subscribe();
        let held = timeout(DEADLINE, held.wait_for(|held| *held > 0)).await;
        held.expect("it is sent in time").expect("we have the sender");
    }

    /// Lets everything pass that was not closed or forgotten.
    pub fn resume(&self) {
        self.weather.send_modify(|weather| {
            (weather.closed, weather.stalled, weather.hold_at) = (false, false, None);
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    to: u16,
    weather: watch::Receiver<Weather>,
    connections: watch::Sender<u64>,
    held: watch::Sender<u64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let number = *connections.borrow();
        connections.send_replace(number + 1);
        if weather.borrow().closed {
            continue;
        }
        let (weather, held) = (weather.clone(), held.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
            let [_, _] = [client.set_nodelay(true), server.set_nodelay(true)];
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // When one direction ends, both do.
            tokio::select! {
                () = pass(number, from_client, to_server, weather.clone(), Some(held)) => {}
                () = pass(number, from_server, to_client, weather, None) => {}
            }
        });
    }
}

/// Copies one direction until it ends or is cut. With `held`, which counts that, it may be kept back.
async fn pass(
    number: u64,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    held: Option<watch::Sender<u64>>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let now = *weather.borrow_and_update();
        if number < now.cut_below {
            return;
        }
        let silent = now.stalled || number < now.silent_below;
        let read = tokio::select! {
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                // The test is over.
                Err(_) => return,
            },
            read = from.read(&mut buffer), if !silent => read,
        };
        let read_bytes = &buffer[..*read.as_ref().unwrap_or(&0)];
        if let Some(held) = &held
            && weather.borrow().hold_at.is_some_and(|text| has(read_bytes, text))
        {
            held.send_modify(|held| *held += 1);
            if weather.wait_for(|weather| weather.hold_at.is_none()).await.is_err() {
                return;
            }
        }
        match read {
            Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
