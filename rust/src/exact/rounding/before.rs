//! What the rounding estimate knows before the passes.

use crate::exact::alike::Trace;
use crate::exact::measures::Keys;

/// What the products before the passes lost, in units of u.
pub struct Inherited {
    /// Of each row's logits, by its own query, in natural units: scale · ‖a1_j‖ ‖W‖_F max ‖key‖.
    pub logits: Vec<f64>,
    /// Of a key, the same for all rows: max ‖a2‖ ‖W_K‖_F.
    pub keys: f64,
    /// Of a value: max ‖a3‖ ‖Y‖_F.
    pub values: f64,
}

/// What is known before the passes.
pub struct Before {
    /// The queries times scale · log2 e.
    pub queries: Vec<Trace>,
    /// ‖query‖ · max ‖key‖ of the keys that it sees.
    pub bound: Vec<f64>,
    /// How much keys and values are alike.
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
    /// Whether some queries do not see all keys.
    pub is_causal: bool,
    /// What is known of A3 and f A3, where pass 1 runs on A3 itself and o = (f A3) Y.
    pub mixed: Option<Mixed>,
}

/// Rows of A3 as values, and what their product with Y loses.
pub struct Mixed {
    /// With the keys, as [`Before::keys`].
    pub keys: Keys,
    /// The rows of f A3, and what their tags differ by where a product rounds them alike.
    pub outputs: Vec<Trace>,
    pub cell: f64,
    /// By how much Y can stretch an error, and what the product loses, in units of u, for a row of norm one.
    pub stretch: f64,
    pub lost: f64,
}
