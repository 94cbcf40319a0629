//! Inputs of the rounding estimate that are known before the passes.

use crate::exact::alike::Trace;
use crate::exact::measures::Keys;

/// Rounding errors of the products before the passes, in units of u.
pub struct Inherited {
    /// Of each row's logits, by its own query, in natural units: scale · ‖a1_j‖ ‖W‖_F max ‖key‖.
    pub logits: Vec<f64>,
    /// Of a key, the same for all rows: max ‖a2‖ ‖W_K‖_F.
    pub keys: f64,
    /// Of a value: max ‖a3‖ ‖Y‖_F.
    pub values: f64,
}

/// Data of the rounding estimate that are known before the passes.
pub struct Before {
    /// The queries times scale · log2 e.
    pub queries: Vec<Trace>,
    /// ‖query‖ · max ‖key‖ of the keys that it sees.
    pub bound: Vec<f64>,
    /// Sizes and likeness of keys and values.
    pub keys: Keys,
    pub inherited: Inherited,
    /// Columns of the keys and of the values.
    pub widths: [usize; 2],
    /// The keys, and how many are summed in working precision at a time.
    pub count: usize,
    pub block: usize,
    /// Keys of a strip.
    pub strip: usize,
    /// Whether c = o − E, and not given.
    pub is_target: bool,
    /// Whether numbers are added to the logits.
    pub is_biased: bool,
    /// Whether some queries do not see all keys.
    pub is_masked: bool,
    /// Statistics of A3 and f A3, where pass 1 runs on A3 itself and o = (f A3) Y.
    pub mixed: Option<Mixed>,
}

/// Rows of A3 as values, and the rounding error of their product with Y.
pub struct Mixed {
    /// With the keys, as [`Before::keys`].
    pub keys: Keys,
    /// The rows of f A3, and the difference of tags up to which a product rounds them alike.
    pub outputs: Vec<Trace>,
    pub cell: f64,
    /// Factor by which Y can stretch an error, and rounding error of the product, in units of u, for a row of norm one.
    pub stretch: f64,
    pub lost: f64,
}
