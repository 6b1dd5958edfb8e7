//! What every route is given: the client, what the server was told at its start, and its stop. Knows no
//! routes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::auth::Tokens;
use super::hosts::Hosts;
use super::room::Room;
use crate::api::Client;
use crate::api::live::Hub;
use crate::domain::Name;
use crate::engine::Pull;
use crate::sys::secrets::Secrets;

/// What a server is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// What `/health` calls the environment.
    pub env: String,
    /// `server.allowed_hosts`: hosts to answer to, beside the usual.
    pub allowed_hosts: Vec<String>,
    /// `server.cors.allowed_origins`: web pages that may ask, `*` for all.
    pub allowed_origins: Vec<String>,
    /// `GOFLOW_TOKEN`: it may do everything.
    pub admin_token: Option<String>,
    /// How long requests may go on after a stop.
    pub shutdown_timeout: Duration,
    /// Where jobs go that name no queue.
    pub queue: Name,
    /// Retries of jobs that name none.
    pub max_retries: u32,
    /// Whether it counts what `/metrics` tells: that is written to the store.
    pub counts: bool,
    /// Where the secrets of webhooks are found.
    pub secrets: Secrets,
    /// For the bodies of all requests and answers, in bytes; usually [`ROOM_BYTES`](super::ROOM_BYTES).
    pub room: usize,
}

/// The state of every route; a clone is the same one.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    client: Client,
    options: Options,
    tokens: Tokens,
    hosts: Hosts,
    /// Who reads the event log along.
    hub: Arc<Hub>,
    /// What workers over HTTP ask.
    pull: Pull,
    /// For the bodies of all requests.
    room: Room,
    stop: CancellationToken,
}

impl App {
    pub(super) fn new(client: Client, options: Options, hosts: Hosts, needs_token: bool) -> App {
        let room = options.room;
        let tokens = Tokens::new(options.admin_token.as_deref(), needs_token);
        let hub = Hub::new(client.clone());
        let pull = Pull::new(
            client.store().clone(),
            client.clock().clone(),
            client.entropy().clone(),
            client.spans().cloned(),
        );
        App(Arc::new(Inner {
            client,
            options,
            tokens,
            hosts,
            hub,
            pull,
            room: Room::new(room),
            stop: CancellationToken::new(),
        }))
    }

    pub fn client(&self) -> &Client {
        &self.0.client
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    pub fn pull(&self) -> &Pull {
        &self.0.pull
    }

    pub(super) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    /// Cancelled when the server stops: connections that stay open, such as streams, must end then.
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}
