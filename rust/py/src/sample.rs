//! Balanced coordinates and sampled logits: see attngrad_rs.features.

use attngrad::Float;
use attngrad::features;
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyReadonlyArray2, ToPyArray};
use pyo3::prelude::*;

use crate::call::{self, Options, is_single};
use crate::errors::Result;
use crate::polynomial::Polynomial;

type Vector<'py> = Bound<'py, PyArray1<f64>>;
type Matrix<'py> = Bound<'py, PyArray2<f64>>;

/// A change of coordinates that makes queries and keys alike.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Balance(pub features::Balance);

#[pymethods]
impl Balance {
    fn queries<'py>(&self, py: Python<'py>, query: &Bound<'py, PyAny>, options: &Options) -> Result<Bound<'py, PyAny>> {
        in_precision!(is_single(query), T => self.change::<T>(py, query, true, options))
    }

    fn keys<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>, options: &Options) -> Result<Bound<'py, PyAny>> {
        in_precision!(is_single(key), T => self.change::<T>(py, key, false, options))
    }

    fn query_gradient<'py>(&self, py: Python<'py>, gradient: PyReadonlyArray2<'py, f64>) -> Matrix<'py> {
        self.0.query_gradient(gradient.as_array()).into_pyarray(py)
    }

    fn key_gradient<'py>(&self, py: Python<'py>, gradient: PyReadonlyArray2<'py, f64>) -> Matrix<'py> {
        self.0.key_gradient(gradient.as_array()).into_pyarray(py)
    }

    #[getter]
    pub fn scale(&self) -> f64 {
        self.0.scale
    }

    #[getter]
    fn sign(&self) -> f64 {
        self.0.sign()
    }

    #[getter]
    pub fn spectrum<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.spectrum.to_pyarray(py)
    }

    #[getter]
    pub fn query_mean<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.query_mean.to_pyarray(py)
    }

    #[getter]
    pub fn key_mean<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.key_mean.to_pyarray(py)
    }

    #[getter]
    pub fn query_map<'py>(&self, py: Python<'py>) -> Matrix<'py> {
        self.0.query_map.to_pyarray(py)
    }

    #[getter]
    pub fn key_map<'py>(&self, py: Python<'py>) -> Matrix<'py> {
        self.0.key_map.to_pyarray(py)
    }
}

impl Balance {
    fn change<'py, T: Element + Float>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        is_query: bool,
        options: &Options,
    ) -> Result<Bound<'py, PyAny>> {
        let rows = call::read::<T, _>(rows)?;
        let rows = rows.as_array();
        let (changed, _) = options
            .run(py, |options, _| if is_query { self.0.queries(rows, options) } else { self.0.keys(rows, options) })?;
        Ok(changed.into_pyarray(py).into_any())
    }
}

/// Sampled logits of centred queries and keys.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct LogitSample(features::LogitSample);

#[pymethods]
impl LogitSample {
    #[staticmethod]
    fn draw<'py>(
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        key: &Bound<'py, PyAny>,
        scale: f64,
        center_query: bool,
        seed: u64,
        options: &Options,
    ) -> Result<Self> {
        in_precision!(is_single(query), T => drawn::<T>(py, [query, key], scale, center_query, seed, options))
    }

    /// The polynomial of a kind.
    fn fit(&self, kind: &str, degree: usize) -> Result<Polynomial> {
        Ok(Polynomial(self.0.fit(kind.parse()?, degree)?))
    }

    /// The error of values that a polynomial gives.
    fn error(&self, polynomial: &Polynomial) -> f64 {
        self.0.error(&polynomial.0)
    }

    #[getter]
    fn balance(&self) -> Balance {
        Balance(self.0.balance().clone())
    }

    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.logits().to_pyarray(py)
    }

    #[getter]
    fn range(&self) -> (f64, f64) {
        self.0.range()
    }

    #[getter]
    fn interval(&self) -> (f64, f64) {
        self.0.interval()
    }

    #[getter]
    fn bound(&self) -> f64 {
        self.0.bound()
    }

    #[getter]
    fn spread(&self) -> f64 {
        self.0.spread()
    }

    #[getter]
    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
}

fn drawn<T: Element + Float>(
    py: Python<'_>,
    [query, key]: [&Bound<'_, PyAny>; 2],
    scale: f64,
    center_query: bool,
    seed: u64,
    options: &Options,
) -> Result<LogitSample> {
    let (query, key) = (call::read::<T, _>(query)?, call::read::<T, _>(key)?);
    let (query, key) = (query.as_array(), key.as_array());
    let (sample, _) = options
        .run(py, |options, watch| features::LogitSample::draw(query, key, scale, center_query, seed, options, watch))?;
    Ok(LogitSample(sample))
}
