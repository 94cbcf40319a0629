//! The options of features and factors, checked at the door.

use crate::error::Error;
use crate::polynomial::{Kind, MAX_DEGREE};

/// Degree without a tolerance.
const DEFAULT_DEGREE: usize = 2;

/// Features of a row in single precision that take 80 kB: 5 GB for 65536 rows.
const DEFAULT_FEATURES: usize = 20_000;

/// Options of [`super::ExpFeatures::fit`] and [`crate::factors()`].
///
/// ```
/// use attngrad::features::FeatureOptions;
/// use attngrad::polynomial::Kind;
///
/// let options = FeatureOptions { rtol: Some(1e-3), kind: Kind::MinimaxRelative, ..FeatureOptions::default() };
/// assert_eq!((options.degree, options.max_features), (None, 20_000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureOptions {
    /// Degree g of the polynomial; the smallest that meets `rtol` if it is not given, 2 without either.
    pub degree: Option<usize>,
    /// The error to stay below, eq. (10.7): measured on all pairs up to 256 rows on a side, beyond that estimated from
    /// sampled ones that have to stay a fifth below.
    pub rtol: Option<f64>,
    /// s; 1/√d for features, the problem's own for factors.
    pub scale: Option<f64>,
    /// Kind of polynomial: least squares has the smallest measured error, relative minimax the smallest bound.
    pub kind: Kind,
    /// The most features N.
    pub max_features: usize,
    /// Whether monomials are chosen by what they are expected to contribute, instead of all up to the degree: for data
    /// whose variance is concentrated in few directions.
    pub anisotropic: bool,
    /// Seed of the sample.
    pub seed: u64,
}

impl Default for FeatureOptions {
    fn default() -> Self {
        FeatureOptions {
            degree: None,
            rtol: None,
            scale: None,
            kind: Kind::LeastSquares,
            max_features: DEFAULT_FEATURES,
            anisotropic: false,
            seed: 0,
        }
    }
}

/// Which size of a polynomial is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Size {
    Degree(usize),
    Tolerance(f64),
    Both(usize, f64),
}

impl Size {
    pub fn degree(self) -> Option<usize> {
        match self {
            Size::Degree(degree) | Size::Both(degree, _) => Some(degree),
            Size::Tolerance(_) => None,
        }
    }

    pub fn tolerance(self) -> Option<f64> {
        match self {
            Size::Tolerance(rtol) | Size::Both(_, rtol) => Some(rtol),
            Size::Degree(_) => None,
        }
    }
}

impl FeatureOptions {
    /// The size that is asked for.
    pub(super) fn size(&self) -> Result<Size, Error> {
        let refuse = |option, found: String, wanted: String| Err(Error::Option { option, found, wanted });
        if let Some(degree) = self.degree.filter(|&degree| degree > MAX_DEGREE) {
            return refuse("degree", degree.to_string(), format!("0 to {MAX_DEGREE}"));
        }
        if let Some(rtol) = self.rtol.filter(|rtol| !(rtol.is_finite() && *rtol >= 0.0)) {
            return refuse("rtol", rtol.to_string(), "a finite number, 0 or more".into());
        }
        if self.max_features == 0 {
            return refuse(
                "max_features",
                "0".into(),
                "1 or more: an empty set of monomials stands for nothing".into(),
            );
        }
        Ok(match (self.degree, self.rtol) {
            (None, None) => Size::Degree(DEFAULT_DEGREE),
            (Some(degree), None) => Size::Degree(degree),
            (None, Some(rtol)) => Size::Tolerance(rtol),
            (Some(degree), Some(rtol)) => Size::Both(degree, rtol),
        })
    }
}
