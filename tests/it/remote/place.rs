//! A server in this process over a store of the test's, and those who ask it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use goflow::api::Client;
use goflow::api::tokens::Scope;
use goflow::domain::Clock;
use goflow::server::{Options, Server};
use goflow::store::remote::{ServerUrl, Token};
use goflow::store::{RemoteStore, Result, Store};
use goflow::sys::entropy::SystemEntropy;
use tokio_util::sync::CancellationToken;

/// It ends with the test.
pub struct Place {
    pub client: Client,
    pub address: SocketAddr,
    stop: CancellationToken,
}

impl Place {
    pub async fn over(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Place {
        Place::with_room(store, clock, goflow::server::ROOM_BYTES).await
    }

    /// With so much room for the bodies of all requests, in bytes.
    pub async fn with_room(store: Arc<dyn Store>, clock: Arc<dyn Clock>, room: usize) -> Place {
        let client = Client::new(store, clock, Arc::new(SystemEntropy::default()));
        let options = Options {
            env: "test".into(),
            allowed_hosts: vec![],
            allowed_origins: vec![],
            admin_token: None,
            shutdown_timeout: Duration::from_secs(1),
            queue: "default".parse().expect("a name"),
            max_retries: 3,
            // The store is looked at: nobody else writes to it.
            counts: false,
            room,
            secrets: goflow::sys::secrets::Secrets::new(Default::default(), None),
        };
        let log: goflow::server::AccessLog = Arc::new(|_| {});
        let server = Server::bind("127.0.0.1", 0, client.clone(), options, log).await.expect("it listens");
        let (address, stop) = (server.address(), CancellationToken::new());
        tokio::spawn(server.run(stop.clone()));
        Place { client, address, stop }
    }

    pub fn url(&self) -> ServerUrl {
        format!("http://{}", self.address).parse().expect("a URL")
    }

    /// The store as somebody sees it who has no token.
    pub async fn store(&self) -> Result<RemoteStore> {
        RemoteStore::open(&self.url(), None).await
    }

    /// A token with these scopes; from the first one on everybody needs one.
    pub async fn token(&self, scopes: &[Scope]) -> Token {
        let name = scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join("-");
        let made = self.client.create_token(&name.parse().expect("a name"), scopes.to_vec()).await;
        Token::new(&made.expect("a token").1).expect("a token")
    }

    /// The store as seen with a token.
    pub async fn store_with(&self, token: &Token) -> Result<RemoteStore> {
        RemoteStore::open(&self.url(), Some(token)).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
