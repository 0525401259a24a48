//! [`Server`]: where the connection leads. May call the crate `redis`.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ProtocolVersion, RedisResult};

/// The server behind a near cache: a [`redis::Client`] with whatever address, TLS and authentication it
/// was made with, or, with the feature `sentinel`, a primary that Sentinel names.
///
/// The near cache needs RESP3. It sets that for a `Client`; a `SentinelClient` must be built with
/// `set_client_to_redis_protocol(ProtocolVersion::RESP3)`.
pub struct Server {
    name: String,
    database: i64,
    connector: Connector,
}

enum Connector {
    Client(Client),
    #[cfg(feature = "sentinel")]
    Sentinel(redis::sentinel::SentinelClient),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the client: it knows the password.
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl TryFrom<Client> for Server {
    type Error = redis::RedisError;

    fn try_from(client: Client) -> RedisResult<Self> {
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone();
        let database = settings.db();
        let name = name_of(info.addr());
        let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3));
        Ok(Self {
            name,
            database,
            connector: Connector::Client(Client::open(info)?),
        })
    }
}

impl TryFrom<&str> for Server {
    type Error = redis::RedisError;

    /// Takes a URL as [`redis::Client::open`] does.
    fn try_from(url: &str) -> RedisResult<Self> {
        Client::open(url)?.try_into()
    }
}

impl Server {
    /// Returns the primary that Sentinel names, and its database. `service` is the name under which
    /// Sentinel knows it.
    #[cfg(feature = "sentinel")]
    pub fn sentinel(client: redis::sentinel::SentinelClient, service: &str, database: i64) -> Self {
        Self {
            name: format!("{service} (by Sentinel)"),
            database,
            connector: Connector::Sentinel(client),
        }
    }

    /// Names the server, for messages and to tell its copies from those of other servers in the same file.
    /// Processes that reach one server by different addresses share copies if they give it the same
    /// name. Default: the address, or the service that Sentinel knows.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Returns the name, for messages and for telling the copies of one server from those of another.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn database(&self) -> i64 {
        self.database
    }

    pub(crate) async fn connect(
        &mut self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        match &mut self.connector {
            Connector::Client(client) => {
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            #[cfg(feature = "sentinel")]
            Connector::Sentinel(client) => client.get_async_connection_with_config(config).await,
        }
    }
}

fn name_of(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port} (TLS)"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => address.to_string(),
    }
}
