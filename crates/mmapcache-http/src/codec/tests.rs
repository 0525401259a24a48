//! Tests of `codec`.

use std::time::{Duration, SystemTime};

use http_cache_semantics::CacheOptions;

use super::*;

/// An entry in format 1. Another encoder of MessagePack made it of the field names, with those of the
/// policy in another order than its type has them.
const GOLDEN: &[u8] = include_bytes!("../../tests/http/entry-1.bin");

fn policy(etag: &str) -> CachePolicy {
    let request = http::Request::get("http://example.test/a?b=c")
        .header("accept-language", "de")
        .body(())
        .expect("a request");
    let response = http::Response::builder()
        .header("etag", etag)
        .header("vary", "accept-language")
        .header("cache-control", "public, max-age=600")
        .body(())
        .expect("a response");
    let options = CacheOptions {
        shared: false,
        ..CacheOptions::default()
    };
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    CachePolicy::new_options(&request, &response, received, options)
}

fn response(body: &[u8]) -> HttpResponse {
    let mut headers = HttpHeaders::new();
    for (name, value) in [("etag", "\"1\""), ("x-two", "a"), ("x-two", "b")] {
        headers.append(name.to_owned(), value.to_owned());
    }
    HttpResponse {
        body: body.to_vec(),
        headers,
        status: 203,
        url: url_parse("http://example.test/a?b=c").expect("a URL"),
        version: HttpVersion::H2,
        metadata: Some(vec![1, 2, 255]),
    }
}

fn encoded() -> Vec<u8> {
    let mut bytes = b"a body".to_vec();
    append(
        &mut bytes,
        &response(b""),
        &policy("\"1\""),
        Some("key".to_owned()),
        None,
    )
    .expect("bytes");
    bytes
}

// What a released version stored is read by all later ones, in whatever order http-cache and its policy keep their
// fields. If this fails, and not for a reason that a new format number is for, mend the decoder.
#[test]
fn format_one_is_read() {
    for bytes in [GOLDEN.to_vec(), encoded()] {
        let entry = decode(bytes).expect("an entry");
        let response = entry.response;
        assert_eq!(response.body, b"a body");
        assert_eq!((response.status, response.version), (203, HttpVersion::H2));
        assert_eq!(response.url.as_str(), "http://example.test/a?b=c");
        assert_eq!(response.metadata, Some(vec![1, 2, 255]));
        let mut headers: Vec<_> = response.headers.into_iter().collect();
        headers.sort();
        let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers,
            [("etag", "\"1\""), ("x-two", "a"), ("x-two", "b")].map(text)
        );
        assert_eq!(entry.key.as_deref(), Some("key"));
        assert_eq!(entry.body, None);
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let later = received + Duration::from_secs(100);
        assert_eq!(entry.policy.time_to_live(later), Duration::from_secs(500));
        // The rest of a policy is private; this shows all of it.
        assert_eq!(sorted(&entry.policy), sorted(&policy("\"1\"")));
    }
}

/// Returns what `Debug` writes, without the order of its maps.
fn sorted(policy: &CachePolicy) -> Vec<String> {
    let mut lines: Vec<_> = format!("{policy:#?}").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn body_record_comes_back() {
    let record = BodyRecord::of(b"a large body");
    let mut bytes = Vec::new();
    append(
        &mut bytes,
        &response(b"not here"),
        &policy("\"1\""),
        None,
        Some(record),
    )
    .expect("bytes");
    let entry = decode(bytes).expect("an entry");
    assert_eq!((entry.body, entry.key), (Some(record), None));
    assert_eq!(entry.response.body, b"");
    assert_eq!(
        record.digest(),
        xxhash_rust::xxh3::xxh3_128(b"a large body")
    );
}

#[test]
fn other_format_is_told_apart() {
    let mut bytes = encoded();
    let at = bytes.len() - 12;
    bytes[at] = 2;
    assert_eq!(
        decode(bytes).expect_err("another format"),
        Unreadable::OtherFormat(2)
    );
    assert_eq!(
        decode(b"a body".to_vec()).expect_err("foreign"),
        Unreadable::Foreign
    );
}

// Nothing that a cache can have under a key makes a reader panic, or reserve what is not there.
#[test]
fn cut_entries_are_unreadable() {
    let bytes = encoded();
    for len in 0..bytes.len() {
        assert!(
            decode(bytes[..len].to_vec()).is_err(),
            "the first {len} bytes"
        );
    }
    // Without the body, an entry is whole, but has another body.
    for begin in b"a body".len() + 1..bytes.len() {
        assert!(
            decode(bytes[begin..].to_vec()).is_err(),
            "from byte {begin}"
        );
    }
}

#[test]
fn changed_bytes_never_panic() {
    let bytes = encoded();
    let mut unreadable = 0;
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xFF] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            unreadable += u32::from(decode(changed).is_err());
        }
    }
    assert!(unreadable > 200, "{unreadable}");
}

// A field that a later version adds is no reason to lose the entry.
#[test]
fn unknown_fields_are_ignored() {
    let mut bytes = encoded();
    let (before, _, len) = split_trailer(&bytes).expect("a trailer");
    let (head_at, trailer_at) = (before.len() - len, before.len());
    // A map of up to 15 fields has their number in its first byte.
    let mut head = bytes[head_at..trailer_at].to_vec();
    assert_eq!(head[0] & 0xF0, 0x80);
    head[0] += 1;
    head.extend_from_slice(&rmp_serde::to_vec("later").expect("a name"));
    head.extend_from_slice(&rmp_serde::to_vec(&[1, 2]).expect("a value"));
    let mut trailer = bytes.split_off(trailer_at);
    trailer[..4].copy_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.truncate(head_at);
    let bytes = [bytes, head, trailer].concat();
    assert_eq!(decode(bytes).expect("an entry").response.status, 203);
}
