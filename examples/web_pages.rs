//! Web pages that are made from articles: each page has the tag of its article, so a change of the article
//! ends all its pages at once, in every process.
//!
//!     cargo run --example web_pages

use std::cell::Cell;
use std::error::Error;
use std::time::Duration;

use mmapcache::{Cache, ComputeError, InsertOptions};

/// The title of an article, which an editor changes while pages are made; and pages made so far.
struct Site {
    title: Cell<&'static str>,
    made: Cell<u32>,
}

impl Site {
    /// Takes the place of templates and queries.
    fn make(&self, path: &str) -> String {
        self.made.set(self.made.get() + 1);
        format!("{path}: {}", self.title.get())
    }

    /// Returns a page. The entry is in the tag of its article and in the namespace of its template.
    fn page(&self, cache: &Cache, path: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let life = InsertOptions::new()
            .ttl(Duration::from_secs(24 * 3_600))
            .tag("article:7")
            .namespace("template:2");
        match cache.get_or_insert_with(path, life, || self.make(path)) {
            Ok(page) => Ok(page.value),
            // A full disk, for example: the page is there all the same.
            Err(ComputeError::NotStored { value, .. }) => Ok(value),
            Err(error) => Err(error.into()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a server would use a directory in /var/cache
    let cache = Cache::open(dir.path().join("pages"))?;
    let site = Site {
        title: Cell::new("Cats"),
        made: Cell::new(0),
    };
    let paths = ["/7/page", "/7/print", "/7/feed"];
    for _ in 0..100 {
        for path in paths {
            site.page(&cache, path)?;
        }
    }
    assert_eq!(site.made.get(), 3);

    // After the change of what the pages are made from, not before. A page that was begun before it and
    // is ready after it is returned to its caller, and not stored.
    site.title.set("Dogs");
    cache.invalidate_tag("article:7")?;
    assert_eq!(site.page(&cache, "/7/feed")?, b"/7/feed: Dogs");

    // A new template: all pages of all articles.
    cache.invalidate_namespace("template:2")?;
    site.page(&cache, "/7/feed")?;
    println!("{} pages made", site.made.get());
    assert_eq!(site.made.get(), 5);
    Ok(())
}
