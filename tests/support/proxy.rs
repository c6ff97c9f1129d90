//! A stretch of network between a client and a server of a test, which can be slow, silent, or cut.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    time::sleep,
};

/// What happens to what passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    /// Passes at once.
    Good,
    /// Every message waits for so long.
    Slow(Duration),
    /// Connections stay, nothing passes.
    Silent,
    /// Connections end, and new ones end at once.
    Cut,
    /// The server's answer to the message that holds these bytes is lost with its connection; then the network is good again.
    LosesAnswerTo(&'static [u8]),
}

/// Forwards connections to a server.
pub(crate) struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
}

impl Proxy {
    /// Between anyone and the server on a port of this machine. Lives on the runtime that starts it.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = watch::Sender::new(Network::Good);
        let shared = network.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *shared.borrow() == Network::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let doomed = Arc::new(Mutex::new(false));
                tokio::spawn(forward(from_client, to_server, shared.clone(), Arc::clone(&doomed), true));
                tokio::spawn(forward(from_server, to_client, shared.clone(), doomed, false));
            }
        });
        Self { port, network }
    }

    /// Where clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for connections that are there and for new ones.
    pub(crate) fn be(&self, network: Network) {
        self.network.send_replace(network);
    }
}

/// One direction of one connection. `doomed`: its next answer is to be lost.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: watch::Sender<Network>, doomed: Arc<Mutex<bool>>, asks: bool) {
    let mut changes = network.subscribe();
    let mut message = vec![0; 1 << 16];
    loop {
        let length = tokio::select! {
            read = from.read(&mut message) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            },
            _ = changes.wait_for(|network| *network == Network::Cut) => return,
        };
        let now = network.borrow().clone();
        match now {
            Network::Good => {}
            Network::Slow(delay) => sleep(delay).await,
            Network::Silent => {
                if changes.wait_for(|network| *network != Network::Silent).await.is_err() {
                    return;
                }
            }
            Network::Cut => return,
            Network::LosesAnswerTo(words) if asks => {
                *doomed.lock().unwrap() |= message[..length].windows(words.len()).any(|window| window == words);
            }
            Network::LosesAnswerTo(_) => {
                if *doomed.lock().unwrap() {
                    network.send_replace(Network::Good);
                    return;
                }
            }
        }
        if to.write_all(&message[..length]).await.is_err() {
            return;
        }
    }
}
