//! Opens pages in a headless browser, and returns what it found.
//!
//! Knows how to start Chromium so that every request is recorded; not what the pages contain.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Limit for a browser that hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// What a browser found.
#[derive(Debug)]
pub(crate) struct Seen {
    /// For each page: its width and scroll width, and its charts by their anchors.
    pub(crate) frames: Value,
    /// Requests over the network, without the browser's own.
    pub(crate) asked: Vec<String>,
    /// Lines of the console.
    pub(crate) console: Vec<String>,
}

/// Shows pages in frames of a width in pixels. Returns `None`, and says so, if there is no browser;
/// if `CI` is set there must be one.
pub(crate) fn look(pages: &[String], width: u32) -> Option<Seen> {
    let browser = find()?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let served = (
        frames(pages.len(), width),
        pages.to_vec(),
        Arc::clone(&asked),
    );
    // Ends with the process of the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let served = served.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &served.0, &served.1, &served.2));
        }
    });
    let (shown, said) = run(
        &browser,
        &[
            // All requests of a page go through the server above, which records them.
            &format!("--proxy-server=http://{address}"),
            "--proxy-bypass-list=<-loopback>",
            "--enable-logging=stderr",
            "--dump-dom",
            "http://report.test/frames",
        ],
    );
    let (_, rest) = shown
        .split_once("<pre>")
        .unwrap_or_else(|| panic!("{shown}\n{said}"));
    let (frames, _) = rest.split_once("</pre>").unwrap();
    let console = said.lines().filter(|line| line.contains("CONSOLE"));
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    Some(Seen {
        frames: serde_json::from_str(frames).unwrap(),
        asked,
        console: console.map(str::to_owned).collect(),
    })
}

/// Prints a page, and returns the number of sheets.
pub(crate) fn print(page: &str) -> Option<usize> {
    let browser = find()?;
    let dir = tempfile::tempdir().unwrap();
    let (html, pdf) = (dir.path().join("page.html"), dir.path().join("page.pdf"));
    std::fs::write(&html, page).unwrap();
    let to = format!("--print-to-pdf={}", pdf.display());
    run(&browser, &[&to, &format!("file://{}", html.display())]);
    let bytes = std::fs::read(&pdf).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let sheets = text.matches("/Type /Page\n").count();
    Some(sheets)
}

fn find() -> Option<String> {
    const NAMES: [&str; 4] = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let is_there = |name: &&str| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let found = NAMES.into_iter().find(is_there).map(str::to_owned);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have Chromium");
        // Written to the descriptor, because the test runner captures what a passing test prints.
        let what = "NOT RUN: pages are looked at in Chromium only (apt-get install chromium)\n";
        std::io::stderr().write_all(what.as_bytes()).unwrap();
    }
    found
}

/// Runs the browser until it ends; returns its output and its error output.
fn run(browser: &str, arguments: &[&str]) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut child = Command::new(browser)
        .args([
            "--headless=new",
            "--disable-gpu",
            // Chromium as root has no sandbox, and shows only our own pages here.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ])
        .arg(format!(
            "--user-data-dir={}",
            dir.path().join("profile").display()
        ))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    (read(&out), read(&err))
}

/// A page that shows the others and measures them.
fn frames(count: usize, width: u32) -> String {
    let frames: String = (0..count)
        .map(|number| format!("<iframe src=\"/page/{number}\" style=\"width:{width}px;height:900px;border:0\"></iframe>"))
        .collect();
    format!(
        "<!DOCTYPE html><link rel=\"icon\" href=\"data:,\">{frames}<pre></pre><script>
onload = () => {{
  const seen = [...document.querySelectorAll('iframe')].map(frame => {{
    const page = frame.contentDocument, charts = {{}};
    for (const details of page.querySelectorAll('details')) details.open = true;
    for (const section of page.querySelectorAll('section[id]')) {{
      const chart = section.querySelector('[role=img]');
      if (!chart) continue;
      charts[section.id] = {{
        width: chart.getBoundingClientRect().width,
        shapes: chart.querySelectorAll('rect, g path').length,
      }};
    }}
    const root = page.documentElement;
    return {{ client: root.clientWidth, scroll: root.scrollWidth, charts }};
  }});
  document.querySelector('pre').textContent = JSON.stringify(seen);
}};
</script>"
    )
}

/// Answers a browser that uses this server as its proxy.
fn answer(mut stream: TcpStream, frames: &str, pages: &[String], asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    // Reads the rest of the request, or the browser would not read the answer.
    for line in lines {
        if line.is_ok_and(|line| line.is_empty()) {
            break;
        }
    }
    let target = first.split(' ').nth(1).unwrap_or("").to_owned();
    let path = target.strip_prefix("http://report.test").map(str::to_owned);
    let content = match path.as_deref() {
        Some("/frames") => Some(frames),
        Some(path) => path
            .strip_prefix("/page/")
            .and_then(|number| pages.get(number.parse::<usize>().ok()?))
            .map(String::as_str),
        None => None,
    };
    if !is_own_request(&target) {
        asked.lock().unwrap().push(path.unwrap_or(target));
    }
    let status = if content.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let content = content.unwrap_or("");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{content}",
        content.len()
    );
    let _ = stream.write_all(answer.as_bytes());
}

/// Whether a browser makes this request by itself, whatever page it shows.
fn is_own_request(target: &str) -> bool {
    let host = target.strip_prefix("http://").unwrap_or(target);
    let host = host.split(['/', ':']).next().unwrap_or("");
    let own = ["google.com", "googleapis.com", "gvt1.com", "gstatic.com"];
    own.iter().any(|domain| host.ends_with(domain))
}
