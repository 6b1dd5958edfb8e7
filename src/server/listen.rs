//! Listening: connections, their limits, and a stop that lets requests end. A connection that dawdles
//! costs a task and is closed in time; it holds up nobody else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app::{App, Options};
use super::hosts::Hosts;
use super::limits::{CONNECTIONS, HEAD_WITHIN, TAKE_WITHIN};
use super::log::AccessLog;
use super::scopes;
use super::taken::Taken;
use crate::api::{ApiError, Client};

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {why}")]
    Bind { address: String, why: String },
    #[error("{0} can be reached from other machines, and there is no token")]
    NeedsToken(SocketAddr),
    #[error("server.cors.allowed_origins: `{0}` is no origin, such as https://app.example.com")]
    Origin(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A server that listens, and has not answered yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
    router: Router,
    is_open: bool,
}

/// After an accept that failed, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Listens. `bind` is an address, or a name of one.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(
        bind: &str,
        port: u16,
        client: Client,
        options: Options,
        access: AccessLog,
    ) -> Result<Server, ServerError> {
        let failed = |error: std::io::Error| {
            let why = error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase();
            ServerError::Bind { address: format!("{bind}:{port}"), why }
        };
        let bare = bind.trim_start_matches('[').trim_end_matches(']');
        let address = match bare.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => {
                let found = tokio::net::lookup_host((bare, port)).await.map_err(failed)?.next();
                found.ok_or_else(|| failed(std::io::Error::other("the name has no address")))?
            }
        };
        let is_loopback = address.ip().is_loopback();
        let has_token = options.admin_token.is_some() || !client.tokens().await?.is_empty();
        if !is_loopback && !has_token {
            return Err(ServerError::NeedsToken(address));
        }
        let hosts = Hosts::new(address.ip(), &options)?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let app = App::new(client, options, hosts, !is_loopback);
        let router = scopes::router(&app, access);
        Ok(Server { listener, address, app, router, is_open: is_loopback && !has_token })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody needs a token, at this moment.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Answers until `stop`; then what was begun may end within `shutdown_timeout`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::spawn(self.app.hub().clone().run(self.app.stop().clone()));
        let (tasks, room) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
        if self.app.options().counts {
            tasks.spawn(super::metrics::keep_up(self.app.clone()));
        }
        loop {
            let accepted = async {
                // Those that find no room wait in the system's own line.
                let permit = room.clone().acquire_owned().await.ok();
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(serve(stream, self.router.clone(), self.app.clone(), permit));
                }
                Err(error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        self.app.stop().cancel();
        tasks.close();
        if tokio::time::timeout(self.app.options().shutdown_timeout, tasks.wait()).await.is_err() {
            tracing::warn!("{} requests were cut off by the stop", tasks.len());
        }
    }
}

async fn serve(stream: TcpStream, router: Router, app: App, permit: Option<OwnedSemaphorePermit>) {
    // Answers are small, and written whole.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(Taken::new(stream, TAKE_WITHIN)), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = app.stop().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
    drop(permit);
}
