//! Hands the statistics of a cache to the crate `prometheus-client`: a collector that reads them at each
//! scrape.
//!
//!     cargo run --example prometheus

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use mmapcache::{Cache, MetricKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Register it in one of the processes that share the cache.
#[derive(Debug)]
struct CacheCollector(Arc<Cache>);

impl Collector for CacheCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A scrape without the figures is better than none.
        let Ok(stats) = self.0.stats() else {
            return Ok(());
        };
        let figures: Vec<_> = stats.metrics().collect();
        for family in figures.chunk_by(|one, next| one.name == next.name) {
            // The encoder appends `_total` to counters itself.
            let name = family[0].name.trim_end_matches("_total");
            let values: Vec<Box<dyn EncodeMetric>> = family
                .iter()
                .map(|figure| match figure.kind {
                    MetricKind::Counter => boxed(ConstCounter::new(figure.value)),
                    _ => boxed(ConstGauge::new(figure.value as i64)),
                })
                .collect();
            let kind = values[0].metric_type();
            let mut encoder = encoder.encode_descriptor(name, family[0].help, None, kind)?;
            for (figure, value) in family.iter().zip(values) {
                encode_one(&mut encoder, figure.labels, &*value)?;
            }
        }
        Ok(())
    }
}

fn boxed(metric: impl EncodeMetric + 'static) -> Box<dyn EncodeMetric> {
    Box::new(metric)
}

fn encode_one(
    encoder: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    value: &dyn EncodeMetric,
) -> fmt::Result {
    value.encode(encoder.encode_family(&labels)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let cache = Arc::new(Cache::open(dir.path().join("cache"))?);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(CacheCollector(Arc::clone(&cache))));
    cache.insert("key", "value")?;
    cache.get("key")?;
    cache.get("other")?;

    let mut page = String::new();
    encode(&mut page, &registry)?;
    print!("{page}");
    assert!(page.contains("\nmmapcache_cache_hits_total{kind=\"fresh\"} 1\n"));
    assert!(page.contains("\nmmapcache_cache_misses_total 1\n"));
    Ok(())
}
