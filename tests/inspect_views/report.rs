//! `report`: the page and the numbers on it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use mmapcache::{MmapCache, Options};
use serde_json::Value;

use crate::browser;
use crate::program::{fill, flip, json, place, program, run, stderr, stdout, tiny};

/// The charts by their anchors.
const CHARTS: [&str; 6] = [
    "occupancy",
    "probes",
    "key_bytes",
    "value_bytes",
    "ages",
    "segments",
];
/// Most bytes of a page.
const PAGE: usize = 300 << 10;

/// Returns the page and the numbers of a cache.
#[track_caller]
fn report(cache: &Path, expected: i32) -> (String, Value) {
    let page = run(
        expected,
        [OsStr::new("report"), cache.as_ref(), "--html=-".as_ref()],
    );
    let numbers = run(
        expected,
        [OsStr::new("report"), cache.as_ref(), "--json".as_ref()],
    );
    (stdout(&page), json(&numbers))
}

/// Adds up all of a chart's columns, or of the map's cells.
fn sum(columns: &Value, name: &str) -> u64 {
    let columns = columns.as_array().unwrap();
    columns
        .iter()
        .map(|column| column[name].as_u64().unwrap())
        .sum()
}

#[test]
fn report_matches_the_cache() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 2_000);
    let stats = cache.stats().unwrap();
    let (page, numbers) = report(&path, 0);
    assert_eq!(numbers["verdict"], "fine");
    let census = &numbers["census"];
    assert_eq!(census["entries"], stats.occupied);
    assert_eq!(census["deleted"], stats.deleted);
    assert_eq!(census["live_bytes"], stats.live_bytes);
    let charts = &census["charts"];
    for name in ["probes", "key_bytes", "value_bytes", "ages"] {
        assert_eq!(sum(&charts[name], "entries"), stats.occupied, "{name}");
    }
    assert_eq!(sum(&charts["segments"], "live"), stats.live_bytes);
    let cells = &charts["occupancy"]["cells"];
    assert_eq!(sum(cells, "occupied"), stats.occupied);
    assert_eq!(sum(cells, "deleted"), stats.deleted);
    assert_eq!(sum(cells, "slots"), census["slots"].as_u64().unwrap());
    let disk = cache.disk_usage().unwrap();
    assert_eq!(numbers["disk"]["heap"], disk.heap);
    for text in ["<dd>1,714</dd>", "286", "No problems"] {
        assert!(page.contains(text), "{text}");
    }
}

// Every chart is on the page with its title, its axes and a table.
#[test]
fn page_has_every_labelled_chart() {
    let (_dir, path) = place();
    fill(&tiny(), &path, 2_000);
    let (page, numbers) = report(&path, 0);
    for name in CHARTS {
        let (_, rest) = page.split_once(&format!("id=\"{name}\">")).unwrap();
        let (chart, _) = rest.split_once("</section>").unwrap();
        assert!(chart.contains("role=\"img\" aria-labelledby=\""), "{name}");
        let columns = &numbers["census"]["charts"][name];
        let columns = columns.get("cells").unwrap_or(columns).as_array().unwrap();
        assert_eq!(
            chart.matches("<th scope=\"row\">").count(),
            columns.len(),
            "{name}"
        );
        if name != "occupancy" {
            assert!(chart.contains("</title><desc id=") && chart.contains("class=\"axis\""));
            assert_eq!(
                chart.matches("class=\"what\"").count(),
                2,
                "{name}: named axes"
            );
            let drawn = chart.matches("<g><title>").count();
            assert_eq!(drawn, columns.len(), "{name}");
        }
    }
    let dead = numbers["census"]["charts"]["segments"][0]["dead"].as_u64();
    assert!(dead.is_some());
}

// Thousands of regions are combined, and the page stays small.
#[test]
fn large_cache_page_stays_small() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 30_000);
    let (page, numbers) = report(&path, 0);
    let map = &numbers["census"]["charts"]["occupancy"];
    let cells = map["cells"].as_array().unwrap();
    assert!(map["regions_per_cell"].as_u64().unwrap() > 1);
    assert!((300..=720).contains(&cells.len()), "{}", cells.len());
    assert_eq!(sum(&map["cells"], "occupied"), cache.len());
    let segments = numbers["census"]["charts"]["segments"].as_array().unwrap();
    assert!((10..=40).contains(&segments.len()), "{}", segments.len());
    assert!(page.len() < PAGE, "{} bytes", page.len());
}

#[test]
fn markup_in_paths_stays_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut name = b"<title><script>alert(1)<".to_vec();
    name.extend(b"script>&amp;\"' onload=\"x\xff\xfe\n\x1b[31m\xe2\x80\xae<img src=x>");
    let path = dir.path().join(OsString::from_vec(name));
    fill(&Options::new(), &path, 50);
    let (page, _) = report(&path, 0);
    // The problem of a refused cache names the path as well.
    flip(&path, 57);
    let (damaged, _) = report(&path, 1);
    for page in [page, damaged] {
        assert!(
            !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
        assert!(
            !page.contains("\" onload") && !page.contains('\u{1b}'),
            "{page}"
        );
        assert!(!page.contains('\u{202e}'));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;script&gt;&amp;amp;&quot;&#39; onload"));
        assert!(page.contains("x\\xff\\xfe\\u{a}\\u{1b}[31m\\u{202e}&lt;img"));
        let head = page.split("<style>").next().unwrap();
        assert_eq!(head.matches("<title>").count(), 1, "{head}");
    }
}

// A cache that is refused has a page that says why, and shows the rest.
#[test]
fn refused_cache_gets_explaining_page() {
    let (_dir, path) = place();
    fill(&tiny(), &path, 500);
    flip(&path, 57);
    let (page, numbers) = report(&path, 1);
    assert_eq!(numbers["verdict"], "wrong");
    assert!(numbers["refused"].as_str().unwrap().contains("checksum"));
    assert!(page.contains("This cache cannot be opened"), "{page}");
    assert!(page.contains("checksum"), "{page}");
    // The index can be counted nevertheless.
    assert_eq!(numbers["census"]["entries"], 428);
    for name in CHARTS {
        assert!(page.contains(&format!("id=\"{name}\"")), "{name}");
    }
}

// A file that is no cache has a page without charts; a missing file has none.
#[test]
fn only_existing_files_get_pages() {
    let (dir, path) = place();
    fs::write(
        &path,
        [b"MMCINDEX\x02\0\0\0".as_slice(), &[0xff; 5000]].concat(),
    )
    .unwrap();
    let (page, numbers) = report(&path, 1);
    assert!(page.contains("There are no charts: "), "{page}");
    assert!(numbers["census"]["failed"].is_string());
    assert!(!numbers["implausible"].as_array().unwrap().is_empty());
    let file = dir.path().join("page.html");
    let absent = dir.path().join("absent");
    let output = run(
        2,
        [
            OsStr::new("report"),
            absent.as_ref(),
            "--html".as_ref(),
            file.as_ref(),
        ],
    );
    assert!(stderr(&output).contains("absent"), "{}", stderr(&output));
    assert!(!file.exists());
}

#[test]
fn live_cache_is_reported_consistent() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 500);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let key = format!("key {}", turn % 900);
                match turn % 3 {
                    0 => cache.delete(key.as_bytes()).map(drop).unwrap(),
                    _ => cache.put(key.as_bytes(), &[7; 200]).map(drop).unwrap(),
                }
                turn = turn.wrapping_add(1);
            }
        });
        for _ in 0..15 {
            let output = program()
                .args([OsStr::new("report"), path.as_ref(), "--json".as_ref()])
                .output()
                .unwrap();
            let verdict = json(&output)["verdict"].clone();
            if output.status.code() != Some(0) || verdict == "wrong" {
                stop.store(true, Ordering::Relaxed);
                panic!("{}", stdout(&output));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn empty_cache_has_a_page() {
    let (_dir, path) = place();
    drop(MmapCache::open(&path).unwrap());
    let (page, numbers) = report(&path, 0);
    assert_eq!(numbers["census"]["entries"], 0);
    assert_eq!(page.matches("There is nothing to draw.").count(), 5);
    assert!(page.contains("<dt>Last write</dt><dd>never</dd>"), "{page}");
}

// Only a report, or an empty file, is replaced without `--force`.
#[test]
fn only_reports_are_replaced_unforced() {
    let (dir, path) = place();
    fill(&Options::new(), &path, 10);
    let file = dir.path().join("page.html");
    let write = |expected, more: &[&str]| {
        let fixed = [
            OsStr::new("report"),
            path.as_ref(),
            "--html".as_ref(),
            file.as_ref(),
        ];
        run(
            expected,
            fixed.into_iter().chain(more.iter().map(OsStr::new)),
        )
    };
    write(0, &[]);
    let first = fs::read(&file).unwrap();
    fs::write(&file, &first[..first.len() / 2]).unwrap();
    write(0, &[]);
    assert!(fs::read_to_string(&file).unwrap().ends_with("</html>\n"));
    fs::write(&file, "").unwrap();
    write(0, &[]);
    fs::write(&file, "a letter").unwrap();
    assert!(stderr(&write(2, &[])).contains("--force"));
    assert_eq!(fs::read(&file).unwrap(), b"a letter");
    write(0, &["--force"]);
    assert!(fs::read_to_string(&file).unwrap().ends_with("</html>\n"));
    // Anything but a regular file stays, and so does the cache.
    fs::remove_file(&file).unwrap();
    symlink(&path, &file).unwrap();
    write(2, &["--force"]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    write(2, &["--force"]);
    run(
        2,
        [
            OsStr::new("report"),
            path.as_ref(),
            "--html".as_ref(),
            path.as_ref(),
        ],
    );
    assert_eq!(MmapCache::open(&path).unwrap().len(), 8);
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.to_string_lossy().starts_with("cache"))
        .collect();
    assert_eq!(names, ["page.html"], "nothing preliminary is left");
}

// A page that cannot be written whole leaves the previous file.
#[test]
fn incomplete_page_keeps_old_file() {
    let (dir, path) = place();
    fill(&Options::new(), &path, 10);
    let file = dir.path().join("page.html");
    run(
        0,
        [
            OsStr::new("report"),
            path.as_ref(),
            "--html".as_ref(),
            file.as_ref(),
        ],
    );
    let first = fs::read(&file).unwrap();
    // This shell's children may write 4 KiB; a page is longer.
    let limited = "ulimit -f 4; trap '' XFSZ; exec \"$0\" report \"$1\" --html \"$2\"";
    let output = Command::new("bash")
        .args(["-c", limited, env!("CARGO_BIN_EXE_mmapcache-inspect")])
        .args([&path, &file])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(fs::read(&file).unwrap(), first);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        5,
        "the cache's files and the page"
    );
}

// The caller must request at least one of them.
#[test]
fn page_and_numbers_need_separate_outputs() {
    let (dir, path) = place();
    fill(&Options::new(), &path, 10);
    let cache = path.to_str().unwrap();
    run(2, ["report", cache]);
    run(2, ["report", cache, "--html", "-", "--json"]);
    let file = dir.path().join("page.html");
    let both = run(
        0,
        ["report", cache, "--json", "--html", file.to_str().unwrap()],
    );
    assert_eq!(json(&both)["census"]["entries"], 8);
    assert!(fs::read_to_string(&file).unwrap().ends_with("</html>\n"));
}

// A browser shows the page on a telephone and on paper, and makes no request.
#[test]
fn browser_shows_page_without_requests() {
    let (_dir, path) = place();
    let cache = fill(&tiny(), &path, 3_000);
    let long = path.with_file_name("n".repeat(200));
    fill(&tiny(), &long, 300);
    let (sound, _) = report(&path, 0);
    let (named, _) = report(&long, 0);
    drop(cache);
    flip(&path, 57);
    let (damaged, _) = report(&path, 1);
    let (_empty_dir, empty) = place();
    drop(MmapCache::open(&empty).unwrap());
    let (empty, _) = report(&empty, 0);
    let pages = [sound, damaged, empty, named];
    let Some(seen) = browser::look(&pages, 360) else {
        return;
    };
    assert_eq!(
        seen.asked,
        ["/frames", "/page/0", "/page/1", "/page/2", "/page/3"]
    );
    assert!(seen.console.is_empty(), "{:?}", seen.console);
    for (number, frame) in seen.frames.as_array().unwrap().iter().enumerate() {
        assert_eq!(frame["client"], 360, "page {number}");
        assert!(
            frame["scroll"].as_u64() <= Some(360),
            "page {number}: {frame}"
        );
        let empty = number == 2;
        for name in CHARTS
            .into_iter()
            .filter(|name| !empty || *name == "occupancy")
        {
            let chart = &frame["charts"][name];
            assert!(
                chart["width"].as_f64() > Some(100.0),
                "page {number}, {name}: {frame}"
            );
            assert!(
                chart["shapes"].as_u64() > Some(0),
                "page {number}, {name}: {frame}"
            );
        }
    }
    let pages = browser::print(&pages[0]).unwrap();
    assert!((2..=6).contains(&pages), "{pages} pages on paper");
}
