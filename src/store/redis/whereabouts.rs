//! Where a shard's keys are now: on the server that the URL names, on the node of a cluster that serves
//! their slot, or on the server that the sentinels call the master. It asks nodes and sentinels for the
//! way, and nobody for a key.
//!
//! What was learned holds until a server sends elsewhere or does not answer; then it is asked for anew,
//! the next one first, so that one that is cut off from the others does not mislead for long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, RedisError, TlsCertificates, Value, cmd};

use super::address::{Address, Way};
use super::connection::{fail, says};
use super::topology::{self, Node, Range};
use super::{reply, tls};
use crate::store::contract::{Result, StoreError};

/// How long one node or sentinel may take: another one knows as well.
const ASK: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Known {
    /// Where the keys are, as far as is known.
    home: Option<Node>,
    /// Whom to ask, the likeliest first.
    guides: Vec<Node>,
    /// Those of them that did not answer the last time.
    silent: Vec<Node>,
}

pub struct Whereabouts {
    pub address: Address,
    certificates: TlsCertificates,
    slot: u16,
    known: Mutex<Known>,
}

impl Whereabouts {
    /// Reads the files that the address names.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a file that cannot be read.
    pub fn new(address: Address, slot: u16) -> Result<Self> {
        let certificates = tls::certificates(&address.files)?;
        let known = Known { guides: address.hosts.clone(), ..Known::default() };
        Ok(Whereabouts { address, certificates, slot, known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the keys can move to another server.
    pub fn is_fixed(&self) -> bool {
        self.address.way == Way::Server
    }

    /// The server that has the keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while nobody knows; [`StoreError::Refused`] when asking again is of no use.
    pub async fn home(&self) -> Result<(Client, Node)> {
        let home = self.known().home.clone();
        let node = match home {
            Some(node) => node,
            None => {
                let node = self.look().await?;
                self.known().home = Some(node.clone());
                node
            }
        };
        Ok((self.server(&node)?, node))
    }

    /// The keys are there: a server said so.
    pub fn moved_to(&self, node: Node) {
        self.known().home = Some(node);
    }

    /// The keys are no longer where they were, or cannot be reached there.
    pub fn forget(&self) {
        self.known().home = None;
    }

    /// A client for keys of a server at this place.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for certificates that are none.
    pub fn server(&self, node: &Node) -> Result<Client> {
        self.client(self.address.server_at(&node.0, node.1))
    }

    fn client(&self, info: ConnectionInfo) -> Result<Client> {
        let client = if self.address.is_tls {
            Client::build_with_tls(info, self.certificates.clone())
        } else {
            Client::open(info)
        };
        client.map_err(|error| StoreError::Refused(format!("the store URL is of no use: {error}")))
    }

    /// Asks for the way.
    async fn look(&self) -> Result<Node> {
        match &self.address.way {
            Way::Server => self.address.hosts.first().cloned().ok_or_else(|| self.lost("")),
            Way::Cluster => {
                let ranges = self.ranges().await?;
                topology::master_of(&ranges, self.slot).cloned().ok_or_else(|| {
                    StoreError::Unavailable(format!("no node of the cluster serves slot {} now", self.slot))
                })
            }
            Way::Sentinel(master) => self.master(master).await,
        }
    }

    /// Which node serves which slots.
    ///
    /// # Errors
    /// As [`Self::home`].
    pub async fn ranges(&self) -> Result<Vec<Range>> {
        let mut last = None;
        for guide in self.guides() {
            let info = self.address.server_at(&guide.0, guide.1);
            let asked = self.ask(&guide, info, cmd("CLUSTER").arg("SLOTS")).await;
            match asked.and_then(|answer| topology::read(answer, &guide.0)) {
                Ok(ranges) if topology::master_of(&ranges, self.slot).is_some() => {
                    self.learn(&guide, &ranges);
                    return Ok(ranges);
                }
                Ok(_) => last = Some(format!("{} knows of no node that serves the slot", shown(&guide))),
                Err(StoreError::Refused(why)) if why.contains("cluster support disabled") => {
                    return Err(StoreError::Refused(format!(
                        "{} is not a node of a cluster: for one server the URL is redis://",
                        shown(&guide)
                    )));
                }
                Err(refused @ StoreError::Refused(_)) => return Err(refused),
                Err(error) => last = Some(format!("{}: {error}", shown(&guide))),
            }
        }
        Err(self.lost(&last.unwrap_or_default()))
    }

    async fn master(&self, name: &str) -> Result<Node> {
        let (mut last, mut unknown) = (None, 0);
        let guides = self.guides();
        let count = guides.len();
        for guide in guides {
            let mut question = cmd("SENTINEL");
            question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
            match self.ask(&guide, self.address.sentinel_at(&guide.0, guide.1), &question).await {
                Ok(Value::Nil) => unknown += 1,
                Ok(answer) => {
                    let mut parts = reply::array(answer)?.into_iter();
                    let mut next = || reply::text(parts.next().unwrap_or(Value::Nil));
                    let (host, port) = (next()?, next()?.parse().map_err(|_| reply::odd())?);
                    self.defer(&guide);
                    return Ok((host, port));
                }
                Err(StoreError::Refused(why)) => {
                    return Err(StoreError::Refused(format!("the sentinel {}: {why}", shown(&guide))));
                }
                Err(error) => last = Some(format!("{}: {error}", shown(&guide))),
            }
        }
        if unknown == count {
            return Err(StoreError::Refused(format!("the sentinels watch no master of the name `{name}`")));
        }
        Err(self.lost(&last.unwrap_or_default()))
    }

    /// Asks one node or sentinel.
    async fn ask(&self, guide: &Node, info: ConnectionInfo, question: &Cmd) -> Result<Value> {
        let client = self.client(info)?;
        let asking = async {
            let mut connection = connect(&client, ASK, Some(ASK)).await?;
            connection.send_packed_command(question).await.and_then(Value::extract_error)
        };
        let answer = asking.await.map_err(|error| fail(&error));
        self.heard(guide, !matches!(answer, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))));
        answer
    }

    /// Asks the sentinels what they know of the master: field and value.
    ///
    /// # Errors
    /// Those of the last that was asked.
    pub async fn watch(&self, name: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut last = self.lost("");
        for guide in self.guides() {
            let mut question = cmd("SENTINEL");
            question.arg("MASTER").arg(name);
            match self.ask(&guide, self.address.sentinel_at(&guide.0, guide.1), &question).await {
                Ok(answer) => return reply::pairs(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Those that did not answer come last: each of them costs the time that it is given.
    fn guides(&self) -> Vec<Node> {
        let known = self.known();
        let mut guides = known.guides.clone();
        guides.sort_by_key(|guide| known.silent.contains(guide));
        guides
    }

    /// Remembers whether a guide has answered.
    fn heard(&self, guide: &Node, has_answered: bool) {
        let mut known = self.known();
        known.silent.retain(|other| other != guide);
        if !has_answered {
            known.silent.push(guide.clone());
        }
    }

    /// Another one is asked first the next time.
    fn defer(&self, guide: &Node) {
        let mut known = self.known();
        if let Some(at) = known.guides.iter().position(|other| other == guide) {
            let guide = known.guides.remove(at);
            known.guides.push(guide);
        }
    }

    /// All nodes of the cluster can be asked, and those of the URL, which may be names of new ones.
    fn learn(&self, guide: &Node, ranges: &[Range]) {
        let mut known = self.known();
        let nodes = ranges.iter().flat_map(|range| std::iter::once(&range.master).chain(&range.replicas));
        let mut guides: Vec<Node> = Vec::new();
        for node in nodes.chain(&self.address.hosts) {
            if !guides.contains(node) && node != guide {
                guides.push(node.clone());
            }
        }
        guides.push(guide.clone());
        known.silent.retain(|silent| guides.contains(silent));
        known.guides = guides;
    }

    fn lost(&self, last: &str) -> StoreError {
        let what = match self.address.way {
            Way::Server => "the server",
            Way::Cluster => "no node of the cluster",
            Way::Sentinel(_) => "no sentinel",
        };
        StoreError::Unavailable(format!("{what} answers: {last}"))
    }
}

/// `HOST:PORT`.
pub fn shown(node: &Node) -> String {
    let (host, port) = node;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A connection that waits at most so long for the server, and for each answer.
///
/// # Errors
/// The client library's.
pub async fn connect(
    client: &Client,
    connecting: Duration,
    answering: Option<Duration>,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(connecting)).set_response_timeout(answering);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// What an answer says about where the keys are.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Stay,
    /// They are there now.
    Moved(Node),
    /// This key is there already, while its slot is on the way.
    Ask(Node),
    /// Some keys are there and some here: in a moment all will be there.
    Wait,
    /// Not where the call went; where is to be asked.
    Lost,
}

impl Whereabouts {
    /// Reads an error as a sign of the way; `asked` is who gave it.
    pub fn turn(&self, error: &RedisError, asked: &Node) -> Turn {
        let to = || error.detail().and_then(|detail| topology::redirected(detail, &asked.0));
        let is = |code: &str| says(error, code);
        match &self.address.way {
            Way::Server => Turn::Stay,
            Way::Cluster if is("MOVED") => to().map_or(Turn::Lost, Turn::Moved),
            Way::Cluster if is("ASK") => to().map_or(Turn::Wait, Turn::Ask),
            Way::Cluster if is("TRYAGAIN") => Turn::Wait,
            _ if ["READONLY", "CLUSTERDOWN", "MASTERDOWN", "LOADING"].iter().any(|code| is(code)) => Turn::Lost,
            _ => Turn::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str, line: &str) -> Turn {
        let address = Address::read(url).expect("a URL");
        let whereabouts = Whereabouts::new(address, 0).expect("no files are named");
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("parses");
        whereabouts.turn(&value.extract_error().expect_err("is an error"), &("asked".to_owned(), 1))
    }

    #[test]
    fn errors_point_the_way() {
        let cluster = "redis+cluster://a,b";
        let node = |host: &str| (host.to_owned(), 7001);
        assert_eq!(told(cluster, "MOVED 5 10.0.0.2:7001"), Turn::Moved(node("10.0.0.2")));
        assert_eq!(told(cluster, "MOVED 5 :7001"), Turn::Moved(node("asked")));
        assert_eq!(told(cluster, "ASK 5 10.0.0.2:7001"), Turn::Ask(node("10.0.0.2")));
        assert_eq!(told(cluster, "TRYAGAIN Multiple keys request during rehashing of slot"), Turn::Wait);
        for away in ["CLUSTERDOWN The cluster is down", "LOADING Redis is loading", "READONLY You can't write"] {
            assert_eq!(told(cluster, away), Turn::Lost);
            assert_eq!(told("redis+sentinel://a/m", away), Turn::Lost);
            assert_eq!(told("redis://a", away), Turn::Stay, "a server alone is where it is");
        }
        assert_eq!(told(cluster, "OOM command not allowed"), Turn::Stay);
        assert_eq!(told("redis://a", "MOVED 5 10.0.0.2:7001"), Turn::Stay);
    }

    #[tokio::test]
    async fn a_guide_that_does_not_answer_is_asked_last() {
        // A port that nobody listens at, and one behind which everybody knows the way.
        let port = |listener: &std::net::TcpListener| listener.local_addr().expect("an address").port();
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let dead = port(&bind());
        let (one, other) = (bind(), bind());
        let url = format!("redis+sentinel://127.0.0.1:{dead},127.0.0.1:{},127.0.0.1:{}/m", port(&one), port(&other));
        for sentinel in [one, other] {
            std::thread::spawn(move || sentinel.incoming().flatten().for_each(answer_as_sentinel));
        }
        let whereabouts = Whereabouts::new(Address::read(&url).expect("a URL"), 0).expect("no files are named");
        for _ in 0..4 {
            assert_eq!(whereabouts.home().await.expect("a sentinel answers").1, ("10.0.0.1".to_owned(), 6379));
            whereabouts.forget();
            assert_eq!(whereabouts.guides().last().map(|guide| guide.1), Some(dead));
        }
        whereabouts.heard(&("127.0.0.1".to_owned(), dead), true);
        assert_ne!(whereabouts.guides().last().map(|guide| guide.1), Some(dead), "it answers again");
    }

    /// Says where the master is when asked, and yes to all else.
    fn answer_as_sentinel(mut stream: std::net::TcpStream) {
        use std::io::{Read, Write};
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            let answers = text.lines().filter(|line| line.starts_with('*')).map(|_| "+OK\r\n");
            let answer = match text.contains("GET-MASTER-ADDR-BY-NAME") {
                true => "*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n".to_owned(),
                false => answers.collect(),
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
