//! The connection: makes it, has the server tell changes, proves that it lives, and makes it again.
//!
//! Runs on a thread of its own. May call `server`, `pushes` and `state`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult, Value, cmd};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::epochs::{self, Run};
use crate::error::Error;
use crate::pushes::Pushes;
use crate::server::Server;
use crate::state::{Link, Shared};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) server: Server,
    /// Time between two proofs that the connection lives.
    pub(crate) heartbeat: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) closed: Arc<Notify>,
}

impl Session {
    /// Runs until the near cache is closed. Tells the outcome of the first attempt to connect.
    pub(crate) async fn run(mut self, first: SyncSender<Result<(), Error>>) {
        let closed = Arc::clone(&self.closed);
        tokio::select! {
            () = closed.notified() => {}
            () = self.go_on(first) => {}
        }
    }

    async fn go_on(&mut self, first: SyncSender<Result<(), Error>>) {
        let (mut first, mut pause, mut number) = (Some(first), FIRST_PAUSE, 0);
        while !self.shared.is_closed.load(SeqCst) {
            number += 1;
            let disconnected = Arc::new(Notify::new());
            match self.connect(number, &disconnected).await {
                Ok(link) => {
                    let (connection, began) = (link.connection.clone(), Instant::now());
                    self.shared.connected(link);
                    tell(&mut first, Ok(()));
                    let reason = self.keep(number, connection, &disconnected).await;
                    self.shared.disconnected(number, &reason);
                    if began.elapsed() >= self.heartbeat.min(LONGEST_PAUSE) {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    // A server that ends each connection at once is not asked without a pause.
                }
                Err(error) => {
                    self.shared.disconnected(number, &error.to_string());
                    tell(&mut first, Err(error));
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&mut self, number: u64, disconnected: &Arc<Notify>) -> Result<Link, Error> {
        let name = self.server.name().to_owned();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.shared.limits.response))
            .set_push_sender(Pushes::new(&self.shared, number, Arc::clone(disconnected)));
        let connecting = self.server.connect(&config);
        let Ok(connected) = timeout(self.connect_timeout, connecting).await else {
            return Err(Error::Unavailable {
                server: name,
                reason: format!("no connection within {:?}", self.connect_timeout),
            });
        };
        let failed = |error| Error::of(&name, error);
        let mut connection = connected.map_err(failed)?;
        let run = self.check(&mut connection).await?;
        track(&mut connection, &self.shared.limits.prefixes)
            .await
            .map_err(failed)?;
        self.check_tracking(&mut connection).await?;
        // Without it nothing proves that the connection lives.
        let pong: RedisResult<Value> = cmd("PING").query_async(&mut connection).await;
        pong.map_err(failed)?;
        Ok(Link {
            number,
            connection,
            run,
            since: clock::now(),
        })
    }

    /// Refuses servers that cannot tell all changes over one connection. Returns the server's run.
    async fn check(&self, connection: &mut MultiplexedConnection) -> Result<Run, Error> {
        let info: RedisResult<String> = cmd("INFO").arg("server").query_async(connection).await;
        // Without the permission, or behind a proxy, no other process can know the same run.
        let info = match info {
            Ok(info) => info,
            Err(error) if error.is_unrecoverable_error() || error.is_timeout() => {
                return Err(Error::of(self.server.name(), error));
            }
            Err(_) => String::new(),
        };
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        if field("redis_mode:") == Some("cluster") || field("server_mode:") == Some("cluster") {
            return Err(self.unsuitable(
                "it is a node of a cluster, whose other nodes would not tell their changes; \
                 use a server that is no cluster",
            ));
        }
        Ok(match (field("run_id:"), boot_id()) {
            (Some(run), Some(boot)) => Run(xxhash_rust::xxh3::xxh3_64(
                format!("{run} {boot}").as_bytes(),
            )),
            _ => Run(epochs::random()),
        })
    }

    /// The answer OK to the command is no proof: servers and proxies give it without tracking.
    async fn check_tracking(&self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let info: Value = cmd("CLIENT")
            .arg("TRACKINGINFO")
            .query_async(connection)
            .await
            .map_err(|error| Error::of(self.server.name(), error))?;
        let flags = flags(info);
        let has = |flag: &str| flags.iter().any(|found| found == flag);
        if has("bcast") && !has("noloop") {
            return Ok(());
        }
        Err(self.unsuitable(
            "it accepts CLIENT TRACKING and does not do it; Redis from 6.2 on and Valkey do",
        ))
    }

    fn unsuitable(&self, reason: &str) -> Error {
        Error::Unsuitable {
            server: self.server.name().to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Proves that the connection lives, again and again. Returns why it does not any more.
    async fn keep(
        &self,
        number: u64,
        mut connection: MultiplexedConnection,
        disconnected: &Notify,
    ) -> String {
        loop {
            let moment = clock::now();
            let ping = cmd("PING");
            let answer: RedisResult<Value> = tokio::select! {
                () = disconnected.notified() => return "the connection was lost".to_owned(),
                answer = ping.query_async(&mut connection) => answer,
            };
            match answer {
                Ok(_) if self.shared.is_linked(number) => self.shared.proved(number, moment),
                Ok(_) => return "the connection was lost".to_owned(),
                Err(error) => return format!("no answer to a PING: {error}"),
            }
            tokio::select! {
                () = disconnected.notified() => return "the connection was lost".to_owned(),
                () = sleep(self.heartbeat) => {}
            }
        }
    }
}

/// Returns the flags that CLIENT TRACKINGINFO tells. The prefixes beside them may have any names.
fn flags(info: Value) -> Vec<String> {
    let fields: HashMap<String, Value> = redis::from_redis_value(info).unwrap_or_default();
    let flags = fields.get("flags").cloned();
    flags.map_or_else(Vec::new, |flags| {
        redis::from_redis_value(flags).unwrap_or_default()
    })
}

fn tell(first: &mut Option<SyncSender<Result<(), Error>>>, outcome: Result<(), Error>) {
    if let Some(first) = first.take() {
        // Not received if the opening does not wait.
        let _ = first.try_send(outcome);
    }
}

/// Broadcast mode: the server keeps no table of keys. Without NOLOOP, which would hide what other
/// clients did to a key in the same turn as this one.
async fn track(connection: &mut MultiplexedConnection, prefixes: &[Vec<u8>]) -> RedisResult<()> {
    let mut command = cmd("CLIENT");
    command.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in prefixes {
        command.arg("PREFIX").arg(prefix);
    }
    command.query_async(connection).await
}

/// Returns the id of this start of the machine: moments of another one mean nothing.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
