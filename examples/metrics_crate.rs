//! Hands the statistics of a cache to the crate `metrics`, and so to whatever exporter the program has
//! installed. (Here it is a recorder that prints the counters.)
//!
//!     cargo run --example metrics_crate

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use mmapcache::{Cache, MetricKind};

/// Hands out all figures. Call it at each scrape, or every few seconds, in one of the processes.
fn report(cache: &Cache) -> mmapcache::Result<()> {
    for figure in cache.stats()?.metrics() {
        match figure.kind {
            // The counts go on from run to run.
            MetricKind::Counter => {
                metrics::describe_counter!(figure.name, figure.help);
                metrics::counter!(figure.name, figure.labels).absolute(figure.value);
            }
            _ => {
                metrics::describe_gauge!(figure.name, figure.help);
                metrics::gauge!(figure.name, figure.labels).set(figure.value as f64);
            }
        }
    }
    Ok(())
}

/// A recorder with the counters that an exporter would send.
#[derive(Default)]
struct Page(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Page {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut page = self.0.lock().expect("no thread panicked");
        let labels = key.labels().map(|label| label.value());
        let name = labels.fold(key.name().to_owned(), |name, label| name + " " + label);
        Counter::from_arc(Arc::clone(page.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let cache = Cache::open(dir.path().join("cache"))?;
    cache.insert("key", "value")?;
    cache.get("key")?;
    cache.get("other")?;

    let page = Page::default();
    metrics::with_local_recorder(&page, || report(&cache))?;
    let page = page.0.into_inner()?;
    for (name, value) in &page {
        println!("{name}: {}", value.load(Ordering::Relaxed));
    }
    let hits = &page["mmapcache_cache_hits_total fresh"];
    assert_eq!(hits.load(Ordering::Relaxed), 1);
    Ok(())
}
