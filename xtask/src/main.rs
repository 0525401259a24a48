//! Runs the tasks of this repository: `cargo xtask TASK [ARGUMENT...]`, from its root.
//!
//! A task is a function that runs other programs, mainly cargo, and prints each command line before
//! it runs it. CI, the forge's workflow and the documents use these names.

mod checks;
mod ci;
mod fuzz;
mod measure;
mod run;

use std::path::Path;
use std::process::ExitCode;

use run::{Result, cargo, run};

const TASKS: &str = "\
Tasks, each with the arguments that it takes:

  test [ARG...]               all tests, in debug, with every feature; arguments go to cargo test
  ci                          everything that CI asks of a change, with the time of each step
  lint                        formatting and clippy, of every package here
  adapters                    tests, formatting, clippy and documentation of the packages in crates/
  python [ARG...]             the Python package: its tests, formatting and types; arguments go to pytest
  python-foreign [SUITE...]   the tests of other packages, after `python`: diskcache, salt, backends
  docs                        documentation without warnings, here and as docs.rs makes it
  loom [ARG...]               interleavings under loom; arguments go to the test program
  fuzz [SECONDS [TARGET...]]  fuzz targets, until one finds something (1,800 seconds each)
  soak [NAME...]              the long forms of tests: lib, or files of tests/ by name
  bench [NAME [ARG...]]       a benchmark, `ratio` if not named; `dict` measures beside the Python
                              package persidict, `inspect` the program beside `cat`
  compare [ARG...]            the comparison with other stores; arguments go to cargo run
  compare goals [writing]     the goals for reading or for writing, or those that `--only-goal` names
  compare caches [ARG...]     the comparison of `Cache` with other caches; installs diskcache for it
  platforms                   what compiles where, and the one error elsewhere
  features                    each feature builds alone, and the engine without any
  msrv                        the published library and program, with the minimum Rust version
  minimal-versions            the lower bounds of dependencies are true (needs a nightly)
  deny                        licences, advisories, duplicates and sources of dependencies
  package                     packs and unpacks what is published: target/package
";

fn task(name: &str, arguments: &[String]) -> Result {
    match (name, arguments) {
        ("test", _) => run(cargo("test --all-features").args(arguments)),
        ("loom", _) => checks::loom(arguments),
        ("fuzz", _) => fuzz::fuzz(arguments),
        ("soak", _) => measure::soak(arguments),
        ("bench", _) => measure::bench(arguments),
        ("python", _) => checks::python(arguments),
        ("python-foreign", _) => checks::python_foreign(arguments),
        ("compare", _) => measure::compare(arguments),
        ("ci", []) => ci::ci(),
        ("lint", []) => checks::lint(),
        ("adapters", []) => checks::adapters(),
        ("docs", []) => checks::docs(),
        ("platforms", []) => checks::platforms(),
        ("features", []) => checks::features(),
        ("msrv", []) => checks::msrv(),
        ("minimal-versions", []) => checks::minimal_versions(),
        ("deny", []) => checks::deny(),
        ("package", []) => checks::package(),
        (_, []) => Err(format!("there is no task `{name}`\n\n{TASKS}")),
        _ => Err(format!("`{name}` takes no arguments\n\n{TASKS}")),
    }
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let done = std::env::set_current_dir(root.expect("the folder of a package has a parent"))
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let mut arguments = std::env::args().skip(1);
            let name = arguments
                .next()
                .ok_or_else(|| format!("name a task\n\n{TASKS}"))?;
            task(&name, &arguments.collect::<Vec<_>>())
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
