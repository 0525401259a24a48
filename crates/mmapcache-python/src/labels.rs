//! `Labels`: strings, each with an id.

mod listings;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use mmapcache::LabelId;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::bytes_like::BytesLike;
use crate::errors;
use crate::handle::Handle;
use crate::keywords::Keywords;
use crate::listing::Listing;
use crate::open_options::OpenOptions;
use crate::reports;

/// Open labels.
struct Opened {
    labels: Arc<mmapcache::Labels>,
    options: OpenOptions,
}

/// Strings, each with an id that never means another one, in every process and after every restart: the
/// native part of `mmapcache.Labels`.
#[pyclass(frozen, subclass, weakref, module = "mmapcache._native")]
pub(crate) struct Labels(Handle<Opened>);

/// A label: `bytes`, or `str`, which stands for its UTF-8.
struct Label(Vec<u8>);

impl FromPyObject<'_, '_> for Label {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.cast::<PyString>() {
            Ok(text) => Ok(Self(text.to_str()?.as_bytes().to_vec())),
            Err(_) => Ok(Self(object.extract::<BytesLike<'_>>()?.as_bytes().to_vec())),
        }
    }
}

impl Labels {
    /// Calls the engine, without the interpreter: for what can wait for the lock, or takes long.
    fn write<T: Send>(
        &self,
        py: Python<'_>,
        call: impl Fn(&mmapcache::Labels) -> mmapcache::Result<T> + Send,
    ) -> PyResult<T> {
        self.0.with(py, |opened| {
            let labels = &*opened.labels;
            opened.options.patience.run(py, move || call(labels))
        })
    }

    /// Calls the engine, with the interpreter: for what is over in less time than releasing it takes.
    fn read<T>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mmapcache::Labels) -> mmapcache::Result<T>,
    ) -> PyResult<T> {
        self.0.with(py, |opened| {
            call(&opened.labels).map_err(|error| errors::to_python(py, error))
        })
    }
}

#[pymethods]
impl Labels {
    /// Opens nothing: `__init__` does, so that a subclass may have other arguments.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self(Handle::unopened())
    }

    #[pyo3(signature = (path, **options))]
    fn __init__(
        &self,
        py: Python<'_>,
        path: PathBuf,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let keywords = Keywords::new(options);
        let mut options = OpenOptions::take(&keywords)?;
        options.max_entries = keywords.take("max_entries")?;
        keywords.finish("Labels()")?;
        let engine = options.engine();
        let open = || mmapcache::Labels::open_with(&path, &engine);
        let labels = Arc::new(options.patience.run(py, open)?);
        reports::warn_of_losses(py, labels.last_recovery(), labels.path())?;
        self.0.open(Opened { labels, options });
        Ok(())
    }

    /// The path of the index, with all symbolic links resolved.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<OsString> {
        self.0
            .with(py, |opened| Ok(opened.labels.path().as_os_str().to_owned()))
    }

    /// Whether the handle is closed, or was never opened.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns the arguments that open such a handle again: the path, and the options.
    fn _arguments<'py>(&self, py: Python<'py>) -> PyResult<(OsString, Bound<'py, PyDict>)> {
        self.0.with(py, |opened| {
            opened.options.refuse_exclusive()?;
            let dict = opened.options.to_dict(py)?;
            dict.set_item("max_entries", opened.options.max_entries)?;
            Ok((opened.labels.path().as_os_str().to_owned(), dict))
        })
    }

    /// Returns the id of a label; assigns one if it has none.
    fn get_or_intern(&self, py: Python<'_>, label: Label) -> PyResult<u32> {
        // Most labels have an id, which needs no lock.
        let known = self.read(py, |labels| labels.get(&label.0))?;
        let id = match known {
            Some(id) => id,
            None => self.write(py, |labels| labels.get_or_intern(&label.0))?,
        };
        Ok(id.number())
    }

    /// Returns the ids of many labels, in their order; assigns ids to those that have none, under one
    /// lock.
    fn get_or_intern_many(&self, py: Python<'_>, labels: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        let all: Vec<Label> = labels
            .try_iter()?
            .map(|label| label?.extract())
            .collect::<PyResult<_>>()?;
        let ids = self.write(py, |labels| {
            labels.get_or_intern_many(all.iter().map(|Label(label)| label))
        })?;
        Ok(ids.into_iter().map(LabelId::number).collect())
    }

    /// Returns the id of a label, or `None` if it has none.
    fn get(&self, py: Python<'_>, label: Label) -> PyResult<Option<u32>> {
        let id = self.read(py, |labels| labels.get(&label.0))?;
        Ok(id.map(LabelId::number))
    }

    /// Returns the label of an id, or `None` if no label has it.
    fn resolve<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let label = self.read(py, |labels| labels.resolve(LabelId::new(id)))?;
        Ok(label.map(|label| PyBytes::new(py, &label)))
    }

    /// Returns the label of an id as text, or `None`. A label that is not UTF-8 is a
    /// `UnicodeDecodeError`.
    fn resolve_str<'py>(&self, py: Python<'py>, id: u32) -> PyResult<Option<Bound<'py, PyAny>>> {
        let label = self.resolve(py, id)?;
        label.map(|label| label.call_method0("decode")).transpose()
    }

    fn __contains__(&self, py: Python<'_>, label: Label) -> PyResult<bool> {
        self.read(py, |labels| labels.contains(&label.0))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.with(py, |opened| Ok(opened.labels.len() as usize))
    }

    /// Returns an iterator over pairs of id and label, in the order of the ids.
    fn __iter__(&self, py: Python<'_>) -> PyResult<Listing> {
        let labels = Arc::clone(&self.0.share(py)?.labels);
        let source = py.detach(|| listings::list(labels));
        let source = source.map_err(|error| errors::to_python(py, error))?;
        Ok(Listing::new(source))
    }

    /// Syncs everything to the disk.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, mmapcache::Labels::flush)
    }

    /// Returns the bytes that the files take on the disk.
    fn disk_usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let usage = self.write(py, mmapcache::Labels::disk_usage)?;
        reports::disk_usage(py, &usage)
    }

    /// Copies the labels to another path, where there are none, while others intern. Returns what was
    /// copied.
    fn backup<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
        let report = self.write(py, |labels| labels.backup().to(&path))?;
        reports::backup(py, &report)
    }

    /// Verifies index, records and ids. Returns what was found; `problems` is empty if all is well.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.write(py, |labels| labels.verify().run())?;
        reports::verify(py, &report)
    }

    /// What the last recovery by this handle found and lost; `None` if it made none.
    #[getter]
    fn last_recovery<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let recovery = self
            .0
            .with(py, |opened| Ok(opened.labels.last_recovery()))?;
        recovery
            .map(|recovery| reports::recovery(py, &recovery))
            .transpose()
    }

    /// Closes the handle; closing it again does nothing. Iterators keep the files open until they go.
    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        match slf.get().0.is_closed() {
            true => Err(errors::closed(slf.py())),
            false => Ok(slf.clone()),
        }
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}
