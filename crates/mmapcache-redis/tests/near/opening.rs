//! What opening refuses.

use std::time::Duration;

use mmapcache_redis::{Error, NearCache, Server};

use crate::builder;
use crate::server::{Proxy, Redis, wait_until};

fn refusal(opened: Result<NearCache, Error>) -> Error {
    opened.expect_err("it must be refused")
}

#[test]
fn wrong_password_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/", redis.port);
    let open = |password: &str| NearCache::open(dir.path().join("n"), &*url(password), crate::HOUR);
    let error = refusal(open("guess"));
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(!format!("{error:?} {error}").contains("guess"), "{error:?}");
    let near = open("secret").unwrap();
    near.set("k", "v").unwrap();
    assert_eq!(near.get("k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn absent_server_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start();
    redis.kill();
    let error = refusal(builder(dir.path(), redis.server()).open());
    assert!(
        error.is_unavailable() && error.to_string().contains("127.0.0.1"),
        "{error}"
    );

    let near = builder(dir.path(), redis.server())
        .start_offline(true)
        .open()
        .unwrap();
    assert!(near.get("k").unwrap_err().is_unavailable());
    redis.restart();
    redis.set("k", "v");
    wait_until("the server is found", || {
        near.get("k").is_ok_and(|value| value.is_some())
    });
}

#[test]
fn silent_server_is_unavailable() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let proxy = Proxy::to(&redis);
    proxy.freeze(true);
    let builder = builder(dir.path(), proxy.server()).connect_timeout(Duration::from_millis(200));
    let error = refusal(builder.open());
    assert!(error.is_unavailable(), "{error}");
}

// Its other nodes would not tell their changes.
#[test]
fn cluster_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start_with(&["--cluster-enabled", "yes"]);
    let error = refusal(builder(dir.path(), redis.server()).open());
    assert!(matches!(error, Error::Unsuitable { .. }), "{error}");
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[test]
fn missing_permission_is_refused() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.run(&[
        "ACL",
        "SETUSER",
        "poor",
        "on",
        ">p",
        "~*",
        "+@all",
        "-client|tracking",
    ]);
    let url = format!("redis://poor:p@127.0.0.1:{}/", redis.port);
    let server = Server::try_from(&*url).unwrap();
    let error = refusal(builder(dir.path(), server).open());
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("tracking"), "{error}");
}

// Nothing would prove that the connection lives, so no copy could be served.
#[test]
fn forbidden_ping_is_refused() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    redis.run(&["ACL", "SETUSER", "mute", "on", ">p", "~*", "+@all", "-ping"]);
    let url = format!("redis://mute:p@127.0.0.1:{}/", redis.port);
    let server = Server::try_from(&*url).unwrap();
    let error = refusal(builder(dir.path(), server).open());
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("ping"), "{error}");
}

// A prefix may be named as the flags of CLIENT TRACKINGINFO are.
#[test]
fn prefix_is_no_flag() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let near = builder(dir.path(), redis.server()).prefixes(["noloop"]);
    let near = near.open().unwrap();
    crate::wait_until_served(&near);
    redis.set("noloop:k", "v");
    crate::read_until_local(&near, "noloop:k", Some("v"));
}

#[test]
fn options_out_of_range_are_refused() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let begin = || builder(dir.path(), redis.server());
    let cases = [
        ("prefixes", begin().prefixes(["a", "b", "ab"])),
        ("window", begin().window(Duration::from_millis(1))),
        ("queue", begin().queue(0)),
        ("response_timeout", begin().response_timeout(Duration::ZERO)),
        ("connect_timeout", begin().connect_timeout(Duration::MAX)),
    ];
    for (option, builder) in cases {
        let error = refusal(builder.open());
        assert!(error.to_string().contains(option), "{option}: {error}");
    }
    let error = NearCache::open(dir.path().join("n"), "nonsense", crate::HOUR).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}
