//! The native module of the Python package `mmapcache`: the crate's types as Python classes.
//!
//! Table of contents. `map`, `cache`, `store` and `labels` are the classes, each with its iterators and
//! writers in the folder of its name. They share `handle`, which opens and closes; `open_options` and
//! `insert_terms`, which read arguments; `waiting`, which lets signals end a wait; `thread_writer`, which
//! keeps a writer in its thread; `errors` and `reports`, which make exceptions and dictionaries.

mod bytes_like;
mod cache;
mod decision;
mod errors;
mod handle;
mod insert_terms;
mod keywords;
mod labels;
mod listing;
mod map;
mod open_options;
mod pairs;
mod read_buffer;
mod repair;
mod reports;
mod seconds;
mod sentinel;
mod store;
mod thread_writer;
mod waiting;

use pyo3::prelude::*;

/// The classes of the package `mmapcache`, without its Python parts. Import `mmapcache` instead.
#[pymodule(gil_used = false)]
#[pyo3(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<map::MmapCache>()?;
    module.add_class::<map::entry::Entry>()?;
    module.add_class::<map::writer::Writer>()?;
    module.add_class::<cache::Cache>()?;
    module.add_class::<cache::entry::CacheEntry>()?;
    module.add_class::<cache::writer::CacheWriter>()?;
    module.add_class::<labels::Labels>()?;
    module.add_class::<store::Store>()?;
    module.add_class::<listing::Listing>()?;
    module.add_class::<sentinel::Sentinel>()?;
    module.add("KEEP", sentinel::Sentinel::keep(module.py())?)?;
    module.add("UNSET", sentinel::Sentinel::unset(module.py())?)?;
    module.add_function(wrap_pyfunction!(repair::repair, module)?)?;
    module.add_function(wrap_pyfunction!(repair::upgrade, module)?)?;
    Ok(())
}
