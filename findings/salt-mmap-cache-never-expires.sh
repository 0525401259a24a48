#!/usr/bin/env bash
# Salt: with `cache: mmap_cache`, what is stored with `expires=` never expires, without an error.
#
# Seen on: Salt 3008.5, its drivers localfs and mmap_cache, CPython 3.11.
#
# `salt.cache.Cache.store(bank, key, data, expires=60)` is documented for all drivers, and `clean_expired`
# removes what has expired. One expects a driver to honour it, or to refuse it. `Cache.store` passes
# `expires` to the driver; only if that raises TypeError, it stores the data once more, together with
# the deadline, and `Cache.fetch` looks at that. localfs takes no such argument, so it expires.
# mmap_cache has `store(bank, key, data, cachedir, **kwargs)`: it takes the deadline and drops it.
# `fetch` returns the data after any time, `list` names it, and `clean_expired`, which looks for stored
# deadlines, leaves it. `salt-run cache.migrate`, which moves from localfs to mmap_cache, makes what had
# a deadline eternal too.
#
# Why the obvious assumption is wrong: mmap_cache is documented as a drop-in replacement of localfs; the
# shared tests of drivers store nothing with a deadline; `**kwargs` looks like tolerance and is a promise
# here.
#
# Cost: banks whose entries are new names all the time, such as `tokens`, only grow, in an index of
# fixed size that then refuses stores; callers that rely on the deadline use old data. A driver of one's
# own must either name the parameter `expires` and keep it, or take no `**kwargs`.
set -euo pipefail
command -v python3 >/dev/null || { echo "needs python3 with venv"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" || { echo "needs python3 with venv"; exit 2; }
pip=("$dir/venv/bin/python" -m pip --quiet --disable-pip-version-check)
# Salt is not installed, as its own pins do not fit every machine; these are what its caches import.
"${pip[@]}" install distro==1.9.0 jinja2==3.1.6 looseversion==1.3.0 msgpack==1.2.4 packaging==26.4 \
    pyyaml==6.0.3 tornado==6.6.1 xxhash==3.8.2 || { echo "needs packages from PyPI"; exit 2; }
"${pip[@]}" download --no-deps --no-binary salt --dest "$dir" salt==3008.5 || { echo "needs PyPI"; exit 2; }
tar -xzf "$dir/salt-3008.5.tar.gz" -C "$dir"
cat >"$dir/expiry.py" <<'PYTHON'
import sys
import tempfile
import time

import salt.cache
import salt.config
import salt.runners.cache
import salt.version


def cache(directory, driver):
    opts = salt.config.DEFAULT_MASTER_OPTS.copy()
    opts.update(cachedir=directory, cache=driver, mmap_cache_size=1000)
    return salt.cache.factory(opts)


def state(found, name):
    found.clean_expired("tokens")
    value, listed = found.fetch("tokens", "key"), found.list("tokens")
    print(f"{name}: fetch {value}, list after clean_expired {listed}")
    return value == {"user": "ada"} and listed == ["key"]


print("Salt", salt.version.__version__)
files, mapped = (cache(tempfile.mkdtemp(), driver) for driver in ("localfs", "mmap_cache"))
for each in (files, mapped):
    each.store("tokens", "key", {"user": "ada"}, expires=1)
moved = tempfile.mkdtemp()
source = cache(moved, "localfs")
source.store("tokens", "key", {"user": "ada"}, expires=2)
salt.runners.cache.__opts__ = source.opts
print(salt.runners.cache.migrate().splitlines()[0])
time.sleep(3.1)
kept = (
    state(files, "localfs, 3 s after a life of 1 s"),
    state(mapped, "mmap_cache, 3 s after a life of 1 s"),
    state(cache(moved, "mmap_cache"), "mmap_cache, migrated, after a life of 2 s"),
)
sys.exit(0 if kept == (False, True, True) else 10)
PYTHON
code=0
PYTHONPATH=$dir/salt-3008.5 TMPDIR=$dir "$dir/venv/bin/python" -W ignore "$dir/expiry.py" || code=$?
case $code in
0) echo "mmap_cache keeps what localfs lets expire" ;;
10)
    echo "changed: the two drivers agree on what has expired"
    exit 1
    ;;
*)
    echo "Salt's caches could not be run"
    exit 2
    ;;
esac
