//! An origin on loopback, clients with a cache, and responses to store. Calls the crate's public
//! interface only.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http_cache_reqwest::{Cache, CacheMode, HttpCache, HttpCacheOptions};
use http_cache_semantics::CachePolicy;
use mmapcache_http::MmapManager;
use mmapcache_http::http_cache::{HttpHeaders, HttpResponse, HttpVersion, url_parse};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

/// A server that answers by a closure and remembers what it was asked.
pub(crate) struct Origin {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Parts>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start(
        answer: impl Fn(&Parts) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let handler = move |request: http::Request<Body>| {
            let (parts, _) = request.into_parts();
            let response = answer(&parts);
            log.lock().expect("the log").push(parts);
            async move { response }
        };
        let server = axum::serve(listener, Router::new().fallback(handler));
        let server = tokio::spawn(async move { server.await.expect("a server") });
        Self { url, seen, server }
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().expect("the log").len()
    }

    /// A header of the last request, "" if it had none.
    pub(crate) fn last_header(&self, name: &str) -> String {
        let seen = self.seen.lock().expect("the log");
        let last = seen.last().expect("a request");
        let value = last
            .headers
            .get(name)
            .map(|value| value.to_str().expect("text"));
        value.unwrap_or_default().to_owned()
    }

    /// Closes the port. A client that has a connection keeps it.
    pub(crate) async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

/// An origin's answer with these headers.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).expect("a response")
}

pub(crate) fn client(manager: MmapManager) -> ClientWithMiddleware {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    ClientBuilder::new(client)
        .with(Cache(HttpCache {
            mode: CacheMode::Default,
            manager,
            options: HttpCacheOptions::default(),
        }))
        .build()
}

/// What a client got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    /// `HIT` if the cache answered.
    pub(crate) cache: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }
}

pub(crate) async fn get(client: &ClientWithMiddleware, url: &str) -> Got {
    get_with(client, url, &[]).await
}

pub(crate) async fn get_with(
    client: &ClientWithMiddleware,
    url: &str,
    headers: &[(&'static str, &str)],
) -> Got {
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("a response");
    let headers = response.headers().clone();
    let cache = headers
        .get("x-cache")
        .map_or("", |value| value.to_str().expect("text"));
    Got {
        status: response.status().as_u16(),
        cache: cache.to_owned(),
        headers: headers.clone(),
        body: response.bytes().await.expect("a body").to_vec(),
    }
}

/// A response to `GET http://example.test/` with these headers, as http-cache gives it to a manager.
pub(crate) fn response(headers: &[(&str, &str)], body: Vec<u8>) -> (HttpResponse, CachePolicy) {
    let mut of_response = HttpHeaders::new();
    let mut parts = http::Response::new(()).into_parts().0;
    for (name, value) in headers {
        of_response.append((*name).to_owned(), (*value).to_owned());
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        parts.headers.append(name, value.parse().expect("a value"));
    }
    let request = http::Request::get("http://example.test/")
        .body(())
        .expect("a request");
    let policy = CachePolicy::new_options(&request, &parts, SystemTime::now(), Default::default());
    let response = HttpResponse {
        body,
        headers: of_response,
        status: 200,
        url: url_parse("http://example.test/").expect("a URL"),
        version: HttpVersion::Http11,
        metadata: None,
    };
    (response, policy)
}
