//! Features, their index sets and coordinates, and sampled logits: see attngrad_rs.features.

use attngrad::Float;
use attngrad::features::{self, FeatureOptions};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, ToPyArray};
use pyo3::prelude::*;

use crate::call::{self, Options, is_single};
use crate::errors::Result;
use crate::polynomial::Polynomial;
use crate::sample::Balance;

type Vector<'py> = Bound<'py, PyArray1<f64>>;

/// A downward-closed set of multi-indices.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct IndexSet(features::IndexSet);

#[pymethods]
impl IndexSet {
    #[staticmethod]
    fn total_degree(dimension: usize, degree: usize) -> Result<Self> {
        Ok(IndexSet(features::IndexSet::total_degree(dimension, degree)?))
    }

    #[staticmethod]
    fn anisotropic(spectrum: Vec<f64>, degree: usize, max_features: usize) -> Result<Self> {
        Ok(IndexSet(features::IndexSet::anisotropic(&spectrum, degree, max_features)?))
    }

    #[staticmethod]
    fn from_exponents(exponents: PyReadonlyArray2<'_, u32>) -> Result<Self> {
        Ok(IndexSet(features::IndexSet::from_exponents(exponents.as_array())?))
    }

    fn monomials<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        options: &Options,
    ) -> Result<Bound<'py, PyAny>> {
        in_precision!(is_single(rows), T => self.powers_of::<T>(py, rows, options))
    }

    #[getter]
    fn dimension(&self) -> usize {
        self.0.dimension()
    }

    #[getter]
    fn degree(&self) -> usize {
        self.0.degree()
    }

    #[getter]
    fn exponents<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyArray2<u32>>> {
        Ok(self.0.exponents()?.into_pyarray(py))
    }

    #[getter]
    fn multinomials<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.multinomials().to_pyarray(py)
    }

    fn __len__(&self) -> usize {
        self.0.count()
    }
}

impl IndexSet {
    fn powers_of<'py, T: Element + Float>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        options: &Options,
    ) -> Result<Bound<'py, PyAny>> {
        let rows = call::read::<T, _>(rows)?;
        let rows = rows.as_array();
        let (powers, _) = options.run(py, |options, watch| self.0.monomials(rows, options, watch))?;
        Ok(powers.into_pyarray(py).into_any())
    }
}

/// The request for features and factors.
#[pyclass(frozen, module = "attngrad_rs._core")]
#[derive(Clone, Copy)]
pub struct FeatureRequest(pub FeatureOptions);

#[pymethods]
impl FeatureRequest {
    #[new]
    #[pyo3(signature = (*, degree, rtol, scale, kind, max_features, anisotropic, seed))]
    fn new(
        degree: Option<usize>,
        rtol: Option<f64>,
        scale: Option<f64>,
        kind: &str,
        max_features: usize,
        anisotropic: bool,
        seed: u64,
    ) -> Result<Self> {
        let kind = kind.parse()?;
        Ok(FeatureRequest(FeatureOptions { degree, rtol, scale, kind, max_features, anisotropic, seed }))
    }
}

/// Features that were fitted to queries and keys.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct ExpFeatures(attngrad::ExpFeatures);

/// scale, query_mean, key_mean, query_map, key_map, spectrum.
type BalanceParts<'py> = (
    f64,
    PyReadonlyArray1<'py, f64>,
    PyReadonlyArray1<'py, f64>,
    PyReadonlyArray2<'py, f64>,
    PyReadonlyArray2<'py, f64>,
    PyReadonlyArray1<'py, f64>,
);

#[pymethods]
impl ExpFeatures {
    #[staticmethod]
    fn fit<'py>(
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        key: &Bound<'py, PyAny>,
        request: &FeatureRequest,
        options: &Options,
    ) -> Result<Self> {
        in_precision!(is_single(query), T => fitted::<T>(py, [query, key], request, options))
    }

    /// The way back from a pickle.
    #[staticmethod]
    fn from_parts(
        balance: BalanceParts<'_>,
        exponents: PyReadonlyArray2<'_, u32>,
        polynomial: &Polynomial,
        interval: (f64, f64),
        error: f64,
    ) -> Result<Self> {
        let (scale, query_mean, key_mean, query_map, key_map, spectrum) = balance;
        let balance = features::Balance {
            scale,
            query_mean: query_mean.as_array().to_owned(),
            key_mean: key_mean.as_array().to_owned(),
            query_map: query_map.as_array().to_owned(),
            key_map: key_map.as_array().to_owned(),
            spectrum: spectrum.as_array().to_owned(),
        };
        let set = features::IndexSet::from_exponents(exponents.as_array())?;
        let polynomial = polynomial.0.clone();
        Ok(ExpFeatures(attngrad::ExpFeatures::from_parts(balance, set, polynomial, interval, error)?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (py, this) = (slf.py(), slf.get());
        let balance = Balance(this.0.balance().clone());
        let parts = (
            balance.scale(),
            balance.query_mean(py),
            balance.key_mean(py),
            balance.query_map(py),
            balance.key_map(py),
            balance.spectrum(py),
        );
        let exponents = this.0.index_set().exponents().map_err(crate::errors::Failure::from)?.into_pyarray(py);
        let state = (parts, exponents, this.polynomial(), this.0.interval(), this.0.error());
        Ok((slf.get_type().getattr("from_parts")?, state.into_pyobject(py)?.into_any()))
    }

    #[staticmethod]
    fn fit_bytes(rows: usize) -> u128 {
        attngrad::ExpFeatures::fit_bytes(rows)
    }

    fn transform_query<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        options: &Options,
    ) -> Result<Bound<'py, PyAny>> {
        in_precision!(is_single(query), T => self.transform::<T>(py, query, true, options))
    }

    fn transform_key<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        options: &Options,
    ) -> Result<Bound<'py, PyAny>> {
        in_precision!(is_single(key), T => self.transform::<T>(py, key, false, options))
    }

    fn transform_bytes(&self, rows: usize, itemsize: usize) -> u128 {
        self.0.transform_bytes(rows, itemsize)
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.count()
    }

    #[getter]
    fn error(&self) -> f64 {
        self.0.error()
    }

    #[getter]
    fn bound(&self) -> f64 {
        self.0.bound()
    }

    #[getter]
    fn interval(&self) -> (f64, f64) {
        self.0.interval()
    }

    #[getter]
    fn polynomial(&self) -> Polynomial {
        Polynomial(self.0.polynomial().clone())
    }

    #[getter]
    fn balance(&self) -> Balance {
        Balance(self.0.balance().clone())
    }

    #[getter]
    fn index_set(&self) -> IndexSet {
        IndexSet(self.0.index_set().clone())
    }
}

fn fitted<T: Element + Float>(
    py: Python<'_>,
    [query, key]: [&Bound<'_, PyAny>; 2],
    request: &FeatureRequest,
    options: &Options,
) -> Result<ExpFeatures> {
    let (query, key) = (call::read::<T, _>(query)?, call::read::<T, _>(key)?);
    let (query, key) = (query.as_array(), key.as_array());
    let fit = |options: &_, watch: Option<attngrad::Watch<'_>>| {
        attngrad::ExpFeatures::fit(query, key, &request.0, options, watch)
    };
    Ok(ExpFeatures(options.run(py, fit)?.0))
}

impl ExpFeatures {
    fn transform<'py, T: Element + Float>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        is_query: bool,
        options: &Options,
    ) -> Result<Bound<'py, PyAny>> {
        let rows = call::read::<T, _>(rows)?;
        let rows = rows.as_array();
        let (found, _) = options.run(py, |options, watch| {
            if is_query {
                self.0.transform_query(rows, options, watch)
            } else {
                self.0.transform_key(rows, options, watch)
            }
        })?;
        Ok(found.into_pyarray(py).into_any())
    }
}
