//! One server for the tests that can share it: 80 items of the demo's shop. Tests that write use items, users and tags of their own.

use std::{process::Child, sync::OnceLock};

use crate::server::{Client, Server, outlive_not};

const ITEMS: &str = include_str!("../../src/app/demo/items/shop.ndjson");

struct Shared {
    server: Server,
    _guard: Child,
}

/// Loads the shop and waits until it is searchable.
pub(crate) async fn fill(client: &Client) {
    let answer = client.lines("/items", ITEMS.to_owned()).await.good();
    assert_eq!(answer["accepted"], 80, "{answer}");
    client.all_searchable().await;
}

/// A client of the shared server.
pub(crate) fn client() -> Client {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        // Its own thread: the first test's runtime is waiting here, and cannot run another.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap().keep();
                // A name without `__` belongs to somebody else, such as Kubernetes, and is not looked at.
                let server = Server::start_with(&folder, &[("INKLING_FOO", "1")]).await;
                let guard = outlive_not(server.pid(), &folder);
                fill(&server.client()).await;
                Shared { server, _guard: guard }
            })
        })
        .join()
        .unwrap()
    });
    Client::new(shared.server.address())
}
