#!/usr/bin/env python3
"""Runs the tests that frameworks have for their own cache backends against ours.

    python tests/foreign/backends.py [SUITE ...]     by default all: those in SUITES below

The interpreter needs this package and both `../requirements-backends.txt` and
`backends_requirements.txt`, as `pip install -r` installs them. The source packages with the tests
come from the package index, into a temporary folder; nothing of them is in this repository.

`SUITE_exceptions.txt` lists the tests that cannot pass, each with the reason. A suite fails if a
test fails that is not listed, and also if a listed one passes or is not there any more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent


def source_package(name: str, version: str, folder: Path) -> Path:
    """Downloads and unpacks a source package; returns its folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", name, "--dest", str(folder), f"{name}=={version}"]
    subprocess.run(command, check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def run(command: list[str], folder: Path, **variables: str) -> None:
    """Runs Python in `folder`; raises if it fails."""
    paths = [os.environ.get("PYTHONPATH", ""), variables.pop("PYTHONPATH", "")]
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment["FOREIGN_HERE"] = str(HERE)
    subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True)


def pytest_command(suite: str, *arguments: str) -> list[str]:
    """Returns the command for tests whose exceptions are listed."""
    plugins = ["-p", "foreign_exceptions", "-p", "no:cacheprovider"]
    return ["-m", "pytest", "-q", *plugins, "--exceptions", f"{suite}_exceptions.txt", *arguments]


def run_dogpile(work: Path) -> None:
    # The suites are in the installed package, made for other backends.
    (work / "test_dogpile_suites.py").write_text((HERE / "dogpile_tests.py").read_text())
    run(pytest_command("dogpile", "test_dogpile_suites.py"), work, PYTHONPATH=str(HERE))


def run_django(work: Path) -> None:
    tests = source_package("django", "5.2.19", work) / "tests"
    label = tests / "mmapcache_backend"
    label.mkdir()
    (label / "__init__.py").touch()
    (label / "tests.py").write_text((HERE / "django_tests.py").read_text())
    # One process: the classes share files, as the tests of Django's file backend do.
    # The second label is there for its application, whose models the tests use.
    labels = ["mmapcache_backend", "cache.tests.DefaultNonExpiringCacheKeyTests"]
    run(["runtests.py", *labels, "--parallel=1"], tests)


def run_cachelib(work: Path) -> None:
    tests = source_package("cachelib", "0.17.0", work) / "tests"
    (tests / "test_mmapcache.py").write_text((HERE / "cachelib_tests.py").read_text())
    run(pytest_command("cachelib", "test_mmapcache.py"), tests, PYTHONPATH=str(HERE))


def run_flask_caching(work: Path) -> None:
    tests = source_package("flask-caching", "2.5.1", work) / "tests"
    with open(tests / "conftest.py", "a") as conftest:
        conftest.write((HERE / "flask_caching_tests.py").read_text())
    # The other files test backends, or what has no backend.
    names = ("cache", "memoize", "view", "templates", "subclassing", "signals")
    settings = ["-c", os.devnull, "--rootdir", "."]
    files = [f"test_{name}.py" for name in names]
    run(pytest_command("flask_caching", *settings, *files), tests, PYTHONPATH=str(HERE))


def run_requests_cache(work: Path) -> None:
    folder = source_package("requests-cache", "1.3.3", work)
    test = "tests/integration/test_mmapcache.py"
    (folder / test).write_text((HERE / "requests_cache_tests.py").read_text())
    # The HTTP server that the tests ask, in this process instead of a container.
    arguments = pytest_command("requests_cache", "-c", os.devnull, "--rootdir", ".", test)
    run(arguments, folder, PYTHONPATH=str(HERE), USE_PYTEST_HTTPBIN="true")


def run_persidict(work: Path) -> None:
    folder = source_package("persidict", "0.309.0", work)
    tests = ["core_behavior", "entity_tag_operations", "subdictionary_operations"]
    tests += ["timestamp_behavior", "key_handling"]
    arguments = ["-p", "persidict_tests", *(f"tests/{name}" for name in tests)]
    settings = ["-c", os.devnull, "--rootdir", "."]
    run(pytest_command("persidict", *settings, *arguments), folder, PYTHONPATH=str(HERE))


SUITES: dict[str, Callable[[Path], None]] = {
    "dogpile": run_dogpile,
    "django": run_django,
    "cachelib": run_cachelib,
    "flask_caching": run_flask_caching,
    "requests_cache": run_requests_cache,
    "persidict": run_persidict,
}


def main() -> None:
    failed = []
    for name in sys.argv[1:] or SUITES:
        with tempfile.TemporaryDirectory() as work:
            try:
                SUITES[name](Path(work))
            except subprocess.CalledProcessError:
                failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
